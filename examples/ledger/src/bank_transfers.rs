//! Transfers between bank accounts, and their cancellation.

use axum::extract::State;
use mongodb::bson::doc;
use mongodb::bson::oid::ObjectId;
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing::field::{Empty, display};
use txnscope::transaction::TransactionBuilder;
use txnscope::{Transaction, scope};

use crate::Money;
use crate::bank_accounts::{both, move_money};
use crate::database::Collections;
use crate::dto::{At, Id};
use crate::error::AppError;
use crate::extract::{EntityId, Nothing, Posted, object_id, short};
use crate::general_ledger::{Account, Entity, Entry};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::state::Ledger;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, WorkError, document};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BankTransfer {
    #[serde(rename = "_id")]
    id: Id,
    from_account_id: Id,
    to_account_id: Id,
    amount: Money,
    currency: String,
    description: String,
    status: Status,
    created_at: At,
    updated_at: At,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Completed,
    Cancelled,
}

impl BankTransfer {
    fn accounts(&self) -> [ObjectId; 2] {
        [self.from_account_id.0, self.to_account_id.0]
    }

    fn entry<'a>(
        &'a self,
        movement: ObjectId,
        [from, to]: [ObjectId; 2],
        description: &'a str,
        at: At,
    ) -> Entry<'a> {
        Entry {
            movement,
            entity: Entity::bank_transfer(self.id.0),
            debit: Account::Bank(to),
            credit: Account::Bank(from),
            amount: self.amount,
            currency: &self.currency,
            description,
            at,
        }
    }
}

// ===== POST /api/bank-transfers =====

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewTransfer {
    from_account_id: String,
    to_account_id: String,
    amount: Literal,
    #[serde(default)]
    description: Option<String>,
}

impl NewTransfer {
    /// The accounts, the amount and the description of a transfer.
    pub(crate) fn check(self, id: ObjectId) -> Result<([ObjectId; 2], Money, String), AppError> {
        let amount = self.amount.positive("amount")?;
        Span::current().record("entity_id", display(id)).record("amount", display(amount));
        let from = object_id("fromAccountId", &self.from_account_id)?;
        let to = object_id("toAccountId", &self.to_account_id)?;
        if from == to {
            return Err(Rejection::SAME_ACCOUNT.into());
        }
        Ok(([from, to], amount, short("description", self.description.unwrap_or_default())?))
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "bank_transfers", function = "create", entity_id = Empty, amount = Empty)
)]
pub(crate) async fn create(
    State(ledger): State<Ledger>,
    Posted { body, key }: Posted<NewTransfer>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let id = ObjectId::new();
    let ([from, to], amount, description) = body.check(id)?;
    ledger
        .write(key, Create { data: ledger.data().clone(), id, from, to, amount, description, at: At::now() })
        .await
}

#[derive(Clone)]
struct Create {
    data: Collections,
    id: ObjectId,
    from: ObjectId,
    to: ObjectId,
    amount: Money,
    description: String,
    at: At,
}

impl Work for Create {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        let account = |id| document("bankAccounts", id);
        run.serialize_on(account(self.from)).serialize_on(account(self.to))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, id, from, to, amount, description, at } = self;
        let (accounts, amount, at) = ([*from, *to], *amount, *at);
        let [payer, receiver] = both(accounts, data, tx).await?;
        let payer = payer.ok_or(Rejection::FROM_ACCOUNT_NOT_FOUND)?;
        let receiver = receiver.ok_or(Rejection::TO_ACCOUNT_NOT_FOUND)?;
        if payer.currency != receiver.currency {
            return Err(Rejection::CURRENCY_MISMATCH.into());
        }
        if payer.available_balance < amount {
            return Err(Rejection::INSUFFICIENT_BALANCE.into());
        }
        if receiver.available_balance > amount.largest_balance_before() {
            return Err(Rejection::BALANCE_LIMIT.into());
        }
        move_money(amount, accounts, at, data, tx).await?;
        let transfer = BankTransfer {
            id: Id(*id),
            from_account_id: Id(*from),
            to_account_id: Id(*to),
            amount,
            currency: payer.currency,
            description: description.clone(),
            status: Status::Completed,
            created_at: at,
            updated_at: at,
            cancelled_at: None,
        };
        data.bank_transfers.insert_one(&transfer).session(&mut *tx).await?;
        // The transfer and its cancellation are separate movements.
        transfer.entry(*id, accounts, description, at).post(data, tx).await?;
        Ok(Reply::created("transfer", &transfer))
    }
}

// ===== POST /api/bank-transfers/{id}/cancel =====

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "bank_transfers", function = "cancel", entity_id = %id, amount = Empty)
)]
pub(crate) async fn cancel(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body: Nothing, key }: Posted<Nothing>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    // The accounts of a transfer never change, so they are read beforehand as the keys to serialize on.
    let accounts = ledger.find(&ledger.data().bank_transfers, id).await?.map(|transfer| transfer.accounts());
    let work = Cancel { data: ledger.data().clone(), id, accounts, movement: ObjectId::new(), at: At::now() };
    ledger.write(key, work).await
}

#[derive(Clone)]
struct Cancel {
    data: Collections,
    id: ObjectId,
    accounts: Option<[ObjectId; 2]>,
    movement: ObjectId,
    at: At,
}

impl Work for Cancel {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        let run = run.serialize_on(document("bankTransfers", self.id));
        let accounts = self.accounts.into_iter().flatten();
        accounts.fold(run, |run, id| run.serialize_on(document("bankAccounts", id)))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        const GONE: Abort = WorkError::inconsistent("a transfer names an account that does not exist");
        let Self { data, id, accounts: _, movement, at } = self;
        let transfers = raw(&data.bank_transfers);
        let found = transfers.find_one(doc! { "_id": id }).session(&mut *tx).await?;
        let transfer: BankTransfer =
            read_stored("bankTransfers", &found.ok_or(Rejection::TRANSFER_NOT_FOUND)?)?;
        Span::current().record("amount", display(transfer.amount));
        if transfer.status == Status::Cancelled {
            return Err(Rejection::TRANSFER_ALREADY_CANCELLED.into());
        }
        // The refund.
        let accounts = [transfer.to_account_id.0, transfer.from_account_id.0];
        let [payer, receiver] = both(accounts, data, tx).await?;
        if payer.ok_or(GONE)?.available_balance < transfer.amount {
            return Err(Rejection::INSUFFICIENT_BALANCE.into());
        }
        if receiver.ok_or(GONE)?.available_balance > transfer.amount.largest_balance_before() {
            return Err(Rejection::BALANCE_LIMIT.into());
        }
        // If two requests read `completed`, the second update conflicts, and its retry reads `cancelled`.
        let guard = doc! { "_id": id, "status": "completed" };
        let change =
            doc! { "$set": { "status": "cancelled", "cancelledAt": at.0 }, "$max": { "updatedAt": at.0 } };
        let transfer = transfers
            .find_one_and_update(guard, change)
            .return_document(ReturnDocument::After)
            .session(&mut *tx)
            .await?
            .ok_or(Rejection::TRANSFER_ALREADY_CANCELLED)?;
        let transfer: BankTransfer = read_stored("bankTransfers", &transfer)?;
        move_money(transfer.amount, accounts, *at, data, tx).await?;
        transfer.entry(*movement, accounts, "Transfer cancelled", *at).post(data, tx).await?;
        Ok(Reply::ok("transfer", &transfer))
    }
}
