//! Settings of the collectors, from flags, variables and the configuration file.

mod flags;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use toml::Spanned;
use txnscope_sidecar::CollectorSettings;

pub(crate) use self::flags::CollectorFlags;
use crate::config::file::{ConfigFile, Time};

/// One section for each collector; missing settings keep their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Collectors {
    current_op: Option<Spanned<CurrentOp>>,
    storage_engine: Option<Spanned<WithInterval>>,
    replication: Option<Spanned<WithInterval>>,
    parameters: Option<Spanned<WithInterval>>,
    profile: Option<Spanned<Profile>>,
    slow_transactions: Option<Spanned<WithInterval>>,
    open_by_operation: Option<Spanned<OpenByOperation>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CurrentOp {
    enabled: Option<bool>,
    long_running: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WithInterval {
    enabled: Option<bool>,
    interval: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OpenByOperation {
    backends: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Profile {
    enabled: Option<bool>,
    interval: Option<Time>,
    databases: Option<Vec<String>>,
}

fn set<T, U: Into<T>>(setting: &mut T, said: Option<U>) {
    if let Some(said) = said {
        *setting = said.into();
    }
}

/// Merges flags, variables and the configuration file into the settings of the collectors.
///
/// # Errors
///
/// If a setting makes no sense: at the section that holds it, or of the flags if these have a part in it.
pub(crate) fn settings(file: &ConfigFile, flags: &CollectorFlags) -> Result<CollectorSettings> {
    let mut settings = CollectorSettings::default();
    // Validated section by section, so that the error names the right one.
    macro_rules! section {
        ($collector:ident: $($setting:ident = $flag:ident),*) => {{
            let section = &file.collectors.$collector;
            let said = section.as_ref().map(Spanned::get_ref);
            $(
                set(&mut settings.$collector.$setting, said.and_then(|section| section.$setting.clone()));
                set(&mut settings.$collector.$setting, flags.$flag.clone());
            )*
            let by_flags = [$(flags.$flag.is_some()),*].contains(&true);
            settings.validate().map_err(|error| match section {
                Some(section) if !by_flags => file.error_at(section, error).into(),
                Some(_) | None => {
                    anyhow!("--collector.{}, flags or variables: {error}", stringify!($collector).replace('_', "-"))
                }
            })?;
        }};
    }
    section!(current_op: enabled = current_op_enabled, long_running = current_op_long_running);
    section!(storage_engine: enabled = storage_engine_enabled, interval = storage_engine_interval);
    section!(replication: enabled = replication_enabled, interval = replication_interval);
    section!(parameters: enabled = parameters_enabled, interval = parameters_interval);
    section!(profile: enabled = profile_enabled, interval = profile_interval, databases = profile_databases);
    section!(slow_transactions: enabled = slow_transactions_enabled, interval = slow_transactions_interval);
    section!(open_by_operation: backends = open_by_operation_backends);
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<CollectorSettings, String> {
        read_with(text, &CollectorFlags::default())
    }

    fn read_with(text: &str, flags: &CollectorFlags) -> Result<CollectorSettings, String> {
        let file = ConfigFile::parse(Path::new("txnscope.toml"), text.to_owned())
            .map_err(|error| error.to_string())?;
        settings(&file, flags).map_err(|error| error.to_string())
    }

    #[test]
    fn file_settings_override_defaults() {
        let read = read(
            "[collector]\ncurrent_op.long_running = \"9s\"\nreplication = { enabled = false, interval = \"20s\" }\n\
             profile = { enabled = true, databases = [\"shop\"] }\nslow_transactions.enabled = true",
        );
        let mut expected = CollectorSettings::default();
        expected.current_op.long_running = Duration::from_secs(9);
        expected.replication.enabled = false;
        expected.replication.interval = Duration::from_secs(20);
        expected.profile.enabled = true;
        expected.profile.databases = vec!["shop".to_owned()];
        expected.slow_transactions.enabled = true;
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn invalid_collector_setting_is_reported_with_its_line() {
        for (text, expected) in [
            (
                "[collector]\n[collector.profil]",
                "txnscope.toml:2: unknown key `profil`; did you mean `profile`?",
            ),
            (
                "[collector.replication]\nintervall = \"2s\"",
                "txnscope.toml:2: unknown key `intervall`; did you mean `interval`?",
            ),
            (
                "\n[collector.replication]\ninterval = \"0s\"",
                "txnscope.toml:2: the interval of the collector replication is 0ns: use",
            ),
            ("[collector.replication]\ninterval = 4", "txnscope.toml:2: expected a string, found an integer"),
            ("[collector.replication]\ninterval = \"4\"", "txnscope.toml:2: use numbers with a unit"),
            (
                "[collector.profile]\nenabled = true",
                "txnscope.toml:1: the collector profile is on and has no",
            ),
            ("[collector.open_by_operation]\nbackends = [\"shop\"]", "txnscope.toml:1: the backend no. 1"),
            (
                "[collector.current_op]\nlong_running = \"0s\"",
                "txnscope.toml:1: the threshold for long-running transactions",
            ),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn flags_override_the_file() {
        let text =
            "[collector]\nprofile = { enabled = true, interval = \"7s\" }\nreplication.interval = \"3s\"";
        let flags = CollectorFlags {
            profile_databases: Some(vec!["shop".to_owned()]),
            replication_interval: Some(Duration::from_secs(4)),
            ..CollectorFlags::default()
        };
        let read = read_with(text, &flags).unwrap();
        assert_eq!(
            (read.profile.interval, read.profile.databases),
            (Duration::from_secs(7), vec!["shop".to_owned()])
        );
        assert_eq!(read.replication.interval, Duration::from_secs(4));
    }

    #[test]
    fn invalid_flag_is_reported_as_a_flag() {
        let flags = CollectorFlags { profile_enabled: Some(true), ..CollectorFlags::default() };
        for text in ["", "[collector.profile]\ninterval = \"2s\""] {
            let said = read_with(text, &flags).expect_err("no databases");
            assert!(
                said.starts_with("--collector.profile, flags or variables: the collector profile"),
                "{said}"
            );
        }
    }
}
