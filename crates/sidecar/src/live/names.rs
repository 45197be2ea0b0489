//! Names of operations, from the backends' tables of open transactions.

use std::collections::HashMap;

use crate::collector::backend_table::ListedTransaction;

/// The operations of transactions, by session and number. A table without numbers names the session's transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct OperationNames(HashMap<String, Vec<(Option<i64>, String)>>);

impl OperationNames {
    pub(super) fn new(listed: impl IntoIterator<Item = ListedTransaction>) -> Self {
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for ListedTransaction { session, number, operation } in listed {
            names.entry(session).or_default().push((number, operation));
        }
        Self(names)
    }

    /// The operation of a transaction.
    pub(super) fn get(&self, session: &str, number: i64) -> Option<&str> {
        let of_session = self.0.get(session)?;
        let is_it = |listed: &&(Option<i64>, String)| listed.0.is_none_or(|listed| listed == number);
        of_session.iter().find(is_it).map(|(_, operation)| operation.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_is_joined_by_session_and_number() {
        let listed = |session: &str, number, operation: &str| ListedTransaction {
            session: session.to_owned(),
            number,
            operation: operation.to_owned(),
        };
        let names = OperationNames::new([
            listed("a", Some(6), "POST /old"),
            listed("a", Some(7), "POST /orders"),
            listed("b", None, "POST /refunds"),
        ]);
        assert_eq!(names.get("a", 7), Some("POST /orders"));
        assert_eq!(names.get("a", 8), None, "the session has begun another transaction since");
        assert_eq!(names.get("b", 3), Some("POST /refunds"));
        assert_eq!(names.get("c", 1), None);
    }
}
