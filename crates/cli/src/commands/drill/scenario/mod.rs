//! The scenario file: races and a load against any backend, described in TOML.
//!
//! | module | contents |
//! | --- | --- |
//! | `file` | the sections and keys of the file |
//! | `check` | what the file must fulfill beyond its syntax: variables, names, combinations of keys |
//! | `load` | the section with the load |
//! | `request` | requests with the values of variables, and what responses set |
//! | `scope` | the variables that have a value at a place of the file |
//! | `template` | texts and bodies with variables |
//! | `expression` | expressions of numbers |
//! | `number` | exact decimal numbers |
//! | `variables` | the values of variables |

pub(crate) mod check;
pub(crate) mod expression;
pub(crate) mod file;
pub(crate) mod load;
pub(crate) mod number;
pub(crate) mod request;
mod scope;
pub(crate) mod template;
pub(crate) mod variables;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use txnscope_catalog::{FileError, nearest};

use crate::commands::drill::scenario::file::{Race, ScenarioFile};
use crate::config::file::{parse_toml, read_text};

/// The scenarios of the ledger, which are the default. The file is a link to those of the example, so that the published crate contains
/// them.
const LEDGER: &str = include_str!("ledger.toml");
const LEDGER_PATH: &str = "examples/ledger/scenarios.toml";

impl ScenarioFile {
    /// Loads the file of `--scenarios.file`, or the scenarios of the ledger.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is invalid. The error names the line.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, FileError> {
        match path {
            Some(path) => Self::parse(path, &read_text(path)?),
            None => Self::parse(Path::new(LEDGER_PATH), LEDGER),
        }
    }

    /// # Errors
    ///
    /// If the text is no valid scenario file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let file: Self = parse_toml(path, text)?;
        file.check().map_err(|mistake| FileError::at(path, text, mistake.at.start, mistake.what))?;
        Ok(file)
    }

    /// The races with these names, in the order of the file; all of them if there are no names.
    ///
    /// # Errors
    ///
    /// If a name is unknown.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Race>> {
        ensure!(
            !self.race.is_empty(),
            "the scenario file has no [[race]]: add one, as docs/drill.md describes"
        );
        let known: Vec<&str> = self.race.iter().map(|race| race.name.get_ref().as_str()).collect();
        // The name is not repeated: it may be a secret in the wrong place.
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            match nearest(unknown, &known) {
                Some(known) => {
                    bail!("--scenario: the file has no scenario of this name; did you mean {known}?")
                }
                None => {
                    bail!("--scenario: the file has no scenario of this name; valid are {}", known.join(", "))
                }
            }
        }
        Ok(self.race.iter().filter(|race| names.is_empty() || names.contains(race.name.get_ref())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ScenarioFile, FileError> {
        ScenarioFile::parse(Path::new("scenarios.toml"), text)
    }

    /// A valid file, with lines to add or replace.
    const VALID: &str = r#"[backend]
probe = "/health"

[[race]]
name = "debit"
invariant = "of {n} debits, {covered} succeed"
numbers = { covered = "floor({n} / 2)", start = "{covered} * 10" }
succeed = "{covered}"

[[race.setup]]
path = "/wallets"
body = { amount = "{start}" }
capture = { wallet = "/id" }

[[race.burst]]
path = "/wallets/{wallet}/debit"

[[race.after]]
path = "/wallets/{wallet}"
json = "/amount"
equals = "{start} - {succeeded} * 10"
"#;

    #[test]
    fn default_file_and_sample_are_valid() {
        let ledger = ScenarioFile::load(None).unwrap();
        assert_eq!(ledger.race.len(), 9);
        assert_eq!(ledger.select(&[]).unwrap().len(), 9);
        assert!(parse(VALID).is_ok());
        let error = ledger.select(&["consum".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("did you mean consume?"), "{error}");
        let error = ledger.select(&["withdrawal".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("valid are consume, consume-some"), "{error}");
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        for (from, to, expected) in [
            ("succeed =", "suceed =", ":8: unknown key `suceed`; did you mean `succeed`?"),
            ("probe = \"/health\"", "", "missing field `probe`"),
            ("probe = \"/health\"", "probe = \"health\"", ":2: a path begins with one slash"),
            ("debit\"\ninv", "de bit\"\ninv", ":5: a name consists of lowercase letters, digits and hyphens"),
            ("{wallet}/debit", "{walet}/debit", ":16: unknown variable `{walet}`; did you mean `{wallet}`?"),
            ("{wallet}/debit", "{wallet/debit", ":16: a brace has no counterpart"),
            ("\"{start}\"", "\"{wallet}\"", ":12: unknown variable `{wallet}`"),
            ("{start} - {succeeded}", "{start} - {sucseeded}", "`{sucseeded}`; did you mean `{succeeded}`?"),
            (
                "{start} - {succeeded}",
                "{start} {succeeded}",
                ":21: the expression has something after its end",
            ),
            ("{start} - {succeeded}", "{mark} - {succeeded}", ":21: `{mark}` is no number"),
            ("json = \"/amount\"", "json = \"amount\"", ":20: a JSON pointer begins with a slash"),
            ("json = \"/amount\"", "", "needs `json`"),
            ("succeed = \"{covered}\"", "", "needs `succeed`"),
            ("succeed = ", "succeed_at_least = 1\nsucceed = ", "`succeed` excludes"),
            ("capture = { wallet", "capture = { n", ":13: the variable `n` is defined already"),
            ("capture = { wallet", "capture = { Wal", ":13: a variable consists of lowercase letters"),
            ("path = \"/wallets\"", "path = \"/wallets\"\nstatus = 99", ":12: "),
            ("path = \"/wallets\"", "path = \"/wallets\"\nmethod = \"POTS\"", "did you mean `POST`?"),
            (
                "path = \"/wallets\"",
                "path = \"/wallets\"\nheaders = { host = \"x\" }",
                ":12: the header `host`",
            ),
            (
                "capture = { wallet = \"/id\" }",
                "capture = { wallet = \"/id\" }\ntimes = 2\n[[race.setup]]\npath = \"/{wallet}\"",
                ":16: `{wallet}` is a list",
            ),
            ("[[race.burst]]\npath = \"/wallets/{wallet}/debit\"", "", "needs a `[[race.burst]]`"),
        ] {
            let text = VALID.replacen(from, to, 1);
            assert_ne!(text, VALID, "{from}");
            let error = parse(&text).expect_err(to).to_string();
            assert!(error.starts_with("scenarios.toml") && error.contains(expected), "{to}: {error}");
        }
        let twice = format!("{VALID}{}", &VALID[VALID.find("[[race]]").unwrap()..]);
        assert!(
            parse(&twice).unwrap_err().to_string().contains("there are two scenarios with the name `debit`")
        );
        assert!(
            parse("[backend]\nprobe = \"/\"")
                .unwrap_err()
                .to_string()
                .contains("needs a `[[race]]` or a `[load]`")
        );
    }
}
