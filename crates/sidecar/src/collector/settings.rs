//! Settings of the collectors.

use std::time::Duration;

use txnscope_catalog::COLLECTORS;

use crate::live::LiveStore;

/// Settings of all collectors. `server_status` cannot be disabled: it determines whether a member is up.
///
/// ```
/// let mut settings = txnscope_sidecar::CollectorSettings::default();
/// settings.profile.enabled = true;
/// settings.profile.databases = vec!["shop".to_owned()];
/// assert!(settings.validate().is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectorSettings {
    /// Collector `current_op`: age and waits of open transactions, from `$currentOp`.
    pub current_op: CurrentOpSettings,
    /// Collector `storage_engine`: write conflicts and tickets, a part of `serverStatus` that is too large for
    /// every poll.
    pub storage_engine: StorageEngineSettings,
    /// Collector `replication`: lag, states, elections and the oplog window.
    pub replication: ReplicationSettings,
    /// Collector `parameters`: the server's limit on the lifetime of transactions.
    pub parameters: ParameterSettings,
    /// Collector `profile`: slow operations from the profiler. Off by default.
    pub profile: ProfileSettings,
    /// Collector `slow_transactions`: slow transactions from the server's log. Off by default.
    pub slow_transactions: SlowTransactionSettings,
    /// Collector `open_by_operation`: open transactions by the backend's operation. Off unless backends are set.
    pub open_by_operation: OpenByOperationSettings,
    /// Where the collector `live` puts its model. It exports no metrics, and runs only if this is set.
    pub(crate) live: Option<LiveStore>,
}

/// Settings of the collector `open_by_operation`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenByOperationSettings {
    /// The URLs of the backends' tables, such as `http://127.0.0.1:3000/-/transactions`.
    pub backends: Vec<String>,
}

/// Settings of the collector `current_op`, which follows the status and adapts its interval to its cost for the
/// server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentOpSettings {
    /// Whether the collector runs.
    pub enabled: bool,
    /// The age from which a transaction counts as long-running, and is logged once.
    pub long_running: Duration,
}

impl Default for CurrentOpSettings {
    /// On, with half of the server's default lifetime limit as threshold.
    fn default() -> Self {
        Self { enabled: true, long_running: Duration::from_secs(30) }
    }
}

macro_rules! interval_settings {
    ($(#[$doc:meta])* $name:ident, enabled: $enabled:literal, interval: $seconds:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            /// Whether the collector runs.
            pub enabled: bool,
            /// The time between two polls of the collector. One below the poll interval means every poll.
            pub interval: Duration,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { enabled: $enabled, interval: Duration::from_secs($seconds) }
            }
        }
    };
}

interval_settings!(
    /// Settings of the collector `storage_engine`. On, every 15 seconds: the reply has 25 kB.
    StorageEngineSettings, enabled: true, interval: 15
);
interval_settings!(
    /// Settings of the collector `replication`. On, every 5 seconds.
    ReplicationSettings, enabled: true, interval: 5
);
interval_settings!(
    /// Settings of the collector `parameters`. On, every minute: parameters rarely change.
    ParameterSettings, enabled: true, interval: 60
);
interval_settings!(
    /// Settings of the collector `slow_transactions`. Off; every 30 seconds, since a reply may have a megabyte.
    SlowTransactionSettings, enabled: false, interval: 30
);

/// Settings of the collector `profile`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileSettings {
    /// Whether the collector runs. It never turns the profiler on; the DBA does.
    pub enabled: bool,
    /// The time between two reads of the profiler's collections. One below the poll interval means every poll.
    pub interval: Duration,
    /// The databases whose `system.profile` is read.
    pub databases: Vec<String>,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        Self { enabled: false, interval: Duration::from_secs(10), databases: Vec::new() }
    }
}

/// The bounds of each interval and threshold.
const BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

impl CollectorSettings {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// A sentence with the setting, its value, and the values that are accepted.
    pub fn validate(&self) -> Result<(), String> {
        let Self {
            current_op,
            storage_engine,
            replication,
            parameters,
            profile,
            slow_transactions,
            open_by_operation,
            live: _,
        } = self;
        let intervals = [
            ("storage_engine", storage_engine.interval),
            ("replication", replication.interval),
            ("parameters", parameters.interval),
            ("profile", profile.interval),
            ("slow_transactions", slow_transactions.interval),
        ];
        for (name, interval) in intervals {
            debug_assert!(COLLECTORS.contains(&name));
            if !BOUNDS.contains(&interval) {
                return Err(format!(
                    "the interval of the collector {name} is {interval:?}: use a value from 100ms to 24h"
                ));
            }
        }
        if !BOUNDS.contains(&current_op.long_running) {
            let given = current_op.long_running;
            return Err(format!(
                "the threshold for long-running transactions is {given:?}: use a value from 100ms to 24h"
            ));
        }
        for (index, url) in open_by_operation.backends.iter().enumerate() {
            backend(url).map_err(|wrong| {
                format!(
                    "the backend no. {} {wrong}: use a URL such as http://127.0.0.1:3000/-/transactions",
                    index + 1
                )
            })?;
        }
        databases(profile)
    }
}

/// The URL is not repeated in the error: it may contain a password.
fn backend(url: &str) -> Result<(), &'static str> {
    let url: axum::http::Uri = url.parse().map_err(|_| "is no URL")?;
    let authority = url.authority().ok_or("names no host")?;
    match url.scheme_str() {
        _ if authority.as_str().contains('@') || url.path().contains('@') => {
            Err("has a user in its URL, which is not sent")
        }
        Some("http") => Ok(()),
        _ => Err("is not reached by plain http"),
    }
}

fn databases(profile: &ProfileSettings) -> Result<(), String> {
    if profile.enabled && profile.databases.is_empty() {
        return Err(
            "the collector profile is on and has no databases: name those whose profiler is on".to_owned()
        );
    }
    for (index, name) in profile.databases.iter().enumerate() {
        // The server's own rules for database names.
        if name.is_empty() || name.len() > 63 || name.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
            return Err(format!(
                "the database no. {} of the collector profile has a name that the server does not allow",
                index + 1
            ));
        }
        if profile.databases[..index].contains(name) {
            return Err(format!("the collector profile names the database no. {} twice", index + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_settings_are_valid_and_optional_collectors_are_off() {
        let settings = CollectorSettings::default();
        assert_eq!(settings.validate(), Ok(()));
        assert!(!settings.profile.enabled && !settings.slow_transactions.enabled);
    }

    #[test]
    fn invalid_settings_are_rejected_by_name() {
        let refused = |change: fn(&mut CollectorSettings)| {
            let mut settings = CollectorSettings::default();
            change(&mut settings);
            settings.validate().expect_err("it cannot be")
        };
        let short = refused(|s| s.replication.interval = Duration::from_millis(99));
        assert!(short.contains("collector replication is 99ms: use a value from 100ms"), "{short}");
        assert!(refused(|s| s.profile.interval = Duration::from_secs(86_401)).contains("collector profile"));
        assert!(refused(|s| s.current_op.long_running = Duration::ZERO).contains("long-running"));
        assert!(refused(|s| s.profile.enabled = true).contains("no databases"));
        let invalid = refused(|s| s.profile.databases = vec!["hunter2.b".into()]);
        assert!(invalid.contains("database no. 1") && !invalid.contains("hunter2"), "{invalid}");
        for (url, wrong) in [
            ("127.0.0.1:3000", "plain http"),
            ("/-/transactions", "no host"),
            ("https://shop/", "plain http"),
            ("http://u:s3cret@shop/", "a user"),
            ("http://a b/", "no URL"),
        ] {
            let mut settings = CollectorSettings::default();
            settings.open_by_operation.backends = vec![url.to_owned()];
            let refused = settings.validate().expect_err(url);
            assert!(refused.contains(wrong) && !refused.contains("s3cret"), "{url}: {refused}");
        }
        assert!(refused(|s| s.profile.databases = vec!["a".into(), "a".into()]).contains("twice"));
    }
}
