//! Parses `checks.toml` into checks, or into a list of all its errors with their lines.
//!
//! The tables are walked by hand: serde's error for an unknown key has no suggestion and stops at the first error,
//! while a check file usually has several.

mod check;
pub(crate) mod fields;
mod table;

use std::fmt;

use toml::de::DeTable;
use txnscope_catalog::{MAX_CHECKS, escape_line};

use crate::check::Check;
use crate::file::check::Defaults;
use crate::file::table::{Lines, Table};

/// The checks of a file, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// Parses the text of a check file.
    ///
    /// ```
    /// let checks = txnscope_checks::Checks::parse(
    ///     r#"
    ///     [[check]]
    ///     name = "retainer_balance_negative"
    ///     severity = "critical"
    ///     database = "ledger"
    ///     collection = "retainers"
    ///     forbid = '{ "currentBalance": { "$lt": 0 } }'
    ///     "#,
    /// )?;
    /// assert_eq!(checks.iter().next().unwrap().name, "retainer_balance_negative");
    /// # Ok::<_, txnscope_checks::FileError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is not TOML or a check is invalid. The error contains all diagnostics, with their lines.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let lines = Lines::new(text);
        let root = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| lines.line_at(span.start));
            FileError(vec![Diagnostic { line, message: escape_line(error.message()).into_owned() }])
        })?;
        let mut diagnostics = Diagnostics::default();
        let checks = file(Table::root(root.get_ref(), &lines), &mut diagnostics);
        if checks.is_empty() && diagnostics.0.is_empty() {
            diagnostics
                .report(1, "the file has no [[check]]: add one, because a run without checks would look like correct data");
        }
        if checks.len() > MAX_CHECKS {
            diagnostics.report(
                1,
                format!(
                    "the file has {} checks, more than the {MAX_CHECKS} that are allowed: split it",
                    checks.len()
                ),
            );
        }
        if diagnostics.0.is_empty() {
            Ok(Self(checks))
        } else {
            diagnostics.0.sort_by_key(|diagnostic| diagnostic.line);
            Err(FileError(diagnostics.0))
        }
    }

    /// The checks, in the order of the file.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Check> {
        self.0.iter()
    }

    /// The check with that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Check> {
        self.0.iter().find(|check| check.name == name)
    }

    /// Only the checks with one of these names; all of them if there is no name.
    ///
    /// # Errors
    ///
    /// If there is no check with one of the names. The text contains the name and the most similar valid one.
    pub fn only(self, names: &[String]) -> Result<Self, String> {
        for name in names {
            if self.find(name).is_none() {
                let known: Vec<_> = self.iter().map(|check| check.name.as_str()).collect();
                return Err(format!("there is no check `{name}`{}", table::suggestion(name, &known)));
            }
        }
        let wanted = |check: &Check| names.is_empty() || names.contains(&check.name);
        Ok(Self(self.0.into_iter().filter(wanted).collect()))
    }
}

fn file(mut root: Table<'_>, diagnostics: &mut Diagnostics) -> Vec<Check> {
    let defaults = match root.table("defaults", diagnostics) {
        Some(table) => Defaults::read(table, diagnostics),
        None => Defaults::default(),
    };
    let tables = root.tables("check", diagnostics);
    root.finish(diagnostics);
    let mut checks: Vec<Check> = Vec::new();
    for table in tables {
        let line = table.line();
        if let Some(check) = check::read(table, &defaults, diagnostics) {
            if checks.iter().any(|other| other.name == check.name) {
                diagnostics.report(
                    line,
                    format!("a second check has the name `{}`: names must be unique", check.name),
                );
            }
            checks.push(check);
        }
    }
    checks
}

// ===== Diagnostics =====

/// All errors in a check file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError(Vec<Diagnostic>);

impl FileError {
    /// The errors, ordered by line.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl std::error::Error for FileError {}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}line {}: {}", diagnostic.line, diagnostic.message)?;
        }
        Ok(())
    }
}

/// One error in a check file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The line, starting at 1.
    pub line: usize,
    /// The description of the error.
    pub message: String,
}

#[derive(Debug, Default)]
pub(crate) struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn report(&mut self, line: usize, message: impl Into<String>) {
        // The message may repeat a key or a value of the file, which a program may have written from arbitrary input.
        self.0.push(Diagnostic { line, message: escape_line(&message.into()).into_owned() });
    }
}

#[cfg(test)]
mod tests;
