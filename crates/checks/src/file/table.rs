//! A TOML table that tracks which of its keys have been read, and reports the others with a suggestion.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document};
use serde_json::error::Category;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use txnscope_catalog::nearest;

use crate::file::Diagnostics;

/// Maps byte offsets to line numbers.
#[derive(Debug)]
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect())
    }

    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

/// A suggestion of the most similar name, as the end of a sentence.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(other) => format!("; did you mean `{other}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; valid names are {}", known.join(", ")),
    }
}

/// A table that is being read.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    /// The name of the table in messages: `[[check]] retainer_balance`.
    pub(crate) name: String,
    line: usize,
    entries: &'a DeTable<'a>,
    lines: &'a Lines,
    known: BTreeSet<&'static str>,
}

/// A value with its line.
type At<T> = (usize, T);

impl<'a> Table<'a> {
    pub(crate) fn root(entries: &'a DeTable<'a>, lines: &'a Lines) -> Self {
        Self { name: "the file".into(), line: 1, entries, lines, known: BTreeSet::new() }
    }

    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Whether the key is there, without reading it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.get_ref() == key)
    }

    fn get(&mut self, key: &'static str) -> Option<At<&'a DeValue<'a>>> {
        self.known.insert(key);
        let (_, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.lines.line_at(value.span().start), value.get_ref()))
    }

    fn sub(&self, name: String, line: usize, entries: &'a DeTable<'a>) -> Table<'a> {
        Table { name, line, entries, lines: self.lines, known: BTreeSet::new() }
    }

    fn invalid(
        &self,
        key: &str,
        line: usize,
        wanted: &str,
        value: &DeValue<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        diagnostics.report(line, format!("`{key}` of {} must be {wanted}, not {}", self.name, kind(value)));
    }

    /// Reports a required key that is missing.
    pub(crate) fn lacks(&self, key: &str, hint: &str, diagnostics: &mut Diagnostics) {
        diagnostics.report(self.line, format!("{} lacks `{key}`{hint}", self.name));
    }

    // ===== Values =====

    pub(crate) fn table(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<Table<'a>> {
        let (line, value) = self.get(key)?;
        match value {
            DeValue::Table(entries) => {
                let name =
                    if self.line == 1 { format!("[{key}]") } else { format!("`{key}` of {}", self.name) };
                Some(self.sub(name, line, entries))
            }
            other => {
                self.invalid(key, line, "a table", other, diagnostics);
                None
            }
        }
    }

    pub(crate) fn tables(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Vec<Table<'a>> {
        let Some((line, value)) = self.get(key) else { return Vec::new() };
        let DeValue::Array(elements) = value else {
            self.invalid(key, line, &format!("written as [[{key}]]"), value, diagnostics);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in elements.iter() {
            let line = self.lines.line_at(element.span().start);
            match element.get_ref() {
                DeValue::Table(entries) => tables.push(self.sub(format!("this [[{key}]]"), line, entries)),
                other => self.invalid(key, line, &format!("written as [[{key}]]"), other, diagnostics),
            }
        }
        tables
    }

    pub(crate) fn text(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<At<&'a str>> {
        let (line, value) = self.get(key)?;
        match value {
            DeValue::String(text) => Some((line, text.as_ref())),
            other => {
                self.invalid(key, line, "a string in quotes", other, diagnostics);
                None
            }
        }
    }

    pub(crate) fn flag(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<bool> {
        let (line, value) = self.get(key)?;
        match value {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                self.invalid(key, line, "true or false", other, diagnostics);
                None
            }
        }
    }

    /// A number that is finite and not negative.
    pub(crate) fn number(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<f64> {
        let (line, value) = self.get(key)?;
        let number = match value {
            DeValue::Integer(number) => number.as_str().replace('_', "").parse().ok(),
            DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            self.invalid(key, line, "a number that is not negative, as in 0.005", value, diagnostics);
        }
        number
    }

    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<At<String>>> {
        let (line, value) = self.get(key)?;
        let DeValue::Array(elements) = value else {
            self.invalid(key, line, "a list of strings, as in [\"clientId\"]", value, diagnostics);
            return None;
        };
        let mut texts = Vec::new();
        for element in elements.iter() {
            let line = self.lines.line_at(element.span().start);
            match element.get_ref() {
                DeValue::String(text) => texts.push((line, text.as_ref().to_owned())),
                other => {
                    self.invalid(key, line, "a list of strings, as in [\"clientId\"]", other, diagnostics)
                }
            }
        }
        Some(texts)
    }

    // ===== Extended JSON =====

    /// Parses a value of any BSON type from a string of Extended JSON.
    pub(crate) fn json(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<At<Bson>> {
        let (line, value) = self.get(key)?;
        let DeValue::String(text) = value else {
            self.invalid(
                key,
                line,
                "Extended JSON in single quotes, as in '{ \"$lt\": 0 }'",
                value,
                diagnostics,
            );
            return None;
        };
        match serde_json::from_str::<Bson>(text) {
            Ok(bson) => Some((line, bson)),
            Err(error) => {
                diagnostics.report(
                    line,
                    format!("`{key}` of {} is not valid Extended JSON: {}", self.name, json_error(&error)),
                );
                None
            }
        }
    }

    pub(crate) fn document(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<At<Document>> {
        match self.json(key, diagnostics)? {
            (line, Bson::Document(document)) => Some((line, document)),
            (line, _) => {
                diagnostics
                    .report(line, format!("`{key}` of {} must be a filter: a document in braces", self.name));
                None
            }
        }
    }

    pub(crate) fn stages(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<At<Vec<Document>>> {
        let (line, bson) = self.json(key, diagnostics)?;
        let stages = match bson {
            Bson::Array(stages) => stages
                .into_iter()
                .map(|stage| match stage {
                    Bson::Document(stage) if stage.len() == 1 => Some(stage),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>(),
            _ => None,
        };
        if stages.is_none() {
            diagnostics.report(
                line,
                format!("`{key}` of {} must be a list of stages, each with one operator: [ {{ \"$match\": … }}, … ]", self.name),
            );
        }
        Some((line, stages?))
    }

    // ===== Unknown keys =====

    /// Reports every key that was not read.
    pub(crate) fn finish(self, diagnostics: &mut Diagnostics) {
        let known: Vec<_> = self.known.iter().copied().collect();
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.known.contains(key.get_ref().as_ref())) {
            let key: &Spanned<_> = key;
            let line = self.lines.line_at(key.span().start);
            let name = key.get_ref();
            diagnostics
                .report(line, format!("{} has no key `{name}`{}", self.name, suggestion(name, &known)));
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "this number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Describes a JSON error, with its position.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Eof => format!("it ends too early ({text})"),
        Category::Io | Category::Syntax | Category::Data => text,
    }
}
