//! Which collectors are asked, how often, and from when on something is reported.

use std::time::Duration;

use txnscope_catalog::COLLECTORS;

/// The settings of all collectors. The status is always asked: it says whether the member is up.
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
    /// `$currentOp`: what is open, since when, and what it waits for.
    pub current_op: CurrentOpSettings,
    /// Write conflicts and tickets: a part of `serverStatus` that is too heavy for every poll.
    pub storage_engine: StorageEngineSettings,
    /// Lag, states and elections of the replica set, and the oplog's window.
    pub replication: ReplicationSettings,
    /// The server's limit on the life of a transaction.
    pub parameters: ParameterSettings,
    /// Slow operations from the profiler. Off until asked for.
    pub profile: ProfileSettings,
    /// Slow transactions from the server's log. Off until asked for.
    pub slow_transactions: SlowTransactionSettings,
    /// Open transactions by the operation of the backend that began them. Off until a backend is named.
    pub open_by_operation: OpenByOperationSettings,
}

/// Settings of the join with the backends' own tables of open transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenByOperationSettings {
    /// Where the backends serve their tables: `http://127.0.0.1:3000/-/transactions`.
    pub backends: Vec<String>,
}

/// Settings of `$currentOp`, which follows the status and sets its own pace by what it costs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentOpSettings {
    /// Whether it is asked.
    pub enabled: bool,
    /// From which age on a transaction counts as long-running, and is logged once.
    pub long_running: Duration,
}

impl Default for CurrentOpSettings {
    /// On. Half of the server's default limit on a transaction is too long.
    fn default() -> Self {
        Self { enabled: true, long_running: Duration::from_secs(30) }
    }
}

macro_rules! paced {
    ($(#[$doc:meta])* $name:ident, enabled: $enabled:literal, every: $every:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            /// Whether it is asked.
            pub enabled: bool,
            /// After how many poll intervals it is asked again.
            pub every: u32,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { enabled: $enabled, every: $every }
            }
        }
    };
}

paced!(
    /// Settings of the storage engine's part of the status. On, every third interval: it weighs 25 kB.
    StorageEngineSettings, enabled: true, every: 3
);
paced!(
    /// Settings of the replica set's status. On, at every interval.
    ReplicationSettings, enabled: true, every: 1
);
paced!(
    /// Settings of the server's parameters. On, every twelfth interval: they change when a person changes them.
    ParameterSettings, enabled: true, every: 12
);
paced!(
    /// Settings of the server's log. Off, every sixth interval: a reply may weigh a megabyte.
    SlowTransactionSettings, enabled: false, every: 6
);

/// Settings of the profiler's collections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileSettings {
    /// Whether they are read. The profiler itself is never turned on from here: that is the DBA's act.
    pub enabled: bool,
    /// After how many poll intervals they are read again.
    pub every: u32,
    /// The databases whose `system.profile` is read.
    pub databases: Vec<String>,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        Self { enabled: false, every: 2, databases: Vec::new() }
    }
}

impl CollectorSettings {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// A sentence that names the setting, what is wrong with it and what is right.
    pub fn validate(&self) -> Result<(), String> {
        let Self {
            current_op,
            storage_engine,
            replication,
            parameters,
            profile,
            slow_transactions,
            open_by_operation,
        } = self;
        let paces = [
            ("storage_engine", storage_engine.every),
            ("replication", replication.every),
            ("parameters", parameters.every),
            ("profile", profile.every),
            ("slow_transactions", slow_transactions.every),
        ];
        for (name, every) in paces {
            debug_assert!(COLLECTORS.contains(&name));
            if !(1..=1_000).contains(&every) {
                return Err(format!("{name} cannot be asked every {every} poll intervals: say 1 to 1000"));
            }
        }
        let bounds = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
        if !bounds.contains(&current_op.long_running) {
            let given = current_op.long_running;
            return Err(format!(
                "a transaction cannot count as long-running from {given:?} on: say 100ms to 24h"
            ));
        }
        for (index, url) in open_by_operation.backends.iter().enumerate() {
            backend(url).map_err(|wrong| {
                format!(
                    "the backend no. {} {wrong}: say http://127.0.0.1:3000/-/transactions, for example",
                    index + 1
                )
            })?;
        }
        databases(profile)
    }
}

/// The text is not repeated: it may hold a password.
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
        // The server's own rules for a name.
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
    fn the_defaults_are_valid_and_ask_nothing_that_must_be_asked_for() {
        let settings = CollectorSettings::default();
        assert_eq!(settings.validate(), Ok(()));
        assert!(!settings.profile.enabled && !settings.slow_transactions.enabled);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |change: fn(&mut CollectorSettings)| {
            let mut settings = CollectorSettings::default();
            change(&mut settings);
            settings.validate().expect_err("it cannot be")
        };
        assert!(refused(|s| s.replication.every = 0).contains("replication"));
        assert!(refused(|s| s.current_op.long_running = Duration::ZERO).contains("long-running"));
        assert!(refused(|s| s.profile.enabled = true).contains("no databases"));
        let odd = refused(|s| s.profile.databases = vec!["hunter2.b".into()]);
        assert!(odd.contains("database no. 1") && !odd.contains("hunter2"), "{odd}");
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
