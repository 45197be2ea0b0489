//! The default write concern of transactions.

use mongodb::bson::{Bson, Document};
use mongodb::options::{Acknowledgment, WriteConcern};

use super::deployment::{QueryError, Reply, field, text};
use super::finding::Finding;

const CONCERN: &str = "write concern";
const URI: &str = "set w=majority in the URI, or omit w and use the default of the server; a weaker commit can be rolled back";
const SET: &str = "db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: \"majority\"}})";

/// The URI takes precedence over the default of the server.
pub(crate) fn default(uri: Option<&WriteConcern>, reply: &Reply) -> Finding {
    if uri.and_then(|uri| uri.journal) == Some(false) {
        return Finding::warn(
            CONCERN,
            "the URI has journal=false: acknowledged commits can be lost in a crash",
            "remove journal from the URI",
        );
    }
    match uri.and_then(|uri| uri.w.as_ref()) {
        Some(Acknowledgment::Majority) => return Finding::pass(CONCERN, "majority, by the URI"),
        Some(Acknowledgment::Nodes(0)) => {
            return Finding::fail(CONCERN, "w=0 in the URI: transactions reject it", URI);
        }
        Some(Acknowledgment::Nodes(nodes)) => {
            return Finding::warn(
                CONCERN,
                format!("w={nodes} in the URI, independent of the size of a majority"),
                URI,
            );
        }
        Some(_) => return Finding::pass(CONCERN, "a custom write concern of the set, by the URI"),
        None => {}
    }
    match reply {
        Ok(reply) => of_server(reply),
        Err(QueryError::CommandFailed(_)) => Finding::warn(
            CONCERN,
            "this server has no default: a commit waits for one member only",
            "set w=majority in the URI of the backend",
        ),
        Err(error) => Finding::warn(
            CONCERN,
            format!("unknown: {error}, and the URI sets none"),
            "set w=majority in the URI of the backend, or grant this user getDefaultRWConcern on the cluster",
        ),
    }
}

fn of_server(reply: &Document) -> Finding {
    let origin = text(reply, &["defaultWriteConcernSource"]).unwrap_or("the server");
    match field(reply, &["defaultWriteConcern", "w"]) {
        Some(Bson::String(w)) if w == "majority" => {
            let set_by = if origin == "implicit" {
                "the built-in default of the server"
            } else {
                "set by an administrator"
            };
            Finding::pass(CONCERN, format!("majority, {set_by}"))
        }
        Some(Bson::String(w)) => Finding::pass(CONCERN, format!("{w:?}, set by an administrator")),
        Some(w @ (Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_))) => Finding::warn(
            CONCERN,
            format!("w: {w}, {origin}: committed transactions can be rolled back after an election"),
            format!("{SET}, or set w=majority in the URI of the backend"),
        ),
        Some(_) | None => Finding::warn(
            CONCERN,
            "no default is set: a commit waits for one member only",
            format!("{SET}, or set w=majority in the URI of the backend"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Status;
    use super::*;

    #[test]
    fn write_concern_below_majority_is_a_warning() {
        let concern =
            |w: Bson| Ok(doc! {"defaultWriteConcern": {"w": w}, "defaultWriteConcernSource": "global"});
        for (reply, expected) in [
            (concern("majority".into()), Status::Pass),
            (concern(1.into()), Status::Warn),
            (Ok(doc! {}), Status::Warn),
            (Err(QueryError::PermissionDenied), Status::Warn),
            (Err(QueryError::CommandFailed("no such command".to_owned())), Status::Warn),
        ] {
            assert_eq!(default(None, &reply).status, expected, "{reply:?}");
        }
        let of = |w| WriteConcern::builder().w(w).build();
        let good = concern("majority".into());
        assert_eq!(default(Some(&of(Acknowledgment::Nodes(1))), &good).status, Status::Warn);
        assert_eq!(default(Some(&of(Acknowledgment::Nodes(0))), &good).status, Status::Fail);
        let bad = concern(1.into());
        assert_eq!(default(Some(&of(Acknowledgment::Majority)), &bad).status, Status::Pass);
        assert_eq!(
            default(Some(&WriteConcern::builder().journal(false).build()), &good).status,
            Status::Warn
        );
    }
}
