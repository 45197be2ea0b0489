//! The privileges that a role needs for the enabled collectors.

use std::fmt;

use super::settings::CollectorSettings;

/// Actions on a resource, in MongoDB's terms. The `Display` form is an element of `privileges` in `createRole`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privilege {
    /// The resource.
    pub resource: Resource,
    /// The actions, sorted.
    pub actions: Vec<&'static str>,
}

/// The resource of a privilege.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// The whole deployment.
    Cluster,
    /// One collection.
    Collection {
        /// Its database.
        database: String,
        /// Its name.
        collection: String,
    },
}

impl Privilege {
    pub(crate) fn on_cluster(action: &'static str) -> Self {
        Self { resource: Resource::Cluster, actions: vec![action] }
    }

    /// The privilege to read a collection.
    #[must_use]
    pub fn find(database: &str, collection: &str) -> Self {
        let resource =
            Resource::Collection { database: database.to_owned(), collection: collection.to_owned() };
        Self { resource, actions: vec!["find"] }
    }

    /// Merges privileges, so that each resource is listed once, sorted.
    #[must_use]
    pub fn merged(privileges: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for privilege in privileges {
            match merged.iter_mut().find(|known| known.resource == privilege.resource) {
                Some(known) => known.actions.extend(privilege.actions),
                None => merged.push(privilege),
            }
        }
        for privilege in &mut merged {
            privilege.actions.sort_unstable();
            privilege.actions.dedup();
        }
        merged.sort_by(|one, other| one.resource.cmp(&other.resource));
        merged
    }
}

/// The privileges that the enabled collectors need, each resource once.
///
/// ```
/// let privileges = txnscope_sidecar::privileges(&txnscope_sidecar::CollectorSettings::default());
/// assert_eq!(
///     privileges[0].to_string(),
///     r#"{"resource": {"cluster": true}, "actions": ["getParameter", "inprog", "replSetGetStatus", "serverStatus"]}"#,
/// );
/// ```
#[must_use]
pub fn privileges(settings: &CollectorSettings) -> Vec<Privilege> {
    Privilege::merged(privileges_by_collector(settings).into_iter().map(|(_, privilege)| privilege))
}

/// The privileges by collector.
#[must_use]
pub fn privileges_by_collector(settings: &CollectorSettings) -> Vec<(&'static str, Privilege)> {
    let mut all = Vec::new();
    for collector in super::enabled_collectors(settings).iter() {
        all.extend(collector.privileges().into_iter().map(|privilege| (collector.name(), privilege)));
    }
    all
}

/// JSON, which `mongosh` accepts.
impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"resource\": ")?;
        match &self.resource {
            Resource::Cluster => write!(f, "{{\"cluster\": true}}")?,
            Resource::Collection { database, collection } => write!(
                f,
                "{{\"db\": {}, \"collection\": {}}}",
                serde_json::json!(database),
                serde_json::json!(collection)
            )?,
        }
        let actions: Vec<_> = self.actions.iter().map(|action| format!("\"{action}\"")).collect();
        write!(f, ", \"actions\": [{}]}}", actions.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_follow_enabled_collectors() {
        let mut settings = CollectorSettings::default();
        settings.current_op.enabled = false;
        settings.parameters.enabled = false;
        settings.slow_transactions.enabled = true;
        settings.profile.enabled = true;
        settings.profile.databases = vec!["sh\u{e4}p".to_owned(), "bank".to_owned()];
        let texts: Vec<_> = privileges(&settings).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"{"resource": {"cluster": true}, "actions": ["getLog", "replSetGetStatus", "serverStatus"]}"#,
                r#"{"resource": {"db": "bank", "collection": "system.profile"}, "actions": ["find"]}"#,
                "{\"resource\": {\"db\": \"sh\u{e4}p\", \"collection\": \"system.profile\"}, \"actions\": [\"find\"]}",
            ],
        );
        assert!(texts.iter().all(|text| serde_json::from_str::<serde_json::Value>(text).is_ok()));
    }
}
