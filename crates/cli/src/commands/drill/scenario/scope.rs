//! The variables that have a value at a place of the scenario file, and the checks of what uses them.

use std::collections::BTreeMap;

use http::header::{self, HeaderName};
use toml::Spanned;
use txnscope_catalog::nearest;

use crate::commands::drill::scenario::check::{Checked, Mistake, ensure};
use crate::commands::drill::scenario::expression::Expression;
use crate::commands::drill::scenario::file::{After, BurstRequest, Captures, Headers, SetUp};
use crate::commands::drill::scenario::template::{Body, Template};

/// The headers that the client sets.
const OWN_HEADERS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    /// Its type is known only at run time.
    Captured,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    Yes,
    No,
}

/// The variables that have a value at a place of the file.
#[derive(Debug, Default, Clone)]
pub(super) struct Scope {
    pub(super) known: BTreeMap<String, Kind>,
}

impl Scope {
    pub(super) fn kind<T>(&self, name: &str, at: &Spanned<T>) -> Result<Kind, Mistake> {
        if let Some(kind) = self.known.get(name) {
            return Ok(*kind);
        }
        let known: Vec<_> = self.known.keys().map(String::as_str).collect();
        let what = match nearest(name, &known) {
            Some(known) => format!("unknown variable `{{{name}}}`; did you mean `{{{known}}}`?"),
            None => format!("unknown variable `{{{name}}}`; known here are {}", known.join(", ")),
        };
        Err(Mistake { at: at.span(), what })
    }

    fn names<'a, T>(&self, names: impl Iterator<Item = &'a str>, at: &Spanned<T>, lists: Lists) -> Checked {
        for name in names {
            let is_list = self.kind(name, at)? == Kind::List;
            let what = format!(
                "`{{{name}}}` is a list: only a request with `times`, of the burst or in `after` can use one, and `pick` and `take` of a load"
            );
            ensure(!is_list || lists == Lists::Yes, at, what)?;
        }
        Ok(())
    }

    pub(super) fn template(&self, template: &Spanned<Template>, lists: Lists) -> Checked {
        self.names(template.get_ref().variables(), template, lists)
    }

    pub(super) fn path(&self, path: &Spanned<Template>, lists: Lists) -> Checked {
        ensure(path.get_ref().is_path(), path, NO_PATH)?;
        self.template(path, lists)
    }

    pub(super) fn expression(&self, expression: &Spanned<Expression>) -> Checked {
        for name in expression.get_ref().variables() {
            let kind = self.kind(name, expression)?;
            let what = format!("`{{{name}}}` is no number, as an expression needs it");
            ensure(matches!(kind, Kind::Number | Kind::Captured), expression, what)?;
        }
        Ok(())
    }

    pub(super) fn request(
        &self,
        path: &Spanned<Template>,
        headers: &Headers,
        body: Option<&Spanned<Body>>,
        lists: Lists,
    ) -> Checked {
        self.path(path, lists)?;
        for (name, value) in headers {
            let Ok(header) = HeaderName::try_from(name.get_ref().as_str()) else {
                return ensure(false, name, "the name of a header has an invalid character");
            };
            let what =
                format!("the header `{header}` is set by the drill; the token comes from --token-file");
            ensure(!OWN_HEADERS.contains(&header), name, what)?;
            self.template(value, lists)?;
        }
        body.map_or(Ok(()), |body| self.names(body.get_ref().variables().into_iter(), body, lists))
    }

    /// This scope within a request that is sent several times.
    fn repeated(&self) -> Self {
        let mut scope = self.clone();
        scope.known.insert("i".to_owned(), Kind::Number);
        scope
    }

    pub(super) fn set_up(&self, request: &SetUp) -> Checked {
        let SetUp { path, headers, body, times, .. } = request;
        match times {
            None => self.request(path, headers, body.as_ref(), Lists::No),
            Some(times) => {
                self.expression(times)?;
                self.repeated().request(path, headers, body.as_ref(), Lists::Yes)
            }
        }
    }

    pub(super) fn burst(&self, request: &BurstRequest) -> Checked {
        let BurstRequest { name, path, headers, body, times, .. } = request;
        if let Some(name) = name {
            ensure(is_name(name.get_ref(), '_'), name, VARIABLE)?;
        }
        times.iter().try_for_each(|times| self.expression(times))?;
        self.repeated().request(path, headers, body.as_ref(), Lists::Yes)
    }

    pub(super) fn after(&mut self, after: &After, race: &Spanned<String>) -> Checked {
        let bounds = [&after.equals, &after.at_least, &after.at_most];
        let is_compared = bounds.iter().any(|bound| bound.is_some());
        match (&after.path, &after.value) {
            (None, None) => {
                return ensure(false, race, "an `[[race.after]]` of this scenario needs `path` or `value`");
            }
            (Some(_), Some(value)) => return ensure(false, value, "`value` excludes `path`"),
            (None, Some(value)) => {
                ensure(is_compared, value, "`value` needs `equals`, `at_least` or `at_most`")?;
                let is_alone = after.json.is_none() && after.text.is_none() && after.capture.is_empty();
                ensure(is_alone, value, "`json`, `text` and `capture` need `path`, not `value`")?;
                self.expression(value)?;
            }
            (Some(path), None) => {
                self.request(path, &after.headers, after.body.as_ref(), Lists::Yes)?;
                let uses_json = is_compared || after.text.is_some();
                ensure(
                    after.json.is_some() || !uses_json,
                    path,
                    "a comparison needs `json`, the pointer to the value",
                )?;
                ensure(
                    uses_json || !after.capture.is_empty(),
                    path,
                    "the request needs `json` with `equals`, `at_least`, `at_most` or `text`, or `capture`",
                )?;
                let repeats =
                    path.get_ref().variables().any(|name| self.known.get(name) == Some(&Kind::List));
                self.captures(&after.capture, if repeats { Kind::List } else { Kind::Captured })?;
            }
        }
        if let Some(text) = &after.text {
            self.template(text, Lists::Yes)?;
            ensure(
                after.count.is_some() || !is_compared,
                text,
                "`text` and a number exclude each other, unless `count` counts the texts",
            )?;
        }
        if let Some(count) = &after.count {
            ensure(after.text.is_some(), count, "`count` needs `text`, the text that it counts")?;
            self.declare(count, Kind::Number)?;
        }
        bounds.into_iter().flatten().try_for_each(|bound| self.expression(bound))?;
        after.what.iter().try_for_each(|what| self.template(what, Lists::Yes))?;
        let mut scope = self.clone();
        scope.known.insert("actual".to_owned(), Kind::Text);
        scope.known.insert("expected".to_owned(), Kind::Text);
        after.message.iter().try_for_each(|message| scope.template(message, Lists::Yes))
    }

    pub(super) fn captures(&mut self, captures: &Captures, kind: Kind) -> Checked {
        captures.keys().try_for_each(|name| self.declare(name, kind))
    }

    pub(super) fn declare(&mut self, name: &Spanned<String>, kind: Kind) -> Checked {
        let text = name.get_ref();
        ensure(is_name(text, '_'), name, VARIABLE)?;
        let is_reserved = RESERVED.contains(&text.as_str());
        let is_new = !is_reserved && self.known.insert(text.clone(), kind).is_none();
        ensure(is_new, name, format!("the variable `{text}` is defined already: use another name"))
    }
}

pub(super) const NO_PATH: &str =
    "a path begins with one slash and has neither spaces nor a fragment, as in /api/accounts/{account}";
const VARIABLE: &str =
    "a variable consists of lowercase letters, digits and underscores, and begins with a letter";
/// Variables that the drill sets.
const RESERVED: [&str; 10] =
    ["n", "i", "round", "mark", "succeeded", "actual", "expected", "entities", "arrivals", "arrival"];

pub(super) fn is_name(text: &str, separator: char) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == separator)
}
