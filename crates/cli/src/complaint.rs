//! What is said of a wrong command line: what is wrong and where, and never what was given there.
//!
//! clap quotes the values that it refuses, also those of variables, and a password may have been put into the wrong one.
//! So its own text is not used. Quoted are the grammar's own words, and of what was typed only what looks like the name of
//! a flag or of a command.

use std::error::Error as _;
use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Why the command line was not taken.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It asks for help or for the version: this is it.
    Help(String),
    /// It is wrong, and why.
    Wrong(String),
}

impl Unread {
    pub(crate) fn wrong(what: &str) -> Self {
        Self::Wrong(finished(what, None))
    }
}

impl From<clap::Error> for Unread {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Help(error.render().to_string()),
            // No more than the grammar.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Self::Wrong(error.render().to_string()),
            _ => {
                let usage = match error.get(ContextKind::Usage) {
                    Some(ContextValue::StyledStr(usage)) => Some(usage.to_string()),
                    _ => None,
                };
                Self::Wrong(finished(&said(&error), usage.as_deref()))
            }
        }
    }
}

fn finished(what: &str, usage: Option<&str>) -> String {
    let mut text = format!("error: {what}\n\n");
    if let Some(usage) = usage {
        let _ = write!(text, "{usage}\n\n");
    }
    text + "For more information, try '--help'.\n"
}

fn said(error: &clap::Error) -> String {
    let words = |kind| words(error.get(kind));
    let flag = || words(ContextKind::InvalidArg).into_iter().next().unwrap_or_default();
    let mut text = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let mut text = format!("what was given for '{}' cannot be used", flag());
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
                "unexpected argument found: what it is, is not repeated. Each value belongs to a flag, as in \
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
            format!("what is missing is required: {}", words(ContextKind::InvalidArg).join(", "))
        }
        ErrorKind::ArgumentConflict => {
            format!("'{}' cannot be used with {}", flag(), words(ContextKind::PriorArg).join(", "))
        }
        ErrorKind::NoEquals => format!("'{}' wants its value behind an equals sign", flag()),
        ErrorKind::TooManyValues | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("'{}' has another number of values than it takes", flag())
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => "the command line cannot be understood".to_owned(),
    };
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        let meant = words(kind);
        if !meant.is_empty() {
            let _ = write!(text, "\n\n  tip: a similar one exists: '{}'", meant.join("', '"));
        }
    }
    text
}

/// Why a value is refused, if the reason does not repeat it.
fn reason(error: &clap::Error) -> Option<String> {
    let reason = error.source()?.to_string();
    let given = words(error.get(ContextKind::InvalidValue)).into_iter().next().unwrap_or_default();
    // A number that is out of bounds: `0 is not in 1..=5`.
    if let Some(rest) = reason.strip_prefix(&given).filter(|rest| rest.starts_with(" is not in ")) {
        return Some(format!("it{rest}"));
    }
    // None of our own parsers repeats it. A short one stands in many a sentence.
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
    use crate::flags::Flags;

    use super::*;

    fn refused(words: &[&str]) -> String {
        let typed = std::iter::once("txnscope").chain(words.iter().copied());
        match Flags::read(typed.map(Into::into)) {
            Err(Unread::Wrong(text)) => text,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn no_value_of_a_flag_is_repeated() {
        for (words, complaint) in [
            (
                &["serve", "--poll.interval=hunter2"][..],
                "'--poll.interval <TIME>' cannot be used: a whole number",
            ),
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
            (&["drill", "race", "--url=a", "--concurrency=1"], "cannot be used: it is not in 2..=1000"),
            (&["drill", "race", "--url=a", "--concurrency=hunter2"], "--concurrency"),
            (&["drill", "race"], "--url"),
            (&["drill", "race", "--url=a", "--scenario=hunter2"], "[possible values: "),
            (&["preflight", "--scratch-transaction=hun/ter2"], "cannot be the name of a database"),
        ] {
            let said = refused(words);
            assert!(said.starts_with("error: ") && said.contains(complaint), "{words:?}: {said}");
            assert!(!said.contains("hun") && said.contains("--help"), "{words:?}: {said}");
        }
    }

    /// The `=` of an option of the URI is taken for that of a flag, and what stands before it is quoted by clap.
    #[test]
    fn a_uri_in_the_place_of_a_flag_is_not_quoted() {
        for word in [
            "--mongodb://user:hunter2@host/?replicaSet=rs0",
            "--mongodb.ur=mongodb://user:hunter2@host/",
            "mongodb://user:hunter2@host/",
        ] {
            let said = refused(&["serve", word]);
            assert!(said.starts_with("error: ") && !said.contains("hunter2"), "{said}");
        }
    }

    /// Who cannot read such a file, or finds no such document, would quote it.
    #[test]
    fn a_uri_in_the_place_of_a_file_or_an_id_is_not_quoted() {
        for (words, flag) in [
            (&["audit", "--checks=mongodb://user:hunter2@host/"][..], "--checks"),
            (&["repair", "--checks=a.toml", "--id", "mongodb+srv://user:hunter2@host/"], "--id"),
            (&["repair", "--checks=a.toml", "--id=a", "--id=b MongoDB://user:hunter2/@host/"], "--id"),
            (&["serve", "--mongodb.uri-file=mongodb://user:hunter2@host/"], "--mongodb.uri-file"),
            (&["drill", "race", "--url=mongodb://user:hunter2@host/"], "--url"),
        ] {
            let said = refused(words);
            assert!(said.starts_with(&format!("error: {flag} is given a URI")), "{said}");
            assert!(said.contains("MONGODB_URI") && !said.contains("hunter2"), "{said}");
        }
        for uri in ["--mongodb.uri=mongodb://user@host/", "--checks.file=mongodb.toml"] {
            Flags::read(["txnscope", "serve", uri].map(Into::into)).unwrap();
        }
    }
}
