//! Whether the transaction that an operator has seen is the one that is open now.

use mongodb::bson::{Binary, Bson, Document};

use super::ending::{EndOutcome, TransactionId};
use super::operation::{integer, started_at};
use crate::decode::{Field, field, number};

/// An open transaction, as the server lists it right before it is ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The digest of the user of its session.
    pub(super) user: Option<Binary>,
    pub(super) txn_number: i64,
    started_at: Option<String>,
    prepared: bool,
    /// The session is one that the server has made for a command of a client.
    internal: bool,
}

impl Found {
    /// `None` if it has no number: it could not be identified.
    pub(super) fn decode(document: &Document) -> Option<Self> {
        let has = |path: &[&str]| !matches!(field(document, path), Field::Missing);
        Some(Self {
            user: match field(document, &["lsid", "uid"]) {
                Field::Value(Bson::Binary(user)) => Some(user.clone()),
                _ => None,
            },
            txn_number: integer(document, &["transaction", "parameters", "txnNumber"])?,
            started_at: started_at(document),
            prepared: number(document, &["transaction", "timePreparedMicros"]) != Field::Missing,
            internal: has(&["lsid", "txnUUID"]) || has(&["lsid", "txnNumber"]),
        })
    }

    fn is(&self, wanted: &TransactionId) -> bool {
        let same_start = match (&self.started_at, &wanted.started_at) {
            (Some(now), Some(then)) => now == then,
            (None, _) | (_, None) => true,
        };
        self.txn_number == wanted.txn_number && same_start
    }
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// End what runs in the session of this user.
    End {
        user: Binary,
    },
    Refuse(EndOutcome),
}

/// Decides by all open transactions in sessions of the id.
pub(super) fn decide(found: &[Found], wanted: &TransactionId) -> Decision {
    let open = match found.iter().filter(|found| found.is(wanted)).collect::<Vec<_>>().as_slice() {
        [] => match found {
            [] => return Decision::Refuse(EndOutcome::AlreadyOver),
            [other, ..] => return Decision::Refuse(EndOutcome::OtherTransaction(other.txn_number)),
        },
        [open] => *open,
        _ => return Decision::Refuse(EndOutcome::SeveralUsers),
    };
    match &open.user {
        _ if open.internal => Decision::Refuse(EndOutcome::Internal),
        _ if open.prepared => Decision::Refuse(EndOutcome::Prepared),
        Some(user) => Decision::End { user: user.clone() },
        // A session of a client has a user. Without one, it could not be named exactly.
        None => Decision::Refuse(EndOutcome::Internal),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use mongodb::bson::spec::BinarySubtype;

    use super::*;

    fn user(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Generic, bytes: vec![byte; 32] }
    }

    fn listed(byte: u8, number: i64) -> Document {
        doc! {
            "lsid": {"id": "a", "uid": user(byte)},
            "transaction": {
                "parameters": {"txnNumber": number, "autocommit": false},
                "startWallClockTime": "2026-11-27T05:37:23.448+00:00",
            },
        }
    }

    fn wanted() -> TransactionId {
        TransactionId {
            member: "db1:27017".to_owned(),
            session: "6e01e4f2-0000-4000-8000-000000000001".to_owned(),
            txn_number: 7,
            started_at: Some("2026-11-27T05:37:23.448Z".to_owned()),
        }
    }

    fn decided(listed: &[Document]) -> Decision {
        let found: Vec<_> = listed.iter().filter_map(Found::decode).collect();
        assert_eq!(found.len(), listed.len());
        decide(&found, &wanted())
    }

    #[test]
    fn only_the_same_transaction_is_ended() {
        assert_eq!(decided(&[listed(1, 7)]), Decision::End { user: user(1) });
        assert_eq!(decided(&[]), Decision::Refuse(EndOutcome::AlreadyOver));
        assert_eq!(decided(&[listed(1, 8)]), Decision::Refuse(EndOutcome::OtherTransaction(8)));
        let mut later = listed(1, 7);
        let started = "2026-11-27T05:37:23.449+00:00";
        later.get_document_mut("transaction").unwrap().insert("startWallClockTime", started);
        assert_eq!(decided(&[later]), Decision::Refuse(EndOutcome::OtherTransaction(7)), "another start");
    }

    #[test]
    fn session_of_the_user_is_ended_and_not_that_of_another_user_with_its_id() {
        assert_eq!(decided(&[listed(2, 8), listed(1, 7)]), Decision::End { user: user(1) });
        assert_eq!(
            decided(&[listed(1, 7), listed(2, 7)]),
            Decision::Refuse(EndOutcome::SeveralUsers),
            "which of them was shown is unknown"
        );
    }

    #[test]
    fn prepared_and_internal_transactions_are_refused() {
        let mut prepared = listed(1, 7);
        prepared.get_document_mut("transaction").unwrap().insert("timePreparedMicros", 5_i64);
        assert_eq!(decided(&[prepared]), Decision::Refuse(EndOutcome::Prepared));
        for field in ["txnUUID", "txnNumber"] {
            let mut internal = listed(1, 7);
            internal.get_document_mut("lsid").unwrap().insert(field, 3_i64);
            assert_eq!(decided(&[internal]), Decision::Refuse(EndOutcome::Internal), "{field}");
        }
        let mut without_user = listed(1, 7);
        without_user.get_document_mut("lsid").unwrap().remove("uid");
        assert_eq!(decided(&[without_user]), Decision::Refuse(EndOutcome::Internal));
    }
}
