//! The sources in the configuration file: which are on, and how they are asked.

use serde::Deserialize;
use toml::Spanned;
use txnscope_sidecar::SourceSettings;

use crate::file::{File, FileError, Time};

/// One section for each source; what is not said keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sources {
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

fn set<T: Clone>(setting: &mut T, said: Option<&T>) {
    if let Some(said) = said {
        setting.clone_from(said);
    }
}

/// What the file says of the sources.
///
/// # Errors
///
/// If a setting makes no sense, at the section that holds it.
pub(crate) fn settings(file: &File) -> Result<SourceSettings, FileError> {
    let Sources {
        current_op,
        storage_engine,
        replication,
        parameters,
        profile,
        slow_transactions,
        open_by_operation,
    } = &file.sources;
    let mut settings = SourceSettings::default();
    if let Some(section) = current_op {
        let CurrentOp { enabled, long_running } = section.get_ref();
        set(&mut settings.current_op.enabled, enabled.as_ref());
        set(&mut settings.current_op.long_running, long_running.map(|time| time.0).as_ref());
        settings.validate().map_err(|error| file.at(section, error))?;
    }
    macro_rules! paced {
        ($($source:ident)*) => {$(
            if let Some(section) = $source {
                let Paced { enabled, every } = section.get_ref();
                set(&mut settings.$source.enabled, enabled.as_ref());
                set(&mut settings.$source.every, every.as_ref());
                settings.validate().map_err(|error| file.at(section, error))?;
            }
        )*};
    }
    paced!(storage_engine replication parameters slow_transactions);
    if let Some(section) = profile {
        let Profile { enabled, every, databases } = section.get_ref();
        set(&mut settings.profile.enabled, enabled.as_ref());
        set(&mut settings.profile.every, every.as_ref());
        set(&mut settings.profile.databases, databases.as_ref());
        settings.validate().map_err(|error| file.at(section, error))?;
    }
    if let Some(section) = open_by_operation {
        set(&mut settings.open_by_operation.backends, section.get_ref().backends.as_ref());
        settings.validate().map_err(|error| file.at(section, error))?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<SourceSettings, String> {
        let file = File::parse(Path::new("txnscope.toml"), text.to_owned());
        file.and_then(|file| settings(&file)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_file_says_of_a_source_holds_and_the_rest_keeps_its_default() {
        let read = read(
            "[sources]\ncurrent_op.long_running = \"9s\"\nreplication = { enabled = false, every = 4 }\n\
             profile = { enabled = true, databases = [\"shop\"] }\nslow_transactions.enabled = true",
        );
        let mut expected = SourceSettings::default();
        expected.current_op.long_running = Duration::from_secs(9);
        expected.replication.enabled = false;
        expected.replication.every = 4;
        expected.profile.enabled = true;
        expected.profile.databases = vec!["shop".to_owned()];
        expected.slow_transactions.enabled = true;
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn what_is_wrong_with_a_source_is_named_with_its_line() {
        for (text, expected) in [
            ("[sources]\n[sources.profil]", "txnscope.toml:2: unknown key `profil`; did you mean `profile`?"),
            ("[sources.replication]\nevry = 2", "txnscope.toml:2: unknown key `evry`; did you mean `every`?"),
            ("\n[sources.replication]\nevery = 0", "txnscope.toml:2: replication cannot be asked"),
            ("[sources.profile]\nenabled = true", "txnscope.toml:1: the source profile is on and has no"),
            ("[sources.open_by_operation]\nbackends = [\"shop\"]", "txnscope.toml:1: the backend no. 1"),
            ("[sources.current_op]\nlong_running = \"0s\"", "txnscope.toml:1: a transaction cannot count"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with(expected), "{text:?}: {said}");
        }
    }
}
