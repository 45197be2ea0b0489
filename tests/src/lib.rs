//! What the end-to-end suites and the demo share: clients of the reference backend, load on it, what a process
//! costs, and the check of queries against the catalogue.

pub mod client;
pub mod load;
pub mod measure;
pub mod promql;
pub mod table;
