//! Retainers: money that a client pays in advance and that services consume.

use axum::extract::State;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing::field::{Empty, display};
use txnscope::transaction::TransactionBuilder;
use txnscope::{Transaction, scope};

use crate::Money;
use crate::database::Collections;
use crate::dto::{At, Id, stored};
use crate::error::AppError;
use crate::extract::{EntityId, Posted, reference, short};
use crate::general_ledger::{Account, Entity, Entry, HOUSE_CURRENCY};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::state::Ledger;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, document};

/// The maximum number of deposits, and of consumptions, of one document: with the longest descriptions they stay well
/// below MongoDB's limit of 16 MB.
const MAX_MOVEMENTS: usize = 5000;

/// `currentBalance` is the sum of the deposits less the sum of the consumptions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Retainer {
    #[serde(rename = "_id")]
    id: Id,
    client_id: String,
    retainer_type: String,
    current_balance: Money,
    deposits: Vec<Movement>,
    consumptions: Vec<Movement>,
    created_at: At,
    updated_at: At,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Movement {
    movement_id: Id,
    amount: Money,
    description: String,
    at: At,
}

impl Movement {
    fn new(amount: Money, description: String) -> Self {
        Self { movement_id: Id(ObjectId::new()), amount, description, at: At::now() }
    }

    /// The two lines of a movement in the general ledger.
    async fn post(
        &self,
        retainer: ObjectId,
        [debit, credit]: [Account; 2],
        data: &Collections,
        tx: &mut Transaction,
    ) -> Result<(), Abort> {
        let entry = Entry {
            movement: self.movement_id.0,
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

/// The response to a movement: the present retainer with this movement, and without the others. There may be
/// thousands of them, and the response is recorded under an idempotency key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved<'a> {
    #[serde(rename = "_id")]
    id: Id,
    client_id: &'a str,
    retainer_type: &'a str,
    current_balance: Money,
    movement: &'a Movement,
    created_at: At,
    updated_at: At,
}

impl Retainer {
    fn moved<'a>(&'a self, movement: &'a Movement) -> Moved<'a> {
        Moved {
            id: self.id,
            client_id: &self.client_id,
            retainer_type: &self.retainer_type,
            current_balance: self.current_balance,
            movement,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

// ===== POST /api/retainers =====

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewRetainer {
    client_id: String,
    retainer_type: String,
    initial_amount: Literal,
}

impl NewRetainer {
    pub(crate) fn check(self) -> Result<Retainer, AppError> {
        let amount = self.initial_amount.not_negative("initialAmount")?;
        let (id, now) = (ObjectId::new(), At::now());
        Span::current().record("entity_id", display(id)).record("amount", display(amount));
        let deposit = (amount > Money::ZERO).then(|| Movement::new(amount, "Initial amount".to_owned()));
        Ok(Retainer {
            id: Id(id),
            client_id: reference("clientId", &self.client_id)?,
            retainer_type: reference("retainerType", &self.retainer_type)?,
            current_balance: amount,
            deposits: deposit.into_iter().collect(),
            consumptions: Vec::new(),
            created_at: now,
            updated_at: now,
        })
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "retainers", function = "create", entity_id = Empty, amount = Empty)
)]
pub(crate) async fn create(
    State(ledger): State<Ledger>,
    Posted { body, key }: Posted<NewRetainer>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let retainer = body.check()?;
    ledger.write(key, Create { data: ledger.data().clone(), retainer }).await
}

#[derive(Clone)]
struct Create {
    data: Collections,
    retainer: Retainer,
}

impl Work for Create {
    type Output = Reply;

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, retainer } = self;
        data.retainers.insert_one(retainer).session(&mut *tx).await?;
        for deposit in &retainer.deposits {
            let accounts = [Account::Cash, Account::Retainer(retainer.id.0)];
            deposit.post(retainer.id.0, accounts, data, tx).await?;
        }
        Ok(Reply::created("retainer", retainer))
    }
}

// ===== GET /api/retainers/{id} =====

pub(crate) async fn read(State(ledger): State<Ledger>, EntityId(id): EntityId) -> Result<Reply, AppError> {
    let retainer = ledger.find(&ledger.data().retainers, id).await?.ok_or(Rejection::RETAINER_NOT_FOUND)?;
    Ok(Reply::ok("data", &retainer))
}

// ===== POST /api/retainers/{id}/consume and …/replenish =====

#[derive(Debug, Deserialize)]
pub(crate) struct NewMovement {
    amount: Literal,
    #[serde(default)]
    description: Option<String>,
}

impl NewMovement {
    pub(crate) fn check(self) -> Result<Movement, AppError> {
        let amount = self.amount.positive("amount")?;
        Span::current().record("amount", display(amount));
        Ok(Movement::new(amount, short("description", self.description.unwrap_or_default())?))
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "retainers", function = "consume", entity_id = %id, amount = Empty)
)]
pub(crate) async fn consume(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body, key }: Posted<NewMovement>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let movement = body.check()?;
    ledger.write(key, Consume { data: ledger.data().clone(), id, movement }).await
}

#[derive(Clone)]
struct Consume {
    data: Collections,
    id: ObjectId,
    movement: Movement,
}

impl Work for Consume {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run.serialize_on(document("retainers", self.id))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, id, movement } = self;
        let amount = movement.amount.cents();
        let guard =
            doc! { "_id": id, "currentBalance": { "$gte": amount }, last_of("consumptions"): absent() };
        let change = doc! {
            "$inc": { "currentBalance": -amount },
            "$push": { "consumptions": stored(movement)? },
            "$max": { "updatedAt": movement.at.0 },
        };
        let retainer = raw(&data.retainers)
            .find_one_and_update(guard, change)
            .return_document(ReturnDocument::After)
            .session(&mut *tx)
            .await?;
        let Some(retainer) = retainer else {
            let refused = read_current(data, *id, tx).await?;
            return Err(if refused.current_balance < movement.amount {
                Rejection::INSUFFICIENT_BALANCE.into()
            } else {
                Rejection::RETAINER_FULL.into()
            });
        };
        let retainer: Retainer = read_stored("retainers", &retainer)?;
        movement.post(*id, [Account::Retainer(*id), Account::Revenue], data, tx).await?;
        Ok(Reply::ok("retainer", &retainer.moved(movement)))
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "retainers", function = "replenish", entity_id = %id, amount = Empty)
)]
pub(crate) async fn replenish(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body, key }: Posted<NewMovement>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let movement = body.check()?;
    ledger.write(key, Replenish { data: ledger.data().clone(), id, movement }).await
}

#[derive(Clone)]
struct Replenish {
    data: Collections,
    id: ObjectId,
    movement: Movement,
}

impl Work for Replenish {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run.serialize_on(document("retainers", self.id))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, id, movement } = self;
        let most = movement.amount.largest_balance_before();
        let guard =
            doc! { "_id": id, "currentBalance": { "$lte": most.cents() }, last_of("deposits"): absent() };
        let change = doc! {
            "$inc": { "currentBalance": movement.amount.cents() },
            "$push": { "deposits": stored(movement)? },
            "$max": { "updatedAt": movement.at.0 },
        };
        let retainer = raw(&data.retainers)
            .find_one_and_update(guard, change)
            .return_document(ReturnDocument::After)
            .session(&mut *tx)
            .await?;
        let Some(retainer) = retainer else {
            let refused = read_current(data, *id, tx).await?;
            return Err(if refused.current_balance > most {
                Rejection::BALANCE_LIMIT.into()
            } else {
                Rejection::RETAINER_FULL.into()
            });
        };
        let retainer: Retainer = read_stored("retainers", &retainer)?;
        movement.post(*id, [Account::Cash, Account::Retainer(*id)], data, tx).await?;
        Ok(Reply::ok("retainer", &retainer.moved(movement)))
    }
}

/// The present retainer, to determine why a guard did not match.
async fn read_current(data: &Collections, id: ObjectId, tx: &mut Transaction) -> Result<Retainer, Abort> {
    let found = raw(&data.retainers).find_one(doc! { "_id": id }).session(tx).await?;
    Ok(read_stored("retainers", &found.ok_or(Rejection::RETAINER_NOT_FOUND)?)?)
}

/// The path of the last element that an array of movements may have; there is room while it is absent.
fn last_of(array: &str) -> String {
    format!("{array}.{}", MAX_MOVEMENTS - 1)
}

fn absent() -> Document {
    doc! { "$exists": false }
}
