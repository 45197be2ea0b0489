//! The deposits and consumptions of retainers: one document each, in a collection of their own, so that neither a
//! retainer nor the cost of its next movement grows with the number of its movements.

use axum::extract::State;
use mongodb::bson::oid::ObjectId;
use serde::{Deserialize, Serialize};
use txnscope::Transaction;

use crate::Money;
use crate::database::Collections;
use crate::dto::{At, Id};
use crate::error::AppError;
use crate::extract::{EntityId, PageQuery};
use crate::general_ledger::{Account, Entity, Entry, HOUSE_CURRENCY};
use crate::operations::Rejection;
use crate::response::Reply;
use crate::state::Ledger;
use crate::transaction::Abort;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Deposit,
    Consumption,
}

/// A movement never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Movement {
    #[serde(rename = "_id")]
    id: Id,
    retainer_id: Id,
    kind: Kind,
    amount: Money,
    description: String,
    at: At,
}

impl Movement {
    pub(crate) fn new(retainer: ObjectId, kind: Kind, amount: Money, description: String) -> Self {
        Self { id: Id(ObjectId::new()), retainer_id: Id(retainer), kind, amount, description, at: At::now() }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn amount(&self) -> Money {
        self.amount
    }

    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// Writes the movement and its two lines in the general ledger, in the transaction that changes the balance.
    pub(crate) async fn write(&self, data: &Collections, tx: &mut Transaction) -> Result<(), Abort> {
        data.retainer_movements.insert_one(self).session(&mut *tx).await?;
        let retainer = self.retainer_id.0;
        let (debit, credit) = match self.kind {
            Kind::Deposit => (Account::Cash, Account::Retainer(retainer)),
            Kind::Consumption => (Account::Retainer(retainer), Account::Revenue),
        };
        let entry = Entry {
            movement: self.id.0,
            entity: Entity::retainer(retainer),
            debit,
            credit,
            amount: self.amount,
            currency: HOUSE_CURRENCY,
            description: &self.description,
            at: self.at,
        };
        Ok(entry.post(data, tx).await?)
    }
}

// ===== GET /api/retainers/{id}/movements =====

#[derive(Serialize)]
struct Page {
    /// In descending order of their ids: newest first, so that new movements do not shift the following pages.
    movements: Vec<Movement>,
    /// The value of `after` for the next page; null on the last page.
    next: Option<Id>,
}

/// A page has at most `limit` movements (1 to 100, default 50) that precede the movement `after`. A client that begins
/// without `after` and then passes each `next` gets every movement that existed at the beginning exactly once, whatever
/// is written meanwhile.
pub(crate) async fn page(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    PageQuery { after, limit }: PageQuery,
) -> Result<Reply, AppError> {
    let data = ledger.data();
    // A retainer without movements has an empty page.
    ledger.find(&data.retainers, id).await?.ok_or(Rejection::RETAINER_NOT_FOUND)?;
    // One more than the page has room for, to find out whether a next page exists.
    let one_more = PageQuery { after, limit: limit + 1 };
    let mut movements = ledger.find_newest(&data.retainer_movements, ("retainerId", id), one_more).await?;
    let more = movements.len() > usize::from(limit);
    movements.truncate(limit.into());
    let next = movements.last().filter(|_| more).map(|last| last.id);
    Ok(Reply::ok("data", &Page { movements, next }))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use super::*;
    use crate::dto::stored;

    #[test]
    fn movement_is_stored_with_its_retainer_and_kind() {
        let retainer = ObjectId::new();
        for (kind, name) in [(Kind::Deposit, "deposit"), (Kind::Consumption, "consumption")] {
            let movement = Movement::new(retainer, kind, Money::from_cents(1250), "work".to_owned());
            let document = stored(&movement).unwrap();
            assert_eq!(document.get("retainerId"), Some(&Bson::ObjectId(retainer)));
            assert_eq!(document.get("kind"), Some(&Bson::from(name)));
            assert_eq!(document.get("amount"), Some(&Bson::Int64(1250)));
        }
    }
}
