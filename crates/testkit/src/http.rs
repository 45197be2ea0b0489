//! HTTP clients of tests.

use std::time::Duration;

/// A client that closes a connection which has been idle for a second. By default it would keep it for longer than servers
/// do, and a request over a connection that the server is just closing fails.
#[must_use]
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(1)).build().unwrap_or_default()
}
