//! Texts with variables: `/api/retainers/{retainer}/consume`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

use crate::commands::drill::scenario::variables::Variables;

/// What is not escaped in a segment of a path (RFC 3986, unreserved characters).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key by which the parser of TOML marks a date.
const DATE: &str = "$__toml_private_datetime";

/// A text with variables in braces. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Template {
    /// # Errors
    ///
    /// If a brace has no counterpart. The message quotes nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find(['{', '}']).filter(|end| brace == "{" && rest[*end..].starts_with('}'));
            let end = end.ok_or(
                "a brace has no counterpart: a variable is written in braces, and a brace of the text itself twice",
            )?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable(rest[..end].trim().to_owned()));
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(name) => Some(name.as_str()),
        })
    }

    /// Whether the text is a path, with any values of its variables.
    pub(crate) fn is_path(&self) -> bool {
        let text = self.0.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Variable(_) => "x",
        });
        is_path(&text.collect::<String>())
    }

    /// The text. Of lists, the value with this index is used, counted from the beginning again after the last.
    ///
    /// # Errors
    ///
    /// If a variable has no value.
    pub(crate) fn render(&self, variables: &Variables, index: usize) -> Result<String, String> {
        self.render_with(variables, index, |text| text)
    }

    /// The text as a path: values are escaped, so that each stays within its segment.
    ///
    /// # Errors
    ///
    /// As [`Template::render`].
    pub(crate) fn render_path(&self, variables: &Variables, index: usize) -> Result<String, String> {
        self.render_with(variables, index, |text| utf8_percent_encode(&text, SEGMENT).to_string())
    }

    fn render_with(
        &self,
        variables: &Variables,
        index: usize,
        escape: impl Fn(String) -> String,
    ) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Variable(name) => text.push_str(&escape(variables.get(name)?.text(index))),
            }
        }
        Ok(text)
    }

    /// A JSON value: a text that consists of one variable has the type of the variable.
    fn render_json(&self, variables: &Variables, index: usize) -> Result<Value, String> {
        match self.0.as_slice() {
            [Part::Variable(name)] => Ok(variables.get(name)?.json(index)),
            _ => self.render(variables, index).map(Value::String),
        }
    }
}

/// Whether a text is a path, possibly with a query.
pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('#')
        && http::uri::PathAndQuery::try_from(text).is_ok()
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The JSON body of a request, whose texts are templates.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Text(Template),
    Array(Vec<Body>),
    Object(Vec<(String, Body)>),
    Other(Value),
}

impl Body {
    fn parse(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::parse(&text)?),
            Value::Array(values) => {
                Self::Array(values.into_iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) if fields.contains_key(DATE) => {
                return Err("JSON has no dates: write the date in quotes".to_owned());
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| Ok((name, Self::parse(value)?)));
                Self::Object(fields.collect::<Result<_, String>>()?)
            }
            value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Self::Other(value),
        })
    }

    pub(crate) fn variables(&self) -> Vec<&str> {
        match self {
            Self::Text(template) => template.variables().collect(),
            Self::Array(values) => values.iter().flat_map(Self::variables).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, value)| value.variables()).collect(),
            Self::Other(_) => Vec::new(),
        }
    }

    /// # Errors
    ///
    /// If a variable has no value.
    pub(crate) fn render(&self, variables: &Variables, index: usize) -> Result<Value, String> {
        match self {
            Self::Text(template) => template.render_json(variables, index),
            Self::Array(values) => values.iter().map(|value| value.render(variables, index)).collect(),
            Self::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, value)| Ok((name.clone(), value.render(variables, index)?)));
                fields.collect::<Result<serde_json::Map<_, _>, String>>().map(Value::Object)
            }
            Self::Other(value) => Ok(value.clone()),
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::drill::scenario::variables::Variable;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        variables.set("id", Variable::Text("a/../b?".to_owned()));
        variables.set_number("n", 3_usize);
        variables.push("payment", Variable::Text("p1".to_owned()));
        variables.push("payment", Variable::Text("p2".to_owned()));
        variables
    }

    #[test]
    fn values_stay_in_their_segment_of_a_path() {
        let path = Template::parse("/api/{id}/x{n}?all={payment}").unwrap();
        assert_eq!(path.render_path(&variables(), 3).unwrap(), "/api/a%2F..%2Fb%3F/x3?all=p2");
        assert_eq!(path.variables().collect::<Vec<_>>(), ["id", "n", "payment"]);
    }

    #[test]
    fn paths_are_valid_in_a_url() {
        for (text, expected) in [
            ("/a/{x}?b={y}", true),
            ("/", true),
            ("a", false),
            ("{x}", false),
            ("//host/", false),
            ("/a b", false),
            ("/a#{x}", false),
        ] {
            assert_eq!(Template::parse(text).unwrap().is_path(), expected, "{text}");
        }
    }

    #[test]
    fn one_variable_alone_has_its_own_type() {
        let body = json!({"amount": "{n}", "of": ["{n} of {id}", "{{n}}", 7.25, true], "id": "{payment}"});
        let body = Body::parse(body).unwrap().render(&variables(), 0).unwrap();
        assert_eq!(body, json!({"amount": 3, "of": ["3 of a/../b?", "{n}", 7.25, true], "id": "p1"}));
    }

    #[test]
    fn braces_without_counterpart_are_errors() {
        for text in ["{", "}", "a{b", "a}b", "{a{b}", "{{a}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert!(Template::parse("{x}").unwrap().render(&variables(), 0).unwrap_err().contains("{x}"));
    }
}
