//! Configuration: deployments to monitor, intervals, and listen addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use txnscope_checks::Checks;

use crate::collector::CollectorSettings;
use crate::error::StartError;
use crate::poller::PollTiming;
use crate::target::Target;
use txnscope_mongo::Credentials;

/// The port that the sidecar listens on by default.
pub const DEFAULT_PORT: u16 = 9917;

/// Configuration of a sidecar. [`Config::new`] has a default for everything but the deployment.
///
/// The `Debug` form contains no secrets.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Deployments that are monitored all the time. Their members share one metrics page.
    pub targets: Vec<Target>,
    /// Deployments that are monitored on demand, while `/probe?target=` is requested with these names.
    pub probes: BTreeMap<String, Target>,
    /// Credentials that a probe can select with `&auth_module=`, by name.
    pub auth_modules: BTreeMap<String, Credentials>,
    /// A probed deployment without a request for this long is no longer monitored.
    pub probe_idle_timeout: Duration,
    /// Listen addresses; port 0 takes any free port.
    pub listen_addresses: Vec<SocketAddr>,
    /// Listen on the sockets that systemd passes, and on no address.
    pub systemd_socket: bool,
    /// The path of the metrics page.
    pub telemetry_path: String,
    /// The web configuration file (TLS and users), in the format of Prometheus's exporter toolkit.
    pub web_config_file: Option<PathBuf>,
    /// The maximum number of concurrent requests, and of concurrent probes; more get 503. 0: no limit.
    pub max_requests: usize,
    /// Host names that requests may use, besides addresses and `localhost`. If empty, every name is allowed on
    /// listen addresses that other machines can reach, and none on loopback addresses.
    pub allowed_hosts: Vec<String>,
    /// The time between two polls of a member. A collector with a longer interval of its own keeps that
    /// interval.
    pub poll_interval: Duration,
    /// The timeout of a poll.
    pub poll_timeout: Duration,
    /// Settings of the collectors.
    pub collectors: CollectorSettings,
    /// Checks to run on the data of each target, each at its interval; none by default. They do not run on
    /// probed deployments.
    pub checks: Option<Checks>,
    /// The commit that the program was built from, for `txnscope_build_info`; empty if unknown.
    pub revision: &'static str,
}

impl Config {
    /// Monitors one deployment, every five seconds, and serves `127.0.0.1:9917/metrics`.
    #[must_use]
    pub fn new(target: impl Into<Target>) -> Self {
        Self { targets: vec![target.into()], ..Self::default() }
    }

    pub(crate) fn timing(&self) -> PollTiming {
        PollTiming { interval: self.poll_interval, timeout: self.poll_timeout }
    }

    pub(crate) fn validate(&self) -> Result<(), StartError> {
        if self.targets.is_empty() && self.probes.is_empty() {
            return Err(StartError::NoTarget);
        }
        if self.targets.is_empty() && self.checks.is_some() {
            return Err(StartError::NothingToCheck);
        }
        if self.listen_addresses.is_empty() && !self.systemd_socket {
            return Err(StartError::NoAddress);
        }
        if !is_telemetry_path(&self.telemetry_path) {
            return Err(StartError::TelemetryPath);
        }
        if !self.allowed_hosts.iter().all(|host| is_name(host)) {
            return Err(StartError::AllowedHost);
        }
        if !self.probes.keys().chain(self.auth_modules.keys()).all(|name| is_name(name)) {
            return Err(StartError::Name);
        }
        for (name, duration, least) in [
            ("poll interval", self.poll_interval, Duration::from_millis(50)),
            ("poll timeout", self.poll_timeout, Duration::from_millis(50)),
            ("probe idle timeout", self.probe_idle_timeout, Duration::from_secs(1)),
        ] {
            let most = Duration::from_secs(24 * 3600);
            if !(least..=most).contains(&duration) {
                return Err(StartError::Duration { name, duration, least, most });
            }
        }
        self.collectors.validate().map_err(StartError::Settings)
    }
}

impl Default for Config {
    /// A configuration without deployments.
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            probes: BTreeMap::new(),
            auth_modules: BTreeMap::new(),
            probe_idle_timeout: Duration::from_secs(300),
            listen_addresses: vec![(Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()],
            systemd_socket: false,
            telemetry_path: "/metrics".to_owned(),
            web_config_file: None,
            max_requests: 40,
            allowed_hosts: Vec::new(),
            poll_interval: Duration::from_secs(5),
            poll_timeout: Duration::from_secs(3),
            collectors: CollectorSettings::default(),
            checks: None,
            revision: "",
        }
    }
}

/// Whether a text is a valid name of a target or an auth module (`[A-Za-z0-9_.-]+`), which a query can carry
/// unescaped.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Letters, digits and `_.-` between slashes; none of the built-in paths.
fn is_telemetry_path(path: &str) -> bool {
    let segment = |segment: &str| segment != "-" && is_name(segment);
    let is_built_in = path == "/probe" || path == "/live" || path.starts_with("/live/");
    !is_built_in && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_debug_output_has_no_password() {
        let mut config = Config::new("mongodb://user:hunter2@db1/");
        config.probes.insert("orders".into(), Target::new("mongodb://user:hunter2@db2/"));
        config.auth_modules.insert("monitor".into(), Credentials::new("user", "hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn invalid_telemetry_path_is_rejected() {
        for good in ["/metrics", "/mongodb/metrics", "/m_1.txt", "/probe/metrics"] {
            assert!(is_telemetry_path(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "metrics",
            "/-/healthy",
            "/a//b",
            "/metrics/",
            "/{path}",
            "/a b",
            "/*",
            "/probe",
            "/live",
            "/live/events",
        ] {
            assert!(!is_telemetry_path(bad), "{bad}");
        }
    }

    #[test]
    fn poll_interval_bounds_and_missing_target_are_validated() {
        let mut config = Config::new("mongodb://db1/");
        assert!(config.validate().is_ok());
        config.poll_interval = Duration::ZERO;
        assert!(config.validate().unwrap_err().to_string().contains("interval"));
        assert!(matches!(Config::default().validate(), Err(StartError::NoTarget)));
    }

    #[test]
    fn checks_without_a_permanent_target_are_rejected() {
        let mut config = Config::default();
        config.probes.insert("orders".into(), Target::new("mongodb://db2/"));
        assert!(config.validate().is_ok());
        let text = "[[check]]\nname = \"a\"\nseverity = \"info\"\ndatabase = \"d\"\ncollection = \"c\"\nforbid = '{}'";
        config.checks = Some(Checks::parse(text).unwrap());
        assert!(matches!(config.validate(), Err(StartError::NothingToCheck)));
    }

    #[test]
    fn target_and_auth_module_names_are_validated() {
        let mut config = Config::new("mongodb://db1/");
        config.probes.insert("orders-1.eu_west".into(), Target::new("mongodb://db2/"));
        assert!(config.validate().is_ok());
        config.auth_modules.insert("a&b".into(), Credentials::new("user", "hunter2"));
        assert!(matches!(config.validate(), Err(StartError::Name)));
    }
}
