//! The newest model of each member, written by its collector and read by the views.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::history::{History, HistoryPoint};
use super::model::LiveModel;
use super::rates::{Counters, Rates, rates};
use crate::topology::Role;

/// The newest model of each member of a deployment.
#[derive(Debug, Clone)]
pub(crate) struct LiveStore {
    members: Arc<Mutex<BTreeMap<String, LiveMember>>>,
    /// The share of one core of a member that polling may take.
    max_load: f64,
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct LiveMember {
    pub(super) role: Option<Role>,
    pub(super) at: Instant,
    pub(super) model: Arc<LiveModel>,
    pub(super) open: Option<f64>,
    pub(super) rates: Option<Rates>,
    pub(super) history: History,
    counters: Option<Counters>,
}

impl LiveStore {
    pub(super) fn new(max_load: f64) -> Self {
        Self { members: Arc::default(), max_load }
    }

    /// The next poll is at least this many times the duration of the last one later: a poll takes no more than one core of the
    /// server.
    pub(super) fn pause_factor(&self) -> f64 {
        1.0 / self.max_load.clamp(1e-4, 1.0)
    }

    /// Replaces the model of a member, and adds a point to its history.
    pub(super) fn publish(
        &self,
        member: &str,
        role: Option<Role>,
        model: LiveModel,
        counters: Option<Counters>,
    ) {
        let at = Instant::now();
        let mut members = self.lock();
        let before = members.remove(member);
        let (counters_before, mut history) =
            before.map_or_else(Default::default, |before| (before.counters, before.history));
        let rates =
            counters_before.as_ref().zip(counters.as_ref()).and_then(|(before, now)| rates(before, now));
        let (open, waiting) = (model.transactions.len(), model.waiting.len());
        history.push(HistoryPoint { at, open, waiting, rates });
        let open = counters.and_then(|counters| counters.open);
        let model = Arc::new(model);
        members.insert(member.to_owned(), LiveMember { role, at, model, open, rates, history, counters });
    }

    /// How many points the history of a member has.
    pub(super) fn points(&self, member: &str) -> usize {
        self.lock().get(member).map_or(0, |of| of.history.points().len())
    }

    /// When each member was polled last.
    pub(super) fn polled(&self) -> BTreeMap<String, Instant> {
        self.lock().iter().map(|(member, live)| (member.clone(), live.at)).collect()
    }

    /// Keeps only the members that a condition holds for, and returns them.
    pub(super) fn retain(&self, is_member: impl Fn(&str) -> bool) -> BTreeMap<String, LiveMember> {
        let mut members = self.lock();
        members.retain(|member, _| is_member(member));
        members.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, LiveMember>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two stores are the same if they are one: the settings of the collectors are compared.
impl PartialEq for LiveStore {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.members, &other.members)
    }
}

impl Eq for LiveStore {}
