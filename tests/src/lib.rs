//! Code shared by the end-to-end suites, the tools and the benchmarks: clients of the reference backend, load on it,
//! resource usage of processes, and the check of queries against the catalog.

pub mod client;
pub mod load;
pub mod measure;
pub mod promql;
pub mod table;
