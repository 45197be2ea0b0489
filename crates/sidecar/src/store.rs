//! The store: the newest sample sets of all members of the deployments that share a metrics page.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::checks::DeploymentCheckResults;
use crate::reload::ReloadStatus;
use crate::snapshot::{MemberState, Snapshot};
use crate::web::Logins;

/// The deployments of one metrics page.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetricStore {
    snapshots: Arc<RwLock<Vec<Snapshot>>>,
    check_results: Arc<RwLock<Vec<DeploymentCheckResults>>>,
    reloads: Option<Arc<ReloadStatus>>,
    logins: Option<Arc<Logins>>,
    revision: &'static str,
}

impl MetricStore {
    /// The store of the main page, which also exports the results of reloads and logins.
    pub(crate) fn for_main_page(reloads: Arc<ReloadStatus>, logins: Arc<Logins>) -> Self {
        Self { reloads: Some(reloads), logins: Some(logins), ..Self::default() }
    }

    /// The same store of a program that was built from this commit.
    pub(crate) fn with_revision(self, revision: &'static str) -> Self {
        Self { revision, ..self }
    }

    /// Replaces the deployments.
    pub(crate) fn publish(&self, snapshots: Vec<Snapshot>) {
        *self.snapshots.write().unwrap_or_else(PoisonError::into_inner) = snapshots;
    }

    /// Replaces the deployments whose check results are exported.
    pub(crate) fn set_check_results(&self, check_results: Vec<DeploymentCheckResults>) {
        *self.check_results.write().unwrap_or_else(PoisonError::into_inner) = check_results;
    }

    /// The deployments whose checks run.
    pub(crate) fn check_results(&self) -> Vec<DeploymentCheckResults> {
        self.check_results.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The members of all deployments. A member that two URIs lead to is listed once: Prometheus rejects a page
    /// with duplicate series.
    pub(crate) fn members(&self) -> Vec<Arc<MemberState>> {
        let snapshots = self.snapshots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = BTreeSet::new();
        let members = snapshots.iter().flat_map(Snapshot::members);
        members.filter(|member| seen.insert(member.address().to_owned())).collect()
    }

    /// Whether each collector of each member has been polled once, successfully or not.
    pub(crate) fn all_polled(&self) -> bool {
        let snapshots = self.snapshots.read().unwrap_or_else(PoisonError::into_inner).clone();
        snapshots.iter().all(|snapshot| {
            let members = snapshot.members();
            !members.is_empty() && members.iter().all(|member| member.has_been_polled())
        })
    }

    pub(crate) fn revision(&self) -> &'static str {
        self.revision
    }

    pub(crate) fn reloads(&self) -> Option<&ReloadStatus> {
        self.reloads.as_deref()
    }

    pub(crate) fn logins(&self) -> Option<&Logins> {
        self.logins.as_deref()
    }
}

/// The store of one deployment.
impl From<Snapshot> for MetricStore {
    fn from(snapshot: Snapshot) -> Self {
        Self { snapshots: Arc::new(RwLock::new(vec![snapshot])), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_of_two_uris_is_listed_once() {
        let member = |address: &str| {
            let snapshot = Snapshot::default();
            let names = [].into_iter();
            snapshot.insert(Arc::new(MemberState::new(address.into(), "rs0".into(), names)));
            snapshot
        };
        let store = MetricStore::default();
        store.publish(vec![member("db2:1"), member("db1:1"), member("db2:1")]);
        let members = store.members();
        let addresses: Vec<_> = members.iter().map(|member| member.address()).collect();
        assert_eq!(addresses, ["db2:1", "db1:1"]);
    }
}
