//! Settings of the collectors, from flags, variables and the configuration file.

use anyhow::{Result, anyhow};
use txnscope_sidecar::CollectorSettings;

use crate::config::file::ConfigFile;
use crate::config::sections::Collectors;
use crate::config::settings::Section as _;

/// Merges flags, variables and the configuration file into the settings of the collectors.
///
/// # Errors
///
/// If a setting makes no sense: at the section that holds it, or of the flags if these have a part in it.
pub(crate) fn settings(file: &ConfigFile, flags: &Collectors) -> Result<CollectorSettings> {
    let mut settings = CollectorSettings::default();
    // Validated section by section, so that the error names the right one.
    macro_rules! apply {
        ($($collector:ident)*) => {$({
            let (of_file, of_flags) = (&file.collectors.$collector, &flags.$collector);
            of_file.apply(&mut settings);
            of_flags.apply(&mut settings);
            settings.validate().map_err(|error| {
                let name = stringify!($collector);
                if *of_flags == Default::default() {
                    anyhow::Error::new(file.error_at(&["collector", name], error))
                } else {
                    anyhow!("--collector.{}, flags or variables: {error}", name.replace('_', "-"))
                }
            })?;
        })*};
    }
    apply!(current_op storage_engine replication parameters profile slow_transactions open_by_operation);
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::settings::Time;

    fn read(text: &str) -> Result<CollectorSettings, String> {
        read_with(text, &Collectors::default())
    }

    fn read_with(text: &str, flags: &Collectors) -> Result<CollectorSettings, String> {
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
        let mut flags = Collectors::default();
        flags.profile.databases = Some(vec!["shop".to_owned()]);
        flags.replication.interval = Some(Time(Duration::from_secs(4)));
        let read = read_with(text, &flags).unwrap();
        assert_eq!(
            (read.profile.interval, read.profile.databases),
            (Duration::from_secs(7), vec!["shop".to_owned()])
        );
        assert_eq!(read.replication.interval, Duration::from_secs(4));
    }

    #[test]
    fn invalid_flag_is_reported_as_a_flag() {
        let mut flags = Collectors::default();
        flags.profile.enabled = Some(true);
        for text in ["", "[collector.profile]\ninterval = \"2s\""] {
            let said = read_with(text, &flags).expect_err("no databases");
            assert!(
                said.starts_with("--collector.profile, flags or variables: the collector profile"),
                "{said}"
            );
        }
    }
}
