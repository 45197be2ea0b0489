//! Payments, which customers owe until they are completed.

use axum::extract::State;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
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
use crate::extract::{EntityId, Nothing, Posted, reference};
use crate::general_ledger::{Account, Entity, Entry, HOUSE_CURRENCY};
use crate::identifier::normal_form;
use crate::invoices::{self, INVOICE_KEY};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::state::Ledger;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, document};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payment {
    #[serde(rename = "_id")]
    id: Id,
    customer_id: String,
    amount: Money,
    payment_method: String,
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invoice_id: Option<String>,
    created_at: At,
    updated_at: At,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

impl Payment {
    /// Money moves when a payment is completed, immediately or later.
    async fn post(&self, data: &Collections, tx: &mut Transaction) -> Result<(), Abort> {
        let entry = Entry {
            // One payment is one movement.
            movement: self.id.0,
            entity: Entity::payment(self.id.0),
            debit: Account::Cash,
            credit: Account::Receivables,
            amount: self.amount,
            currency: HOUSE_CURRENCY,
            description: "Payment completed",
            at: self.completed_at.unwrap_or(self.updated_at),
        };
        Ok(entry.post(data, tx).await?)
    }

    /// An invoice is paid once. The unique indexes enforce this too, but they would abort the transaction.
    async fn check_invoice(&self, data: &Collections, tx: &mut Transaction) -> Result<(), Abort> {
        let Some(invoice) = &self.invoice_id else { return Ok(()) };
        match raw(&data.payments).find_one(invoices::paid(invoice)).session(tx).await? {
            Some(_) => Err(Rejection::INVOICE_ALREADY_PAID.into()),
            None => Ok(()),
        }
    }

    /// The stored form: a completed payment has the unique key of its invoice.
    fn document(&self) -> Result<Document, Error> {
        let mut document = stored(self)?;
        if let Some(invoice) = self.invoice_id.as_ref().filter(|_| self.status == Status::Completed) {
            document.insert(INVOICE_KEY, normal_form(invoice));
        }
        Ok(document)
    }
}

// ===== POST /api/payments =====

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewPayment {
    customer_id: String,
    amount: Literal,
    payment_method: String,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    invoice_id: Option<String>,
}

impl NewPayment {
    pub(crate) fn check(self) -> Result<Payment, AppError> {
        let amount = self.amount.positive("amount")?;
        let (id, now) = (ObjectId::new(), At::now());
        Span::current().record("entity_id", display(id)).record("amount", display(amount));
        Ok(Payment {
            id: Id(id),
            customer_id: reference("customerId", &self.customer_id)?,
            amount,
            payment_method: reference("paymentMethod", &self.payment_method)?,
            status: self.status,
            invoice_id: self.invoice_id.map(|invoice| reference("invoiceId", &invoice)).transpose()?,
            created_at: now,
            updated_at: now,
            completed_at: (self.status == Status::Completed).then_some(now),
        })
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "payments", function = "create", entity_id = Empty, amount = Empty)
)]
pub(crate) async fn create(
    State(ledger): State<Ledger>,
    Posted { body, key }: Posted<NewPayment>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let payment = body.check()?;
    ledger.write(key, Create { data: ledger.data().clone(), payment }).await
}

#[derive(Clone)]
struct Create {
    data: Collections,
    payment: Payment,
}

impl Work for Create {
    type Output = Reply;

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, payment } = self;
        if payment.status == Status::Completed {
            payment.check_invoice(data, tx).await?;
        }
        let payments = data.payments.clone_with_type::<Document>();
        payments.insert_one(payment.document()?).session(&mut *tx).await?;
        if payment.status == Status::Completed {
            payment.post(data, tx).await?;
        }
        Ok(Reply::created("payment", payment))
    }
}

// ===== GET /api/payments/{id} =====

pub(crate) async fn read(State(ledger): State<Ledger>, EntityId(id): EntityId) -> Result<Reply, AppError> {
    let payment = ledger.find(&ledger.data().payments, id).await?.ok_or(Rejection::PAYMENT_NOT_FOUND)?;
    Ok(Reply::ok("payment", &payment))
}

// ===== POST /api/payments/{id}/complete =====

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "payments", function = "complete", entity_id = %id, amount = Empty)
)]
pub(crate) async fn complete(
    State(ledger): State<Ledger>,
    EntityId(id): EntityId,
    Posted { body: Nothing, key }: Posted<Nothing>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    ledger.write(key, Complete { data: ledger.data().clone(), id, at: At::now() }).await
}

#[derive(Clone)]
struct Complete {
    data: Collections,
    id: ObjectId,
    at: At,
}

impl Work for Complete {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run.serialize_on(document("payments", self.id))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, id, at } = self;
        let payments = raw(&data.payments);
        let found = payments.find_one(doc! { "_id": id }).session(&mut *tx).await?;
        let payment: Payment = read_stored("payments", &found.ok_or(Rejection::PAYMENT_NOT_FOUND)?)?;
        Span::current().record("amount", display(payment.amount));
        match payment.status {
            Status::Pending | Status::Processing => payment.check_invoice(data, tx).await?,
            Status::Completed => return Err(Rejection::PAYMENT_ALREADY_COMPLETED.into()),
            Status::Failed => return Err(Rejection::PAYMENT_FAILED.into()),
            Status::Cancelled => return Err(Rejection::PAYMENT_CANCELLED.into()),
        }
        // If two requests read `pending`, the second update conflicts, and its retry reads `completed`.
        let guard = doc! { "_id": id, "status": { "$in": ["pending", "processing"] } };
        let mut set = doc! { "status": "completed", "completedAt": at.0 };
        if let Some(invoice) = &payment.invoice_id {
            set.insert(INVOICE_KEY, normal_form(invoice));
        }
        let change = doc! { "$set": set, "$max": { "updatedAt": at.0 } };
        let payment = payments
            .find_one_and_update(guard, change)
            .return_document(ReturnDocument::After)
            .session(&mut *tx)
            .await?
            .ok_or(Rejection::PAYMENT_ALREADY_COMPLETED)?;
        let payment: Payment = read_stored("payments", &payment)?;
        payment.post(data, tx).await?;
        Ok(Reply::ok("payment", &payment))
    }
}
