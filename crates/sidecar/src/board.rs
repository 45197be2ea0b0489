//! All that is known now: the snapshots of every deployment that shares a page.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::consistency::Inspected;
use crate::reload::ReloadRecord;
use crate::snapshot::{MemberState, Snapshot};
use crate::web::Logins;

/// The deployments of one page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    snapshots: Arc<RwLock<Vec<Snapshot>>>,
    inspected: Arc<RwLock<Vec<Inspected>>>,
    reloads: Option<Arc<ReloadRecord>>,
    logins: Option<Arc<Logins>>,
}

impl Board {
    /// The board of the page that also says how reloads and logins went.
    pub(crate) fn of_main_page(reloads: Arc<ReloadRecord>, logins: Arc<Logins>) -> Self {
        Self { reloads: Some(reloads), logins: Some(logins), ..Self::default() }
    }

    /// From now on, these and no others.
    pub(crate) fn show(&self, snapshots: Vec<Snapshot>) {
        *self.snapshots.write().unwrap_or_else(PoisonError::into_inner) = snapshots;
    }

    /// From now on, the checks of these deployments and of no others.
    pub(crate) fn inspect(&self, inspected: Vec<Inspected>) {
        *self.inspected.write().unwrap_or_else(PoisonError::into_inner) = inspected;
    }

    /// The deployments that are under checks.
    pub(crate) fn inspected(&self) -> Vec<Inspected> {
        self.inspected.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The members of all deployments. One that two URIs lead to is there once: a page with a series twice is
    /// refused as a whole.
    pub(crate) fn members(&self) -> Vec<Arc<MemberState>> {
        let snapshots = self.snapshots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = BTreeSet::new();
        let members = snapshots.iter().flat_map(Snapshot::members);
        members.filter(|member| seen.insert(member.address().to_owned())).collect()
    }

    /// Whether each collector of each member has been asked once, however it ended.
    pub(crate) fn polled(&self) -> bool {
        let snapshots = self.snapshots.read().unwrap_or_else(PoisonError::into_inner).clone();
        snapshots.iter().all(|snapshot| {
            let members = snapshot.members();
            !members.is_empty() && members.iter().all(|member| member.polled())
        })
    }

    pub(crate) fn reloads(&self) -> Option<&ReloadRecord> {
        self.reloads.as_deref()
    }

    pub(crate) fn logins(&self) -> Option<&Logins> {
        self.logins.as_deref()
    }
}

/// The board of one deployment.
impl From<Snapshot> for Board {
    fn from(snapshot: Snapshot) -> Self {
        Self { snapshots: Arc::new(RwLock::new(vec![snapshot])), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_two_uris_lead_to_is_there_once() {
        let member = |address: &str| {
            let snapshot = Snapshot::default();
            let names = ["server_status"].into_iter();
            snapshot.insert(Arc::new(MemberState::new(address.into(), "rs0".into(), names)));
            snapshot
        };
        let board = Board::default();
        board.show(vec![member("db2:1"), member("db1:1"), member("db2:1")]);
        let members = board.members();
        let addresses: Vec<_> = members.iter().map(|member| member.address()).collect();
        assert_eq!(addresses, ["db2:1", "db1:1"]);
    }
}
