//! The known state of a deployment, and which server to believe when servers disagree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::Expected;
use crate::topology::{HelloReply, ReplicaSetView, ServerKind};

/// The deployment, as far as it is known.
#[derive(Debug, Default)]
pub(crate) enum KnownDeployment {
    /// No server has answered yet.
    #[default]
    Unknown,
    /// A replica set, with the last accepted view of its members.
    Set(Arc<ReplicaSetView>),
    /// Standalone servers.
    Standalone,
    /// Mongos of a sharded cluster.
    Mongos,
}

/// Requirements of the URI.
#[derive(Debug, Clone)]
pub(crate) struct UriRequirements {
    /// The name of the replica set.
    pub(crate) rs: Option<String>,
    /// Monitor only the member that the URI names.
    pub(crate) direct: bool,
}

impl KnownDeployment {
    /// Whether a reply comes from the known deployment, or, while none is known, from one that meets the
    /// requirements.
    pub(crate) fn is_confirmed_by(&self, reply: &HelloReply, requirements: &UriRequirements) -> bool {
        match (self, &reply.kind) {
            (Self::Set(known), ServerKind::Member(view)) if requirements.direct => view.rs == known.rs,
            (Self::Set(known), ServerKind::Member(view)) => view.is_same_set(known),
            (Self::Unknown, ServerKind::Member(view)) => {
                requirements.rs.as_ref().is_none_or(|rs| *rs == view.rs)
            }
            (Self::Standalone, ServerKind::Standalone) | (Self::Mongos, ServerKind::Mongos) => true,
            _ => false,
        }
    }

    /// Whether a reply comes from a member of a set with the same name.
    pub(crate) fn has_same_set_name(&self, reply: &HelloReply) -> bool {
        matches!((self, &reply.kind), (Self::Set(known), ServerKind::Member(view)) if view.rs == known.rs)
    }

    /// Takes over what a confirmed reply says about the deployment.
    pub(crate) fn update(&mut self, reply: HelloReply) {
        let ServerKind::Member(view) = reply.kind else { return };
        match self {
            Self::Set(known) if !view.supersedes(known) => {}
            Self::Set(known) if known.members == view.members && known.arbiters == view.arbiters => {
                *known = Arc::new(view);
            }
            _ => {
                log_set(&view);
                *self = Self::Set(Arc::new(view));
            }
        }
    }

    /// No reply has confirmed the known deployment. If the replies leave no doubt that it is another one now,
    /// switches to that: every host of the URI must answer for it, for example after the set was initiated again
    /// under its name. Never switches to another set than the URI requires, nor from a set to none: a member
    /// that is restarted as a standalone for maintenance is missing, and does not replace the set.
    pub(crate) fn reconsider(
        &mut self,
        replies: BTreeMap<String, HelloReply>,
        seeds: &[&String],
        requirements: &UriRequirements,
    ) {
        let at_every_seed = |is: &dyn Fn(&ServerKind) -> bool| {
            seeds.iter().all(|seed| replies.get(*seed).is_some_and(|reply| is(&reply.kind)))
        };
        let is_member = |kind: &ServerKind| matches!(kind, ServerKind::Member(_));
        match self {
            Self::Set(known) => {
                let rs = known.rs.clone();
                let same_name = |kind: &ServerKind| matches!(kind, ServerKind::Member(view) if view.rs == rs);
                if at_every_seed(&same_name) {
                    tracing::warn!(rs, "the replica set was initiated again: monitoring the new one");
                    self.adopt_newest(replies, |view| view.rs == rs);
                } else if requirements.rs.is_none() && at_every_seed(&is_member) {
                    let now = replies.values().find_map(|reply| match &reply.kind {
                        ServerKind::Member(view) => Some(view.rs.clone()),
                        _ => None,
                    });
                    let Some(now) = now else { return };
                    if at_every_seed(&|kind| matches!(kind, ServerKind::Member(view) if view.rs == now)) {
                        tracing::warn!(
                            before = rs,
                            rs = now,
                            "another replica set answers at every host of the URI: monitoring it"
                        );
                        self.adopt_newest(replies, |view| view.rs == now);
                    }
                }
            }
            // A set that meets the requirements confirms the unknown deployment by itself.
            Self::Unknown if requirements.rs.is_some() => {}
            Self::Unknown => {
                if replies.values().any(|reply| reply.kind == ServerKind::Mongos) {
                    *self = Self::Mongos;
                } else if replies.values().any(|reply| reply.kind == ServerKind::Standalone) {
                    *self = Self::Standalone;
                }
            }
            Self::Standalone | Self::Mongos => {
                let is_other =
                    |kind: &ServerKind| !matches!(kind, ServerKind::Standalone | ServerKind::Mongos);
                if at_every_seed(&is_other) {
                    tracing::warn!("standalone servers are members of a replica set now: monitoring it");
                    *self = Self::Unknown;
                    self.adopt_newest(replies, |view| {
                        requirements.rs.as_ref().is_none_or(|rs| *rs == view.rs)
                    });
                } else if at_every_seed(&|kind| *kind == ServerKind::Standalone) {
                    *self = Self::Standalone;
                } else if at_every_seed(&|kind| *kind == ServerKind::Mongos) {
                    *self = Self::Mongos;
                }
            }
        }
    }

    fn adopt_newest(&mut self, replies: BTreeMap<String, HelloReply>, is: impl Fn(&ReplicaSetView) -> bool) {
        let views = replies.into_values().filter_map(|reply| match reply.kind {
            ServerKind::Member(view) if is(&view) => Some(view),
            _ => None,
        });
        let best = views.max_by(|one, other| {
            let ((one, version), (other, others)) = (one.priority(), other.priority());
            one.cmp(&other).then(version.total_cmp(&others))
        });
        if let Some(best) = best {
            log_set(&best);
            *self = Self::Set(Arc::new(best));
        }
    }

    /// The set, if its members are monitored beyond the hosts of the URI.
    pub(crate) fn monitored_set(&self, requirements: &UriRequirements) -> Option<&Arc<ReplicaSetView>> {
        match self {
            Self::Set(known) if !requirements.direct && !known.members.is_empty() => Some(known),
            _ => None,
        }
    }

    /// The server that must answer at an address.
    pub(crate) fn expected_at(&self, address: &str, requirements: &UriRequirements) -> Expected {
        match self {
            Self::Set(known) => {
                let set = self.monitored_set(requirements).cloned();
                let me =
                    set.as_ref().filter(|set| set.members.contains_key(address)).map(|_| address.to_owned());
                Expected::Member { rs: known.rs.clone(), me, set }
            }
            Self::Unknown => match &requirements.rs {
                Some(rs) => Expected::Member { rs: rs.clone(), me: None, set: None },
                None => Expected::Anyone,
            },
            Self::Standalone => Expected::Standalone,
            Self::Mongos => Expected::Mongos,
        }
    }
}

fn log_set(view: &ReplicaSetView) {
    let members: Vec<_> = view.members.keys().map(String::as_str).collect();
    tracing::info!(rs = view.rs, members = members.join(","), "monitoring the replica set");
    if view.over_limit > 0 {
        tracing::warn!(
            rs = view.rs,
            over_limit = view.over_limit,
            "the set lists more members than MongoDB allows: only the first are monitored"
        );
    }
}
