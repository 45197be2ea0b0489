//! Real servers for tests: replica sets, failpoints, Prometheus, Alertmanager, and a matcher for scrapes.
//!
//! Everything that is started here listens on 127.0.0.1 on a reserved port, stores its data in a temporary folder,
//! and ends with the process that started it, even if that is killed.

mod alertmanager;
pub mod amtool;
mod binaries;
mod browser;
mod corruption;
mod failpoint;
pub mod fake_member;
mod http;
mod listens;
mod mongod;
mod node_backend;
mod port;
mod process;
mod prometheus;
pub mod promtool;
mod proxy;
mod recycled;
mod replica_set;
mod scrape;
pub mod wait;

pub use alertmanager::Alertmanager;
pub use binaries::{Binary, workspace};
pub use browser::browser_script;
pub use corruption::assert_no_panic;
pub use failpoint::FailPoint;
pub use fake_member::FakeMember;
pub use http::http_client;
pub use mongod::{Mongod, MongodOptions};
pub use node_backend::{NodeBackend, race_with_axios};
pub use port::Port;
pub use process::Process;
pub use prometheus::{Prometheus, Sample, ScrapeJob};
pub use proxy::{Proxy, ProxyMode};
pub use recycled::RecycledSet;
pub use replica_set::{ReplicaSet, ReplicaSetOptions};
pub use rustix::process::Signal;
pub use scrape::{Family, Kind, Scrape, ScrapeError, Series};
