//! With which write concern a transaction commits, unless the code says another.

use mongodb::bson::{Bson, Document};
use mongodb::options::{Acknowledgment, WriteConcern};

use super::deployment::{Answer, Refusal, field, text};
use super::finding::Finding;

const CONCERN: &str = "write concern";
const URI: &str =
    "say w=majority in the URI, or leave it to the server; a commit with less can be rolled back";
const SET: &str = "db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: \"majority\"}})";

/// The URI's word goes before the server's.
pub(crate) fn default(uri: Option<&WriteConcern>, answer: &Answer) -> Finding {
    if uri.and_then(|uri| uri.journal) == Some(false) {
        return Finding::warn(
            CONCERN,
            "the URI says journal=false: a crash can undo what was acknowledged",
            "leave journal out of the URI",
        );
    }
    match uri.and_then(|uri| uri.w.as_ref()) {
        Some(Acknowledgment::Majority) => return Finding::pass(CONCERN, "majority, by the URI"),
        Some(Acknowledgment::Nodes(0)) => {
            return Finding::fail(CONCERN, "w=0 in the URI: transactions refuse it", URI);
        }
        Some(Acknowledgment::Nodes(nodes)) => {
            return Finding::warn(CONCERN, format!("w={nodes} in the URI, whatever a majority is"), URI);
        }
        Some(_) => return Finding::pass(CONCERN, "a name of the set's own, by the URI"),
        None => {}
    }
    match answer {
        Ok(answer) => of_server(answer),
        Err(Refusal::Refused(_)) => Finding::warn(
            CONCERN,
            "this server keeps no default: a commit waits for one member only",
            "say w=majority in the backend's URI",
        ),
        Err(refusal) => Finding::warn(
            CONCERN,
            format!("not known: {refusal}, and the URI says nothing"),
            "say w=majority in the backend's URI, or grant this user getDefaultRWConcern on the cluster",
        ),
    }
}

fn of_server(answer: &Document) -> Finding {
    let collector = text(answer, &["defaultWriteConcernSource"]).unwrap_or("the server");
    match field(answer, &["defaultWriteConcern", "w"]) {
        Some(Bson::String(w)) if w == "majority" => {
            let whose =
                if collector == "implicit" { "the server's own default" } else { "set by an administrator" };
            Finding::pass(CONCERN, format!("majority, {whose}"))
        }
        Some(Bson::String(w)) => Finding::pass(CONCERN, format!("{w:?}, set by an administrator")),
        Some(w @ (Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_))) => Finding::warn(
            CONCERN,
            format!("w: {w}, {collector}: an election can undo what was committed"),
            format!("{SET}, or w=majority in the backend's URI"),
        ),
        Some(_) | None => Finding::warn(
            CONCERN,
            "no default is set: a commit waits for one member only",
            format!("{SET}, or w=majority in the backend's URI"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn less_than_a_majority_is_a_warning() {
        let concern =
            |w: Bson| Ok(doc! {"defaultWriteConcern": {"w": w}, "defaultWriteConcernSource": "global"});
        for (answer, expected) in [
            (concern("majority".into()), Verdict::Pass),
            (concern(1.into()), Verdict::Warn),
            (Ok(doc! {}), Verdict::Warn),
            (Err(Refusal::Denied), Verdict::Warn),
            (Err(Refusal::Refused("no such command".to_owned())), Verdict::Warn),
        ] {
            assert_eq!(default(None, &answer).verdict, expected, "{answer:?}");
        }
        let of = |w| WriteConcern::builder().w(w).build();
        let good = concern("majority".into());
        assert_eq!(default(Some(&of(Acknowledgment::Nodes(1))), &good).verdict, Verdict::Warn);
        assert_eq!(default(Some(&of(Acknowledgment::Nodes(0))), &good).verdict, Verdict::Fail);
        let bad = concern(1.into());
        assert_eq!(default(Some(&of(Acknowledgment::Majority)), &bad).verdict, Verdict::Pass);
        assert_eq!(
            default(Some(&WriteConcern::builder().journal(false).build()), &good).verdict,
            Verdict::Warn
        );
    }
}
