//! Mutants: ledgers with a deliberate defect that real backends have, on which the tools that detect defects are
//! tested.
//!
//! They exist only in tests, behind a feature and a separate constructor; the binary cannot enable them.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde::Deserialize;
use txnscope::Transaction;
use txnscope::transaction::TransactionBuilder;

use crate::Money;
use crate::database::Collections;
use crate::dto::At;
use crate::error::AppError;
use crate::extract::{EntityId, Nothing, Posted, object_id};
use crate::general_ledger::{Account, Entity, Entry, HOUSE_CURRENCY};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::retainer_movements::{Kind, Movement};
use crate::state::Ledger;
use crate::transaction::{Abort, Work, WorkError};

/// The defect of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// The usual statements without a transaction: a failure leaves partial changes, and reads may be outdated.
    NoTransaction,
    /// Balances and states are checked before the transaction begins, and not again within it.
    ChecksOutside,
}

// ===== No transaction =====

/// Runs work without a transaction.
pub(crate) struct Mutated<'a, W> {
    pub(crate) work: &'a W,
    pub(crate) mutant: Option<Mutant>,
}

impl<W: Work> Work for Mutated<'_, W> {
    type Output = W::Output;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        self.work.lock_keys(run)
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<W::Output, Abort> {
        if self.mutant != Some(Mutant::NoTransaction) {
            return self.work.attempt(tx).await;
        }
        // The real transaction ends before the first statement; an empty one replaces it until the end of the
        // attempt.
        tx.session().abort_transaction().await?;
        let outcome = self.work.attempt(tx).await;
        tx.session().start_transaction().await?;
        outcome
    }
}

// ===== Checks outside of the transaction =====

/// The routes that check first and then write.
pub(crate) fn concurrent_writes() -> Router<Ledger> {
    Router::new()
        .route("/retainers/{id}/consume", post(consume))
        .route("/payments/{id}/complete", post(complete))
        .route("/bank-transfers", post(transfer))
        .route("/bank-transfers/{id}/cancel", post(cancel))
}

/// Whether such a document exists now; this may change at any moment.
async fn holds<T: Send + Sync>(
    collection: &Collection<T>,
    filter: Document,
    or: Rejection,
) -> Result<Document, AppError> {
    let found = collection.clone_with_type::<Document>().find_one(filter).await;
    found.map_err(|error| AppError::Failed(error.into()))?.ok_or(or.into())
}

#[derive(Deserialize)]
struct Amount {
    amount: Literal,
}

async fn consume(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body, key }: Posted<Amount>,
) -> Result<Reply, AppError> {
    let amount = body.amount.positive("amount")?;
    let enough = doc! { "_id": id, "currentBalance": { "$gte": amount.cents() } };
    holds(&ledger.data().retainers, enough, Rejection::INSUFFICIENT_BALANCE).await?;
    ledger.write(key, Unchecked { data: ledger.data().clone(), what: What::Consume { id, amount } }).await
}

async fn complete(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body: Nothing, key }: Posted<Nothing>,
) -> Result<Reply, AppError> {
    let pending = doc! { "_id": id, "status": "pending" };
    let payment = holds(&ledger.data().payments, pending, Rejection::PAYMENT_ALREADY_COMPLETED).await?;
    let amount = Money::from_cents(payment.get_i64("amount").unwrap_or_default());
    ledger.write(key, Unchecked { data: ledger.data().clone(), what: What::Complete { id, amount } }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewTransfer {
    from_account_id: String,
    to_account_id: String,
    amount: Literal,
}

async fn transfer(
    State(ledger): State<Ledger>,
    Posted { body, key }: Posted<NewTransfer>,
) -> Result<Reply, AppError> {
    let amount = body.amount.positive("amount")?;
    let from = object_id("fromAccountId", &body.from_account_id)?;
    let to = object_id("toAccountId", &body.to_account_id)?;
    let enough = doc! { "_id": from, "availableBalance": { "$gte": amount.cents() } };
    let payer = holds(&ledger.data().bank_accounts, enough, Rejection::INSUFFICIENT_BALANCE).await?;
    let currency = payer.get_str("currency").unwrap_or_default().to_owned();
    let what = What::Transfer { from, to, amount, currency };
    ledger.write(key, Unchecked { data: ledger.data().clone(), what }).await
}

async fn cancel(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body: Nothing, key }: Posted<Nothing>,
) -> Result<Reply, AppError> {
    let not_yet = doc! { "_id": id, "status": "completed" };
    let transfer =
        holds(&ledger.data().bank_transfers, not_yet, Rejection::TRANSFER_ALREADY_CANCELLED).await?;
    let account = |key| transfer.get_object_id(key).unwrap_or_default();
    let what = What::Cancel {
        id,
        from: account("fromAccountId"),
        to: account("toAccountId"),
        amount: Money::from_cents(transfer.get_i64("amount").unwrap_or_default()),
        currency: transfer.get_str("currency").unwrap_or_default().to_owned(),
    };
    ledger.write(key, Unchecked { data: ledger.data().clone(), what }).await
}

/// Writes in a transaction without checking.
#[derive(Clone)]
struct Unchecked {
    data: Collections,
    what: What,
}

#[derive(Clone)]
enum What {
    Consume { id: ObjectId, amount: Money },
    Complete { id: ObjectId, amount: Money },
    Transfer { from: ObjectId, to: ObjectId, amount: Money, currency: String },
    Cancel { id: ObjectId, from: ObjectId, to: ObjectId, amount: Money, currency: String },
}

const GONE: Abort = WorkError::inconsistent("a document no longer exists");

impl Work for Unchecked {
    type Output = Reply;

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let (data, at, movement) = (&self.data, At::now(), ObjectId::new());
        match &self.what {
            What::Consume { id, amount } => {
                let change = doc! { "$inc": { "currentBalance": -amount.cents() } };
                let retainers = data.retainers.find_one_and_update(doc! { "_id": id }, change);
                let retainer = retainers.return_document(ReturnDocument::After).session(&mut *tx).await?;
                Movement::new(*id, Kind::Consumption, *amount, String::new()).write(data, tx).await?;
                Ok(Reply::ok("retainer", &retainer.ok_or(GONE)?))
            }
            What::Complete { id, amount } => {
                let change = doc! { "$set": { "status": "completed", "completedAt": at.0 } };
                let payments = data.payments.find_one_and_update(doc! { "_id": id }, change);
                let payment = payments.return_document(ReturnDocument::After).session(&mut *tx).await?;
                let accounts = [Account::Cash, Account::Receivables];
                self.post(*id, Entity::payment(*id), accounts, *amount, HOUSE_CURRENCY, tx).await?;
                Ok(Reply::ok("payment", &payment.ok_or(GONE)?))
            }
            What::Transfer { from, to, amount, currency } => {
                self.change([(*from, -amount.cents()), (*to, amount.cents())], tx).await?;
                let transfer = doc! {
                    "_id": movement, "fromAccountId": from, "toAccountId": to, "amount": amount.cents(),
                    "currency": currency, "description": "", "status": "completed",
                    "createdAt": at.0, "updatedAt": at.0,
                };
                let transfers = data.bank_transfers.clone_with_type::<Document>();
                transfers.insert_one(transfer).session(&mut *tx).await?;
                let accounts = [Account::Bank(*to), Account::Bank(*from)];
                self.post(movement, Entity::bank_transfer(movement), accounts, *amount, currency, tx).await?;
                let made = data.bank_transfers.find_one(doc! { "_id": movement }).session(tx).await?;
                Ok(Reply::created("transfer", &made.ok_or(GONE)?))
            }
            What::Cancel { id, from, to, amount, currency } => {
                let change = doc! { "$set": { "status": "cancelled", "cancelledAt": at.0 } };
                let transfers = data.bank_transfers.find_one_and_update(doc! { "_id": id }, change);
                let transfer = transfers.return_document(ReturnDocument::After).session(&mut *tx).await?;
                self.change([(*to, -amount.cents()), (*from, amount.cents())], tx).await?;
                let accounts = [Account::Bank(*from), Account::Bank(*to)];
                self.post(movement, Entity::bank_transfer(*id), accounts, *amount, currency, tx).await?;
                Ok(Reply::ok("transfer", &transfer.ok_or(GONE)?))
            }
        }
    }
}

impl Unchecked {
    async fn change(&self, mut changes: [(ObjectId, i64); 2], tx: &mut Transaction) -> Result<(), Abort> {
        changes.sort_unstable();
        for (id, cents) in changes {
            let change = doc! { "$inc": { "availableBalance": cents } };
            self.data.bank_accounts.update_one(doc! { "_id": id }, change).session(&mut *tx).await?;
        }
        Ok(())
    }

    async fn post(
        &self,
        movement: ObjectId,
        entity: Entity,
        [debit, credit]: [Account; 2],
        amount: Money,
        currency: &str,
        tx: &mut Transaction,
    ) -> Result<(), Abort> {
        let description = "without a check";
        let entry = Entry { movement, entity, debit, credit, amount, currency, description, at: At::now() };
        Ok(entry.post(&self.data, tx).await?)
    }
}
