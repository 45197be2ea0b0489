//! A backend on Express and Mongoose, `examples/node-backend`, with everything of txnscope that it can have: the proxy, the
//! sidecar, the races, the checks, and its own counters.

mod counting;
mod environment;
mod metrics_page;
mod races;
mod tutorial;
mod verify;
