//! What a scenario file must fulfill beyond its syntax.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use crate::commands::drill::scenario::file::{Race, ScenarioFile};
use crate::commands::drill::scenario::number::MAX_DECIMALS;
use crate::commands::drill::scenario::scope::{Kind, Lists, NO_PATH, Scope, is_name};
use crate::commands::drill::scenario::template::is_path;

/// What is wrong, and where in the text.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: Range<usize>,
    pub(super) what: String,
}

pub(super) type Checked = Result<(), Mistake>;

pub(super) fn ensure<T>(holds: bool, at: &Spanned<T>, what: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(Mistake { at: at.span(), what: what.into() }) }
}

impl ScenarioFile {
    pub(super) fn check(&self) -> Checked {
        let probe = &self.backend.probe;
        ensure(is_path(probe.get_ref()), probe, NO_PATH)?;
        let decimals = &self.backend.decimals;
        ensure(
            *decimals.get_ref() <= MAX_DECIMALS,
            decimals,
            format!("at most {MAX_DECIMALS} decimals are exact"),
        )?;
        ensure(
            !self.race.is_empty() || self.load.is_some(),
            probe,
            "the file needs a `[[race]]` or a `[load]`",
        )?;
        self.load.as_ref().map_or(Ok(()), |load| load.check(probe))?;
        let mut names = BTreeSet::new();
        for race in &self.race {
            let name = &race.name;
            ensure(
                is_name(name.get_ref(), '-'),
                name,
                "a name consists of lowercase letters, digits and hyphens, and begins with a letter",
            )?;
            let twice = format!("there are two scenarios with the name `{}`", name.get_ref());
            ensure(names.insert(name.get_ref()), name, twice)?;
            race.check()?;
        }
        Ok(())
    }
}

impl Race {
    fn check(&self) -> Checked {
        let mut scope = Scope::default();
        scope.known.insert("n".to_owned(), Kind::Number);
        for (name, expression) in in_order(&self.numbers) {
            scope.expression(expression)?;
            scope.declare(name, Kind::Number)?;
        }
        scope.template(&self.invariant, Lists::No)?;
        self.check_successes(&scope)?;
        scope.known.insert("round".to_owned(), Kind::Number);
        scope.known.insert("mark".to_owned(), Kind::Text);
        let mut rest = self.setup.as_slice();
        while let Some(first) = rest.first() {
            // The requests of a group have no order, so none can use what another captures.
            let group = match first.alternate {
                true => rest.iter().take_while(|request| request.alternate).count(),
                false => 1,
            };
            let (group, later) = rest.split_at(group);
            group.iter().try_for_each(|request| scope.set_up(request))?;
            for request in group {
                let kind = if request.times.is_some() { Kind::List } else { Kind::Captured };
                scope.captures(&request.capture, kind)?;
            }
            rest = later;
        }
        ensure(!self.burst.is_empty(), &self.name, "the scenario needs a `[[race.burst]]`")?;
        self.burst.iter().try_for_each(|request| scope.burst(request))?;
        for rejected in &self.rejected {
            let text = rejected.text.as_ref().or(rejected.prefix.as_ref());
            if let (Some(text), None) = (text, &rejected.json) {
                return ensure(false, text, "a text needs `json`, the pointer to it");
            }
            if let (Some(_), Some(prefix)) = (&rejected.text, &rejected.prefix) {
                return ensure(false, prefix, "`text` excludes `prefix`");
            }
        }
        for watch in &self.watch {
            watch.path.iter().try_for_each(|path| scope.path(path, Lists::No))?;
            watch.at_least.iter().try_for_each(|limit| scope.expression(limit))?;
        }
        scope.known.insert("succeeded".to_owned(), Kind::Number);
        for name in self.burst.iter().filter_map(|request| request.name.as_ref()) {
            let name = format!("{}.succeeded", name.get_ref());
            scope.known.insert(name, Kind::Number);
        }
        self.after.iter().try_for_each(|after| scope.after(after, &self.name))
    }

    fn check_successes(&self, scope: &Scope) -> Checked {
        let bounds = [&self.succeed_at_least, &self.succeed_at_most];
        let mut given = bounds.into_iter().flatten();
        match (&self.succeed, given.next()) {
            (Some(_), Some(bound)) => {
                ensure(false, bound, "`succeed` excludes `succeed_at_least` and `succeed_at_most`")?;
            }
            (None, None) => ensure(
                false,
                &self.name,
                "the scenario needs `succeed`, the number of requests that succeed, or `succeed_at_least` or `succeed_at_most`",
            )?,
            (Some(_), None) | (None, Some(_)) => {}
        }
        self.succeed.iter().chain(bounds.into_iter().flatten()).try_for_each(|bound| scope.expression(bound))
    }
}

/// The entries in the order of the file.
pub(crate) fn in_order<V>(map: &BTreeMap<Spanned<String>, V>) -> Vec<(&Spanned<String>, &V)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}
