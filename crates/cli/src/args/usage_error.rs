//! Errors about the command line, which never repeat a value.
//!
//! clap quotes the values that it rejects, including those of variables, and a password may have been put into the wrong
//! one. Its own text is therefore not used: an error quotes names of the definition, and from the input only what looks
//! like the name of a flag or of a command.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use txnscope_catalog::escape_text;

use crate::args::exit_status::ExitStatus;
use crate::output::print;

/// Why the command line names no command to run.
#[derive(Debug)]
pub(crate) enum UsageError {
    /// The text of the help or the version, if the command line asks for it.
    Help(String),
    /// The message about an invalid command line.
    Invalid(String),
}

impl UsageError {
    pub(crate) fn invalid(what: &str) -> Self {
        Self::Invalid(with_usage(what, None))
    }

    /// Prints the text.
    pub(crate) fn report(&self) -> ExitStatus {
        match self {
            Self::Help(text) => {
                let _ = print(text);
                ExitStatus::Success
            }
            Self::Invalid(text) => {
                let _ = io::stderr().lock().write_all(escape_text(text).as_bytes());
                ExitStatus::Error
            }
        }
    }
}

impl From<clap::Error> for UsageError {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Help(error.render().to_string()),
            // This text holds names of the definition only.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Self::Invalid(error.render().to_string()),
            _ => {
                let usage = match error.get(ContextKind::Usage) {
                    Some(ContextValue::StyledStr(usage)) => Some(usage.to_string()),
                    _ => None,
                };
                Self::Invalid(with_usage(&message(&error), usage.as_deref()))
            }
        }
    }
}

fn with_usage(what: &str, usage: Option<&str>) -> String {
    let mut text = format!("error: {what}\n\n");
    if let Some(usage) = usage {
        let _ = write!(text, "{usage}\n\n");
    }
    text + "For more information, try '--help'.\n"
}

fn message(error: &clap::Error) -> String {
    let words = |kind| words(error.get(kind));
    let flag = || words(ContextKind::InvalidArg).into_iter().next().unwrap_or_default();
    let mut text = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let mut text = format!("invalid value for '{}'", flag());
            if let Some(reason) = reason(error) {
                let _ = write!(text, ": {reason}");
            }
            let values = words(ContextKind::ValidValue);
            if !values.is_empty() {
                let _ = write!(text, "\n  [possible values: {}]", values.join(", "));
            }
            text
        }
        ErrorKind::UnknownArgument => match Some(flag()).filter(|flag| is_flag(flag)) {
            Some(flag) => format!("unexpected argument '{flag}' found"),
            None => {
                "unexpected argument found; it is not repeated here. Each value belongs to a flag, as in \
                     --mongodb.uri-file=FILE"
                    .to_owned()
            }
        },
        ErrorKind::InvalidSubcommand => {
            match words(ContextKind::InvalidSubcommand).first().filter(|name| is_plain(name)) {
                Some(name) => format!("unrecognized subcommand '{name}'"),
                None => "unrecognized subcommand".to_owned(),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            format!("required arguments are missing: {}", words(ContextKind::InvalidArg).join(", "))
        }
        ErrorKind::ArgumentConflict => {
            format!("'{}' cannot be used with {}", flag(), words(ContextKind::PriorArg).join(", "))
        }
        ErrorKind::NoEquals => format!("'{}' takes its value after an equals sign", flag()),
        ErrorKind::TooManyValues | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("'{}' has the wrong number of values", flag())
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => "the command line is invalid".to_owned(),
    };
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        let meant = words(kind);
        if !meant.is_empty() {
            let _ = write!(text, "\n\n  tip: a similar one exists: '{}'", meant.join("', '"));
        }
    }
    text
}

/// Why a value is rejected, if the reason does not repeat the value.
fn reason(error: &clap::Error) -> Option<String> {
    let reason = error.source()?.to_string();
    let given = words(error.get(ContextKind::InvalidValue)).into_iter().next().unwrap_or_default();
    // A number that is out of bounds: `0 is not in 1..=5`.
    if let Some(rest) = reason.strip_prefix(&given).filter(|rest| rest.starts_with(" is not in ")) {
        return Some(format!("it{rest}"));
    }
    // No parser of this crate repeats a value. A short value may be a part of any sentence.
    (given.len() < 6 || !reason.contains(&given)).then_some(reason)
}

fn words(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        Some(ContextValue::StyledStr(word)) => vec![word.to_string()],
        Some(ContextValue::StyledStrs(words)) => words.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn is_flag(text: &str) -> bool {
    text.trim_start_matches('-').len() < text.len() && is_plain(text.trim_start_matches('-'))
}

fn is_plain(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    use super::*;

    fn error(words: &[&str]) -> String {
        let typed = std::iter::once("txnscope").chain(words.iter().copied());
        match Cli::parse_args(typed.map(Into::into)) {
            Err(UsageError::Invalid(text)) => text,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn invalid_values_are_not_repeated() {
        for (words, complaint) in [
            (&["serve", "--poll.interval=hunter2"][..], "'--poll.interval <TIME>': use numbers with a unit"),
            (&["serve", "--web.max-requests=hunter2"], "--web.max-requests"),
            (&["serve", "--log.level=hunter2"], "[possible values: error, warn"),
            (
                &["serve", "--poll.intervall=hunter2"],
                "'--poll.intervall' found\n\n  tip: a similar one exists: '--poll.interval'",
            ),
            (&["serve", "hunter2"], "unexpected argument"),
            (&["serve", "--hunter2"], "unexpected argument"),
            (&["serve", "--web.systemd-socket", "hunter2"], "unexpected argument"),
            (&["hunter2"], "unrecognized subcommand"),
            (&["swerve"], "unrecognized subcommand 'swerve'\n\n  tip: a similar one exists: 'serve'"),
            (&["drill", "race", "--url=a", "--concurrency=1"], ": it is not in 2..=1000"),
            (&["drill", "race", "--url=a", "--concurrency=hunter2"], "--concurrency"),
            (&["drill", "race"], "--url"),
            (&["drill", "race", "--url=a", "--output=hunter2"], "[possible values: "),
            (&["preflight", "--scratch-transaction=hun/ter2"], "is no valid name of a database"),
        ] {
            let said = error(words);
            assert!(said.starts_with("error: ") && said.contains(complaint), "{words:?}: {said}");
            assert!(!said.contains("hun") && said.contains("--help"), "{words:?}: {said}");
        }
    }

    /// clap takes the `=` of an option of the URI for that of a flag, and quotes what is before it.
    #[test]
    fn uri_in_place_of_a_flag_is_not_repeated() {
        for word in [
            "--mongodb://user:hunter2@host/?replicaSet=rs0",
            "--mongodb.ur=mongodb://user:hunter2@host/",
            "mongodb://user:hunter2@host/",
        ] {
            let said = error(&["serve", word]);
            assert!(said.starts_with("error: ") && !said.contains("hunter2"), "{said}");
        }
    }

    /// An error about a missing file or document would quote the URI.
    #[test]
    fn uri_in_place_of_a_file_or_an_id_is_not_repeated() {
        for (words, flag) in [
            (&["audit", "--checks.file=mongodb://user:hunter2@host/"][..], "--checks.file"),
            (&["repair", "--checks.file=a.toml", "--id", "mongodb+srv://user:hunter2@host/"], "--id"),
            (&["repair", "--checks.file=a.toml", "--id=a", "--id=b MongoDB://user:hunter2/@host/"], "--id"),
            (&["serve", "--mongodb.uri-file=mongodb://user:hunter2@host/"], "--mongodb.uri-file"),
            (&["drill", "race", "--url=mongodb://user:hunter2@host/"], "--url"),
        ] {
            let said = error(words);
            assert!(said.starts_with(&format!("error: {flag} is given a URI")), "{said}");
            assert!(said.contains("MONGODB_URI") && !said.contains("hunter2"), "{said}");
        }
        for uri in ["--mongodb.uri=mongodb://user@host/", "--checks.file=mongodb.toml"] {
            Cli::parse_args(["txnscope", "serve", uri].map(Into::into)).unwrap();
        }
    }

    #[test]
    fn similar_flag_is_suggested() {
        for (words, similar) in [
            (&["audit", "--checks=a.toml"][..], "--checks.file"),
            (&["verify", "--intervall=1m"], "--interval"),
            (&["verify", "--deployed=1m"], "--deployed-at"),
            (&["repair", "--autor=a"], "--author"),
        ] {
            let said = error(words);
            assert!(said.contains(&format!("a similar one exists: '{similar}'")), "{words:?}: {said}");
        }
    }
}
