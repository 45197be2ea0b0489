//! The sections and keys of the scenario file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use crate::commands::drill::scenario::expression::Expression;
use crate::commands::drill::scenario::load::Load;
use crate::commands::drill::scenario::template::{Body, Template};

/// A scenario file whose keys and types are valid.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScenarioFile {
    pub(crate) backend: Backend,
    #[serde(default)]
    pub(crate) race: Vec<Race>,
    pub(crate) load: Option<Load>,
}

/// What holds for all requests.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    /// A path whose GET changes nothing. It is requested before anything else, and to open connections.
    pub(crate) probe: Spanned<String>,
    /// The statuses of the response to it.
    #[serde(default = "probe_statuses")]
    pub(crate) probe_status: Statuses,
    /// Where an error response has its message.
    #[serde(default = "error_pointer")]
    pub(crate) error: JsonPointer,
    /// The most decimals that an amount may have.
    #[serde(default = "two")]
    pub(crate) decimals: Spanned<usize>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Race {
    pub(crate) name: Spanned<String>,
    pub(crate) invariant: Spanned<Template>,
    /// Numbers that depend on the number of concurrent requests.
    #[serde(default)]
    pub(crate) numbers: BTreeMap<Spanned<String>, Spanned<Expression>>,
    /// How many requests must succeed, no more and no fewer.
    pub(crate) succeed: Option<Spanned<Expression>>,
    pub(crate) succeed_at_least: Option<Spanned<Expression>>,
    pub(crate) succeed_at_most: Option<Spanned<Expression>>,
    #[serde(default = "success_statuses")]
    pub(crate) success_status: Statuses,
    #[serde(default)]
    pub(crate) setup: Vec<SetUp>,
    #[serde(default)]
    pub(crate) burst: Vec<BurstRequest>,
    #[serde(default)]
    pub(crate) rejected: Vec<Rejected>,
    #[serde(default)]
    pub(crate) watch: Vec<Watch>,
    #[serde(default)]
    pub(crate) after: Vec<After>,
}

/// A request that creates data, before the burst.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetUp {
    #[serde(default = "post")]
    pub(crate) method: Method,
    pub(crate) path: Spanned<Template>,
    #[serde(default)]
    pub(crate) headers: Headers,
    pub(crate) body: Option<Spanned<Body>>,
    #[serde(default = "success_statuses")]
    pub(crate) status: Statuses,
    #[serde(default)]
    pub(crate) capture: Captures,
    /// How often it is sent. What it captures is then a list.
    pub(crate) times: Option<Spanned<Expression>>,
    /// Whether it and its neighbors with this key are sent in the reverse order in every second round.
    #[serde(default)]
    pub(crate) alternate: bool,
}

/// A request of the burst.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BurstRequest {
    /// Its successes are the variable `{name.succeeded}`.
    pub(crate) name: Option<Spanned<String>>,
    #[serde(default = "post")]
    pub(crate) method: Method,
    pub(crate) path: Spanned<Template>,
    #[serde(default)]
    pub(crate) headers: Headers,
    pub(crate) body: Option<Spanned<Body>>,
    /// How many of it are sent at once: the number of concurrent requests unless given.
    pub(crate) times: Option<Spanned<Expression>>,
    /// Whether the scenario is not offered if every response to it is 404 or 405.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// How a request of the burst may be rejected.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rejected {
    pub(crate) status: Statuses,
    pub(crate) json: Option<JsonPointer>,
    pub(crate) text: Option<Spanned<String>>,
    pub(crate) prefix: Option<Spanned<String>>,
}

/// A number that must not fall below a limit at any time of the burst.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watch {
    /// The path of a GET that reads it. Without a path, it is read in the successful responses of the burst.
    pub(crate) path: Option<Spanned<Template>>,
    pub(crate) json: JsonPointer,
    pub(crate) at_least: Option<Spanned<Expression>>,
}

/// What must hold after the burst.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
    #[serde(default = "get")]
    pub(crate) method: Method,
    pub(crate) path: Option<Spanned<Template>>,
    #[serde(default)]
    pub(crate) headers: Headers,
    pub(crate) body: Option<Spanned<Body>>,
    #[serde(default = "ok")]
    pub(crate) status: Statuses,
    #[serde(default)]
    pub(crate) capture: Captures,
    /// The value that is compared: of the response, or computed.
    pub(crate) json: Option<JsonPointer>,
    pub(crate) value: Option<Spanned<Expression>>,
    pub(crate) text: Option<Spanned<Template>>,
    /// The variable that counts the responses with the text.
    pub(crate) count: Option<Spanned<String>>,
    pub(crate) equals: Option<Spanned<Expression>>,
    pub(crate) at_least: Option<Spanned<Expression>>,
    pub(crate) at_most: Option<Spanned<Expression>>,
    /// What the value is, in a violation: "the balance".
    pub(crate) what: Option<Spanned<Template>>,
    /// The whole sentence of a violation.
    pub(crate) message: Option<Spanned<Template>>,
}

/// The names of headers, and their values.
pub(crate) type Headers = BTreeMap<Spanned<String>, Spanned<Template>>;
/// The names of variables, and where a response has their values.
pub(crate) type Captures = BTreeMap<Spanned<String>, JsonPointer>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonPointer(pub(crate) String);

impl<'de> Deserialize<'de> for JsonPointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() && !text.starts_with('/') {
            return Err(de::Error::custom("a JSON pointer begins with a slash, as in /account/balance"));
        }
        Ok(Self(text))
    }
}

/// One status, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statuses(pub(crate) Vec<u16>);

impl Statuses {
    pub(crate) fn contains(&self, status: http::StatusCode) -> bool {
        self.0.contains(&status.as_u16())
    }
}

/// `200 or 201`
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&texts.join(" or "))
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status or a list of statuses")
            }

            fn visit_i64<E: de::Error>(self, status: i64) -> Result<Statuses, E> {
                match u16::try_from(status) {
                    Ok(status @ 200..=599) => Ok(Statuses(vec![status])),
                    _ => Err(E::custom("a status is a number from 200 to 599")),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
                let mut statuses = Vec::new();
                while let Some(Statuses(status)) = list.next_element()? {
                    statuses.extend(status);
                }
                if statuses.is_empty() {
                    return Err(de::Error::custom("the list of statuses is empty"));
                }
                Ok(Statuses(statuses))
            }
        }
        deserializer.deserialize_any(One)
    }
}

fn probe_statuses() -> Statuses {
    Statuses(vec![200, 204, 400, 404])
}

pub(super) fn success_statuses() -> Statuses {
    Statuses(vec![200, 201])
}

fn ok() -> Statuses {
    Statuses(vec![200])
}

fn error_pointer() -> JsonPointer {
    JsonPointer("/error".to_owned())
}

fn two() -> Spanned<usize> {
    Spanned::new(0..0, 2)
}

const fn get() -> Method {
    Method::Get
}

pub(super) const fn post() -> Method {
    Method::Post
}
