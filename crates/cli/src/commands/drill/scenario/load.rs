//! The section of the scenario file with the load.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use crate::commands::drill::scenario::check::{Checked, ensure};
use crate::commands::drill::scenario::file::{Headers, Method, SetUp, Statuses, post, success_statuses};
use crate::commands::drill::scenario::scope::{Kind, Lists, Scope};
use crate::commands::drill::scenario::template::{Body, Template};

/// The maximum weight of a request.
const MAX_WEIGHT: usize = 1_000;

/// The fixtures and the requests of a load test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    #[serde(default = "success_statuses")]
    pub(crate) success_status: Statuses,
    #[serde(default = "rejected_statuses")]
    pub(crate) rejected_status: Statuses,
    #[serde(default)]
    pub(crate) setup: Vec<SetUp>,
    #[serde(default)]
    pub(crate) request: Vec<LoadRequest>,
}

/// A kind of request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// The name of the operation in the report.
    pub(crate) name: Spanned<String>,
    /// How many of the requests are of this kind, in proportion to the others.
    pub(crate) weight: Option<Spanned<usize>>,
    /// Variables with a random value of a list. Several of one list have different values.
    #[serde(default)]
    pub(crate) pick: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Variables with the next value of a list.
    #[serde(default)]
    pub(crate) take: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default = "post")]
    pub(crate) method: Method,
    pub(crate) path: Spanned<Template>,
    #[serde(default)]
    pub(crate) headers: Headers,
    pub(crate) body: Option<Spanned<Body>>,
}

impl LoadRequest {
    pub(crate) fn weight(&self) -> usize {
        self.weight.as_ref().map_or(1, |weight| *weight.get_ref())
    }
}

impl Load {
    pub(super) fn check(&self, file: &Spanned<String>) -> Checked {
        ensure(!self.request.is_empty(), file, "the load needs a `[[load.request]]`")?;
        let mut scope = Scope::default();
        for name in ["entities", "arrivals"] {
            scope.known.insert(name.to_owned(), Kind::Number);
        }
        scope.known.insert("mark".to_owned(), Kind::Text);
        for request in &self.setup {
            ensure(!request.alternate, &request.path, "`alternate` belongs to a race, which has rounds")?;
            scope.set_up(request)?;
            let kind = if request.times.is_some() { Kind::List } else { Kind::Captured };
            scope.captures(&request.capture, kind)?;
        }
        let mut names = BTreeSet::new();
        for request in &self.request {
            let name = &request.name;
            ensure(names.insert(name.get_ref()), name, "there are two requests with this name")?;
            if let Some(weight) = &request.weight {
                let is_valid = (1..=MAX_WEIGHT).contains(weight.get_ref());
                ensure(is_valid, weight, format!("a weight is a number from 1 to {MAX_WEIGHT}"))?;
            }
            let mut scope = scope.clone();
            scope.known.insert("arrival".to_owned(), Kind::Number);
            for (name, list) in request.pick.iter().chain(&request.take) {
                let is_list = scope.kind(list.get_ref(), list)? == Kind::List;
                let what = format!(
                    "`{}` is no list: it needs a set-up with `times` that captures it",
                    list.get_ref()
                );
                ensure(is_list, list, what)?;
                scope.declare(name, Kind::Captured)?;
            }
            scope.request(&request.path, &request.headers, request.body.as_ref(), Lists::No)?;
        }
        Ok(())
    }
}

fn rejected_statuses() -> Statuses {
    Statuses(vec![400, 409, 422])
}
