//! The collectors in flags, variables and the configuration file: which are on, and how they are asked.

mod flags;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use toml::Spanned;
use txnscope_sidecar::CollectorSettings;

pub(crate) use self::flags::CollectorFlags;
use crate::config::file::{ConfigFile, Time};

/// One section for each collector; what is not said keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Collectors {
    current_op: Option<Spanned<CurrentOp>>,
    storage_engine: Option<Spanned<Paced>>,
    replication: Option<Spanned<Paced>>,
    parameters: Option<Spanned<Paced>>,
    profile: Option<Spanned<Profile>>,
    slow_transactions: Option<Spanned<Paced>>,
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
struct Paced {
    enabled: Option<bool>,
    every: Option<u32>,
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
    every: Option<u32>,
    databases: Option<Vec<String>>,
}

fn set<T, U: Into<T>>(setting: &mut T, said: Option<U>) {
    if let Some(said) = said {
        *setting = said.into();
    }
}

/// What flags, variables and the file say of the collectors.
///
/// # Errors
///
/// If a setting makes no sense: at the section that holds it, or of the flags if these have a part in it.
pub(crate) fn settings(file: &ConfigFile, flags: &CollectorFlags) -> Result<CollectorSettings> {
    let mut settings = CollectorSettings::default();
    // Section by section, so that what is wrong is told of the one that it is in.
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
    section!(storage_engine: enabled = storage_engine_enabled, every = storage_engine_every);
    section!(replication: enabled = replication_enabled, every = replication_every);
    section!(parameters: enabled = parameters_enabled, every = parameters_every);
    section!(profile: enabled = profile_enabled, every = profile_every, databases = profile_databases);
    section!(slow_transactions: enabled = slow_transactions_enabled, every = slow_transactions_every);
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
    fn what_the_file_says_of_a_collector_holds_and_the_rest_keeps_its_default() {
        let read = read(
            "[collector]\ncurrent_op.long_running = \"9s\"\nreplication = { enabled = false, every = 4 }\n\
             profile = { enabled = true, databases = [\"shop\"] }\nslow_transactions.enabled = true",
        );
        let mut expected = CollectorSettings::default();
        expected.current_op.long_running = Duration::from_secs(9);
        expected.replication.enabled = false;
        expected.replication.every = 4;
        expected.profile.enabled = true;
        expected.profile.databases = vec!["shop".to_owned()];
        expected.slow_transactions.enabled = true;
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn what_is_wrong_with_a_collector_is_named_with_its_line() {
        for (text, expected) in [
            (
                "[collector]\n[collector.profil]",
                "txnscope.toml:2: unknown key `profil`; did you mean `profile`?",
            ),
            (
                "[collector.replication]\nevry = 2",
                "txnscope.toml:2: unknown key `evry`; did you mean `every`?",
            ),
            ("\n[collector.replication]\nevery = 0", "txnscope.toml:2: replication cannot be asked"),
            (
                "[collector.profile]\nenabled = true",
                "txnscope.toml:1: the collector profile is on and has no",
            ),
            ("[collector.open_by_operation]\nbackends = [\"shop\"]", "txnscope.toml:1: the backend no. 1"),
            ("[collector.current_op]\nlong_running = \"0s\"", "txnscope.toml:1: a transaction cannot count"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_both_make_one_setting() {
        let text = "[collector]\nprofile = { enabled = true, every = 7 }\nreplication.every = 3";
        let flags = CollectorFlags {
            profile_databases: Some(vec!["shop".to_owned()]),
            replication_every: Some(4),
            ..CollectorFlags::default()
        };
        let read = read_with(text, &flags).unwrap();
        assert_eq!((read.profile.every, read.profile.databases), (7, vec!["shop".to_owned()]));
        assert_eq!(read.replication.every, 4);
    }

    #[test]
    fn what_is_wrong_with_a_flag_is_told_of_the_flags() {
        let flags = CollectorFlags { profile_enabled: Some(true), ..CollectorFlags::default() };
        for text in ["", "[collector.profile]\nevery = 2"] {
            let said = read_with(text, &flags).expect_err("no databases");
            assert!(
                said.starts_with("--collector.profile, flags or variables: the collector profile"),
                "{said}"
            );
        }
    }
}
