//! Retainers: money that a client pays in advance and that services consume.

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
use crate::database::Collections;
use crate::dto::{At, Id};
use crate::error::AppError;
use crate::extract::{EntityId, Posted, reference, short};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::retainer_movements::{Kind, Movement};
use crate::state::Ledger;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, document};

/// `currentBalance` is the sum of the deposits less the sum of the consumptions. Both are documents of their own
/// ([`Movement`]), so that the size of a retainer does not depend on the number of its movements.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Retainer {
    #[serde(rename = "_id")]
    id: Id,
    client_id: String,
    retainer_type: String,
    current_balance: Money,
    created_at: At,
    updated_at: At,
}

/// The response to a movement: the present retainer with this movement.
#[derive(Serialize)]
struct Moved<'a> {
    #[serde(flatten)]
    retainer: &'a Retainer,
    movement: &'a Movement,
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
    /// The retainer, and the deposit of its initial amount if it is not zero.
    pub(crate) fn check(self) -> Result<(Retainer, Option<Movement>), AppError> {
        let amount = self.initial_amount.not_negative("initialAmount")?;
        let (id, now) = (ObjectId::new(), At::now());
        Span::current().record("entity_id", display(id)).record("amount", display(amount));
        let deposit = (amount > Money::ZERO)
            .then(|| Movement::new(id, Kind::Deposit, amount, "Initial amount".to_owned()));
        let retainer = Retainer {
            id: Id(id),
            client_id: reference("clientId", &self.client_id)?,
            retainer_type: reference("retainerType", &self.retainer_type)?,
            current_balance: amount,
            created_at: now,
            updated_at: now,
        };
        Ok((retainer, deposit))
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
    let (retainer, deposit) = body.check()?;
    ledger.write(key, Create { data: ledger.data().clone(), retainer, deposit }).await
}

#[derive(Clone)]
struct Create {
    data: Collections,
    retainer: Retainer,
    deposit: Option<Movement>,
}

impl Work for Create {
    type Output = Reply;

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, retainer, deposit } = self;
        data.retainers.insert_one(retainer).session(&mut *tx).await?;
        if let Some(deposit) = deposit {
            deposit.write(data, tx).await?;
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
    pub(crate) fn check(self, retainer: ObjectId, kind: Kind) -> Result<Movement, AppError> {
        let amount = self.amount.positive("amount")?;
        Span::current().record("amount", display(amount));
        let description = short("description", self.description.unwrap_or_default())?;
        Ok(Movement::new(retainer, kind, amount, description))
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
    let movement = body.check(id, Kind::Consumption)?;
    ledger.write(key, BalanceChange { data: ledger.data().clone(), id, movement }).await
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
    let movement = body.check(id, Kind::Deposit)?;
    ledger.write(key, BalanceChange { data: ledger.data().clone(), id, movement }).await
}

#[derive(Clone)]
struct BalanceChange {
    data: Collections,
    id: ObjectId,
    movement: Movement,
}

impl Work for BalanceChange {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run.serialize_on(document("retainers", self.id))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, id, movement } = self;
        let amount = movement.amount();
        let (allowed, cents, rule) = match movement.kind() {
            Kind::Consumption => {
                (doc! { "$gte": amount.cents() }, -amount.cents(), Rejection::INSUFFICIENT_BALANCE)
            }
            Kind::Deposit => {
                let most = amount.largest_balance_before();
                (doc! { "$lte": most.cents() }, amount.cents(), Rejection::BALANCE_LIMIT)
            }
        };
        let guard = doc! { "_id": id, "currentBalance": allowed };
        let change = doc! { "$inc": { "currentBalance": cents }, "$max": { "updatedAt": movement.at().0 } };
        let changed = raw(&data.retainers)
            .find_one_and_update(guard, change)
            .return_document(ReturnDocument::After)
            .session(&mut *tx)
            .await?;
        let Some(retainer) = changed else {
            // There is no such retainer, it cannot be read, or the rule rejects the request.
            let found = raw(&data.retainers).find_one(doc! { "_id": id }).session(tx).await?;
            read_stored::<Retainer>("retainers", &found.ok_or(Rejection::RETAINER_NOT_FOUND)?)?;
            return Err(rule.into());
        };
        let retainer: Retainer = read_stored("retainers", &retainer)?;
        movement.write(data, tx).await?;
        Ok(Reply::ok("retainer", &Moved { retainer: &retainer, movement }))
    }
}
