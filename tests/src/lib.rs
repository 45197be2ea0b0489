//! What the end-to-end suites and the demo share: clients of the reference backend, and load on it.

pub mod client;
pub mod load;
