//! A draft of an operations file, from what passes.

use http::{Method, StatusCode};

/// Learns.
#[derive(Debug, Default)]
pub struct Learner {}

impl Learner {
    pub(crate) fn learn(&self, _: &Method, _: &str, _: StatusCode, _: Option<&[u8]>) {}
}
