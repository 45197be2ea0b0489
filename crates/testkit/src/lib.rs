//! Real servers for tests: replica sets, failpoints, Prometheus, Alertmanager, and a matcher for scrapes.
//!
//! Whatever is started here listens on 127.0.0.1, on a port that is reserved for it, keeps its data in a temporary
//! folder, and dies with the process that started it, however that dies.

mod alertmanager;
pub mod amtool;
mod binaries;
mod corruption;
mod failpoint;
pub mod fake_member;
mod listens;
mod mongod;
mod port;
mod process;
mod prometheus;
pub mod promtool;
mod proxy;
mod replica_set;
mod scrape;
pub mod wait;

pub use alertmanager::Alertmanager;
pub use binaries::{Binary, workspace};
pub use corruption::assert_no_panic;
pub use failpoint::FailPoint;
pub use fake_member::FakeMember;
pub use mongod::{Mongod, MongodOptions};
pub use port::Port;
pub use process::Process;
pub use prometheus::{Prometheus, Sample, ScrapeJob};
pub use proxy::{Proxy, ProxyMode};
pub use replica_set::{ReplicaSet, ReplicaSetOptions};
pub use rustix::process::Signal;
pub use scrape::{Family, Kind, Scrape, ScrapeError, Series};
