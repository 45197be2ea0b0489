//! The applications that are connected to the deployment: whether they have names, and their drivers.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};

use super::deployment::{Deployment, QueryError, Reply, field, text};
use super::finding::Finding;
use crate::client::services::prometheus::plain;

const NAMES: &str = "application names";
/// The most kinds of clients that are read.
const MOST: i32 = 1_000;

/// The kinds of clients, each with its driver and its application.
pub(crate) async fn connected(deployment: &Deployment) -> Reply {
    let pipeline = vec![
        doc! {"$currentOp": {"allUsers": true, "idleConnections": true, "localOps": true}},
        doc! {"$group": {"_id": {"application": "$appName", "driver": "$clientMetadata.driver.name"}}},
        doc! {"$limit": MOST},
    ];
    deployment.run(doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": MOST}}).await
}

/// A kind of client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) driver: String,
    pub(crate) application: String,
}

/// The clients in the reply, without txnscope's own and without the members of the set.
pub(crate) fn clients(reply: &Document) -> BTreeSet<Client> {
    let batch = match field(reply, &["cursor", "firstBatch"]) {
        Some(Bson::Array(batch)) => batch.as_slice(),
        _ => &[],
    };
    let client = |kind: &Bson| {
        let kind = kind.as_document()?;
        let of = |name| text(kind, &["_id", name]).unwrap_or_default().to_owned();
        Some(Client { driver: of("driver"), application: of("application") })
    };
    let ours = |client: &Client| client.application.starts_with("txnscope");
    let member = |driver: &str| {
        driver.is_empty() || driver.starts_with("NetworkInterface") || driver.starts_with("MongoDB Internal")
    };
    batch.iter().filter_map(client).filter(|client| !ours(client) && !member(&client.driver)).collect()
}

/// Whether each client has a name. The metrics by application have the name of the driver in its place.
pub(crate) fn names(reply: &Reply) -> Finding {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return super::unknown(NAMES, error, "inprog"),
    };
    let clients = clients(reply);
    let unnamed: BTreeSet<String> = clients
        .iter()
        .filter(|client| client.application.is_empty())
        .map(|client| plain(&client.driver))
        .collect();
    if !unnamed.is_empty() {
        let drivers: Vec<String> = unnamed.into_iter().collect();
        return Finding::warn(
            NAMES,
            format!(
                "clients of {} have none: metrics by application show the driver in place of it",
                drivers.join(", ")
            ),
            "add appName=NAME to the URI of each backend",
        );
    }
    let named: BTreeSet<String> = clients.iter().map(|client| plain(&client.application)).collect();
    let named: Vec<String> = named.into_iter().collect();
    if named.is_empty() {
        return Finding::pass(NAMES, "no other client is connected now");
    }
    Finding::pass(NAMES, named.join(", "))
}

/// The default size of a pool, by the driver that has the smallest of those that are connected.
pub(crate) fn smallest_default(reply: &Result<Document, QueryError>) -> Option<(u32, String)> {
    let clients = clients(reply.as_ref().ok()?);
    clients.into_iter().map(|client| (default_pool(&client.driver), client.driver)).min()
}

/// The default of `maxPoolSize`.
fn default_pool(driver: &str) -> u32 {
    if driver.starts_with("mongo-rust-driver") {
        10
    } else if driver.starts_with("mongo-ruby-driver") {
        20
    } else {
        100
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn reply(kinds: &[(&str, &str)]) -> Reply {
        let kind = |(driver, application): &(&str, &str)| {
            let mut id = doc! {"driver": *driver};
            if !application.is_empty() {
                id.insert("application", *application);
            }
            Bson::from(doc! {"_id": id})
        };
        Ok(doc! {"cursor": {"firstBatch": kinds.iter().map(kind).collect::<Vec<_>>()}})
    }

    const MONGOOSE: (&str, &str) = ("nodejs|Mongoose", "");

    #[test]
    fn client_without_a_name_is_a_warning_that_names_its_driver() {
        let finding = names(&reply(&[MONGOOSE, ("mongo-rust-driver", "shop")]));
        assert!(
            finding.status == Status::Warn && finding.evidence.contains("nodejs|Mongoose"),
            "{finding:?}"
        );
        let own =
            [("mongo-rust-driver", "txnscope-preflight"), ("NetworkInterfaceTL-ReplNetwork", ""), ("", "")];
        assert_eq!(names(&reply(&own)).evidence, "no other client is connected now");
        assert_eq!(names(&reply(&[("nodejs|Mongoose", "shop")])), Finding::pass(NAMES, "shop"));
        assert_eq!(names(&Err(QueryError::PermissionDenied)).status, Status::Warn);
    }

    #[test]
    fn default_pool_is_that_of_the_connected_driver() {
        assert_eq!(smallest_default(&reply(&[MONGOOSE])), Some((100, "nodejs|Mongoose".to_owned())));
        let both = [MONGOOSE, ("mongo-rust-driver", "shop")];
        assert_eq!(smallest_default(&reply(&both)), Some((10, "mongo-rust-driver".to_owned())));
        assert_eq!(smallest_default(&reply(&[])), None);
        assert_eq!(smallest_default(&Err(QueryError::PermissionDenied)), None);
    }
}
