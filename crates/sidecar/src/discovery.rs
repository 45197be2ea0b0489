//! What the deployment is, as far as its servers have said it, and whom to believe when they disagree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::Expected;
use crate::topology::{Answer, Kind, Membership};

/// The deployment, as it is known.
#[derive(Debug, Default)]
pub(crate) enum Deployment {
    /// Nobody has said.
    #[default]
    Unknown,
    /// A replica set, by the last account of it that was accepted.
    Set(Arc<Membership>),
    /// Servers that belong to no set.
    Alone,
    /// The routers of a sharded cluster.
    Mongos,
}

/// What the URI demands.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    /// The name of the replica set.
    pub(crate) rs: Option<String>,
    /// The one member that is named, and no other.
    pub(crate) direct: bool,
}

impl Deployment {
    /// Whether the answer comes from the deployment that is known, or, as long as none is, from one that may be it.
    pub(crate) fn is_confirmed_by(&self, answer: &Answer, demand: &Demand) -> bool {
        match (self, &answer.kind) {
            (Self::Set(known), Kind::Member(account)) if demand.direct => account.rs == known.rs,
            (Self::Set(known), Kind::Member(account)) => account.is_of_set(known),
            (Self::Unknown, Kind::Member(account)) => demand.rs.as_ref().is_none_or(|rs| *rs == account.rs),
            (Self::Alone, Kind::Alone) | (Self::Mongos, Kind::Mongos) => true,
            _ => false,
        }
    }

    /// Whether it is a member of the set that is known, if this speaks for it by itself.
    pub(crate) fn has_its_name(&self, answer: &Answer) -> bool {
        matches!((self, &answer.kind), (Self::Set(known), Kind::Member(account)) if account.rs == known.rs)
    }

    /// Takes what the answer says of a deployment that it has confirmed.
    pub(crate) fn learn(&mut self, answer: Answer) {
        let Kind::Member(account) = answer.kind else { return };
        match self {
            Self::Set(known) if !account.supersedes(known) => {}
            Self::Set(known) if known.members == account.members && known.arbiters == account.arbiters => {
                *known = Arc::new(account);
            }
            _ => {
                say(&account);
                *self = Self::Set(Arc::new(account));
            }
        }
    }

    /// Nobody has confirmed what is known. If those that did answer leave no doubt that it is something else by now,
    /// this is followed: whatever answers at every host of the URI, be it a set that was initiated anew under its name.
    /// Never another set than the URI demands, and never none instead of a set: a member that is started as a standalone
    /// for maintenance is one that is missing.
    pub(crate) fn reconsider(
        &mut self,
        answers: BTreeMap<String, Answer>,
        seeds: &[&String],
        demand: &Demand,
    ) {
        let at_every_seed = |is: &dyn Fn(&Kind) -> bool| {
            seeds.iter().all(|seed| answers.get(*seed).is_some_and(|answer| is(&answer.kind)))
        };
        let is_member = |kind: &Kind| matches!(kind, Kind::Member(_));
        match self {
            Self::Set(known) => {
                let rs = known.rs.clone();
                let same_name = |kind: &Kind| matches!(kind, Kind::Member(account) if account.rs == rs);
                if at_every_seed(&same_name) {
                    tracing::warn!(rs, "the replica set was initiated anew: following the new one");
                    self.follow(answers, |account| account.rs == rs);
                } else if demand.rs.is_none() && at_every_seed(&is_member) {
                    let now = answers.values().find_map(|answer| match &answer.kind {
                        Kind::Member(account) => Some(account.rs.clone()),
                        _ => None,
                    });
                    let Some(now) = now else { return };
                    if at_every_seed(&|kind| matches!(kind, Kind::Member(account) if account.rs == now)) {
                        tracing::warn!(
                            before = rs,
                            rs = now,
                            "another replica set answers at every host of the URI: following it"
                        );
                        self.follow(answers, |account| account.rs == now);
                    }
                }
            }
            // A set that is demanded, or any set, says so by itself: it confirms what is unknown.
            Self::Unknown if demand.rs.is_some() => {}
            Self::Unknown => {
                if answers.values().any(|answer| answer.kind == Kind::Mongos) {
                    *self = Self::Mongos;
                } else if answers.values().any(|answer| answer.kind == Kind::Alone) {
                    *self = Self::Alone;
                }
            }
            Self::Alone | Self::Mongos => {
                let is_other = |kind: &Kind| !matches!(kind, Kind::Alone | Kind::Mongos);
                if at_every_seed(&is_other) {
                    tracing::warn!("what was no member of a replica set is one now: following it");
                    *self = Self::Unknown;
                    self.follow(answers, |account| demand.rs.as_ref().is_none_or(|rs| *rs == account.rs));
                } else if at_every_seed(&|kind| *kind == Kind::Alone) {
                    *self = Self::Alone;
                } else if at_every_seed(&|kind| *kind == Kind::Mongos) {
                    *self = Self::Mongos;
                }
            }
        }
    }

    fn follow(&mut self, answers: BTreeMap<String, Answer>, is: impl Fn(&Membership) -> bool) {
        let accounts = answers.into_values().filter_map(|answer| match answer.kind {
            Kind::Member(account) if is(&account) => Some(account),
            _ => None,
        });
        let best = accounts.max_by(|one, other| {
            let ((one, version), (other, others)) = (one.weight(), other.weight());
            one.cmp(&other).then(version.total_cmp(&others))
        });
        if let Some(best) = best {
            say(&best);
            *self = Self::Set(Arc::new(best));
        }
    }

    /// The set's members, if it is to be followed beyond the hosts of the URI.
    pub(crate) fn followed(&self, demand: &Demand) -> Option<&Arc<Membership>> {
        match self {
            Self::Set(known) if !demand.direct && !known.members.is_empty() => Some(known),
            _ => None,
        }
    }

    /// Who has to answer at an address.
    pub(crate) fn expected_at(&self, address: &str, demand: &Demand) -> Expected {
        match self {
            Self::Set(known) => {
                let set = self.followed(demand).cloned();
                let me =
                    set.as_ref().filter(|set| set.members.contains_key(address)).map(|_| address.to_owned());
                Expected::Member { rs: known.rs.clone(), me, set }
            }
            Self::Unknown => match &demand.rs {
                Some(rs) => Expected::Member { rs: rs.clone(), me: None, set: None },
                None => Expected::Anyone,
            },
            Self::Alone => Expected::Alone,
            Self::Mongos => Expected::Mongos,
        }
    }
}

fn say(account: &Membership) {
    let members: Vec<_> = account.members.keys().map(String::as_str).collect();
    tracing::info!(rs = account.rs, members = members.join(","), "following the replica set");
    if account.beyond > 0 {
        tracing::warn!(
            rs = account.rs,
            beyond = account.beyond,
            "the set names more members than MongoDB allows: the first are followed"
        );
    }
}
