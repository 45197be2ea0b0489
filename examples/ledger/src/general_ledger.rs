//! The general ledger: each movement of money is two lines, a debit and a credit of the same amount, written in
//! the transaction that moves the money.

use std::fmt;

use mongodb::bson::oid::ObjectId;
use mongodb::error::Error;
use serde::{Deserialize, Serialize};
use txnscope::Transaction;

use crate::Money;
use crate::database::Collections;
use crate::dto::{At, Id};

/// The currency of retainers and payments, which have no currency of their own.
pub(crate) const HOUSE_CURRENCY: &str = "USD";

/// The accounts of the general ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Account {
    /// Money received from clients and customers.
    Cash,
    /// Revenue from consumed retainers.
    Revenue,
    /// Outstanding payments of customers.
    Receivables,
    /// Opening balances of bank accounts.
    OpeningBalances,
    /// Services owed to a client.
    Retainer(ObjectId),
    Bank(ObjectId),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cash => f.write_str("cash"),
            Self::Revenue => f.write_str("revenue"),
            Self::Receivables => f.write_str("receivables"),
            Self::OpeningBalances => f.write_str("openingBalances"),
            Self::Retainer(id) => write!(f, "retainers/{id}"),
            Self::Bank(id) => write!(f, "bankAccounts/{id}"),
        }
    }
}

/// The entity that a movement belongs to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Entity {
    collection: Collection,
    id: Id,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Collection {
    Retainers,
    Payments,
    BankAccounts,
    BankTransfers,
}

impl Entity {
    pub(crate) fn retainer(id: ObjectId) -> Self {
        Self { collection: Collection::Retainers, id: Id(id) }
    }

    pub(crate) fn payment(id: ObjectId) -> Self {
        Self { collection: Collection::Payments, id: Id(id) }
    }

    pub(crate) fn bank_account(id: ObjectId) -> Self {
        Self { collection: Collection::BankAccounts, id: Id(id) }
    }

    pub(crate) fn bank_transfer(id: ObjectId) -> Self {
        Self { collection: Collection::BankTransfers, id: Id(id) }
    }
}

/// One movement of money, before it is written.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) movement: ObjectId,
    pub(crate) entity: Entity,
    pub(crate) debit: Account,
    pub(crate) credit: Account,
    pub(crate) amount: Money,
    pub(crate) currency: &'a str,
    pub(crate) description: &'a str,
    pub(crate) at: At,
}

/// One stored line. Either `debit` or `credit` is zero.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    #[serde(rename = "_id")]
    id: Id,
    movement_id: Id,
    /// The transfer that moved the money, in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_id: Option<Id>,
    account: String,
    debit: Money,
    credit: Money,
    currency: String,
    entity: Entity,
    description: String,
    at: At,
}

impl Entry<'_> {
    /// Writes both lines.
    pub(crate) async fn post(&self, data: &Collections, tx: &mut Transaction) -> Result<(), Error> {
        data.general_ledger.insert_many(self.lines()).session(tx).await.map(drop)
    }

    fn lines(&self) -> [Line; 2] {
        [(self.debit, self.amount, Money::ZERO), (self.credit, Money::ZERO, self.amount)].map(
            |(account, debit, credit)| Line {
                id: Id(ObjectId::new()),
                movement_id: Id(self.movement),
                transfer_id: match self.entity.collection {
                    Collection::BankTransfers => Some(self.entity.id),
                    Collection::Retainers | Collection::Payments | Collection::BankAccounts => None,
                },
                account: account.to_string(),
                debit,
                credit,
                currency: self.currency.to_owned(),
                entity: self.entity,
                description: self.description.to_owned(),
                at: self.at,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debits_equal_credits() {
        let id = ObjectId::new();
        let entry = Entry {
            movement: ObjectId::new(),
            entity: Entity::retainer(id),
            debit: Account::Cash,
            credit: Account::Retainer(id),
            amount: Money::from_cents(1250),
            currency: HOUSE_CURRENCY,
            description: "deposit",
            at: At::now(),
        };
        let [debit, credit] = entry.lines();
        assert_eq!((debit.debit, debit.credit), (credit.credit, credit.debit));
        assert_eq!((debit.account.as_str(), credit.account), ("cash", format!("retainers/{id}")));
        assert_eq!(debit.movement_id, credit.movement_id);
    }
}
