//! What to watch, how often, and where to serve it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::StartError;
use crate::source::SourceSettings;

/// The port that the sidecar listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 9917;

/// How a sidecar is started. [`Config::new`] has a default for everything but the URI.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The deployment, in MongoDB's form. Every member of its replica set is found from it, unless it says
    /// `directConnection=true`: then this one member is watched, under the address that stands here.
    pub uri: String,
    /// Where to serve; port 0 takes any free one.
    pub listen_address: SocketAddr,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// How often a source asks a member, if it has no slower pace of its own.
    pub poll_interval: Duration,
    /// How long a member may take to answer. What takes longer has failed.
    pub poll_timeout: Duration,
    /// Which sources are asked, and how.
    pub sources: SourceSettings,
}

impl Config {
    /// Watches that deployment, every five seconds, and serves `127.0.0.1:9917/metrics`.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            listen_address: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into(),
            telemetry_path: "/metrics".to_owned(),
            poll_interval: Duration::from_secs(5),
            poll_timeout: Duration::from_secs(3),
            sources: SourceSettings::default(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), StartError> {
        if !is_telemetry_path(&self.telemetry_path) {
            return Err(StartError::TelemetryPath(self.telemetry_path.clone()));
        }
        for (name, duration) in [("interval", self.poll_interval), ("timeout", self.poll_timeout)] {
            if !(Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&duration) {
                return Err(StartError::Duration { name, duration });
            }
        }
        self.sources.validate().map_err(StartError::Sources)
    }
}

/// Letters, digits and `_.-` between slashes; neither the landing page nor one of the probes.
fn is_telemetry_path(path: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "-"
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

/// Without the URI, which may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri: _, listen_address, telemetry_path, poll_interval, poll_timeout, sources } = self;
        f.debug_struct("Config")
            .field("listen_address", listen_address)
            .field("telemetry_path", telemetry_path)
            .field("poll_interval", poll_interval)
            .field("poll_timeout", poll_timeout)
            .field("sources", sources)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_in_the_debug_form() {
        let config = Config::new("mongodb://user:hunter2@db1/");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn paths_that_the_router_would_misread_are_refused() {
        for good in ["/metrics", "/mongodb/metrics", "/m_1.txt"] {
            assert!(is_telemetry_path(good), "{good}");
        }
        for bad in ["", "/", "metrics", "/-/healthy", "/a//b", "/metrics/", "/{path}", "/a b", "/*"] {
            assert!(!is_telemetry_path(bad), "{bad}");
        }
    }

    #[test]
    fn intervals_have_bounds() {
        let mut config = Config::new("mongodb://db1/");
        assert!(config.validate().is_ok());
        config.poll_interval = Duration::ZERO;
        assert!(config.validate().unwrap_err().to_string().contains("interval"));
    }
}
