//! Ensures that an invoice is paid by one completed payment, in every spelling of its number.

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};
use tracing::{info, warn};

use crate::identifier::normal_form;
use crate::payments::Payment;

/// The field of a completed payment that holds the normal form of its invoice number.
pub(crate) const INVOICE_KEY: &str = "invoiceKey";

/// How many payments receive their key in one command.
const BATCH: usize = 500;

/// The filter for the payment of an invoice. An older release may have stored the number verbatim and no key.
pub(crate) fn paid(invoice: &str) -> Document {
    doc! { "status": "completed", "$or": [{ INVOICE_KEY: normal_form(invoice) }, { "invoiceId": invoice }] }
}

/// The unique indexes: on the stored number, as in every release, and on its normal form.
pub(crate) fn indexes() -> [IndexModel; 2] {
    ["invoiceId", INVOICE_KEY].map(|field| {
        let options = IndexOptions::builder()
            .unique(true)
            .partial_filter_expression(doc! { "status": "completed", field: { "$type": "string" } })
            .build();
        IndexModel::builder().keys(doc! { field: 1 }).options(options).build()
    })
}

/// Sets the invoice key of completed payments of older releases. If two of them have paid one invoice, the later one
/// receives none: the check `payment_completed_twice` finds both, and a third is rejected.
pub(crate) async fn give_keys(payments: &Collection<Payment>) -> Result<(), Error> {
    let keyless = doc! {
        "status": "completed", "invoiceId": { "$type": "string" }, INVOICE_KEY: { "$exists": false },
    };
    let of = payments.clone_with_type::<Document>();
    let mut found = of.find(keyless).projection(doc! { "invoiceId": 1 }).await?;
    let (mut given, mut batch) = (0, Vec::new());
    loop {
        let more = found.advance().await?;
        if more {
            batch.push(found.deserialize_current()?);
        }
        if batch.len() == BATCH || (!more && !batch.is_empty()) {
            given += give(&of, std::mem::take(&mut batch)).await?;
        }
        if !more {
            break;
        }
    }
    if given > 0 {
        info!(payments = given, "completed payments of an older release now have invoice keys");
    }
    Ok(())
}

/// The number of payments that received their key.
async fn give(payments: &Collection<Document>, batch: Vec<Document>) -> Result<usize, Error> {
    const DUPLICATE_KEY: i32 = 11000;
    let change = |payment: &Document| {
        let invoice = payment.get_str("invoiceId").unwrap_or_default();
        doc! {
            "q": { "_id": payment.get("_id"), "status": "completed", "invoiceId": invoice, INVOICE_KEY: { "$exists": false } },
            "u": { "$set": { INVOICE_KEY: normal_form(invoice) } },
        }
    };
    let updates: Vec<_> = batch.iter().map(change).collect();
    let update = doc! { "update": payments.name(), "ordered": false, "updates": updates };
    let reply = payments.client().database(&payments.namespace().db).run_command(update).await?;
    let errors = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    for error in errors.iter().filter_map(Bson::as_document) {
        let payment = error.get_i32("index").ok().and_then(|at| batch.get(usize::try_from(at).ok()?));
        let Some(payment) = payment.filter(|_| error.get_i32("code").is_ok_and(|code| code == DUPLICATE_KEY))
        else {
            let message = error.get_str("errmsg").unwrap_or("no message");
            return Err(Error::custom(format!("cannot set the invoice key of a payment: {message}")));
        };
        warn!(
            payment = payment.get("_id").map(Bson::to_string),
            invoice = payment.get_str("invoiceId").ok().map(|invoice| invoice.escape_debug().to_string()),
            "two payments have paid one invoice; `txnscope audit` shows them as payment_completed_twice"
        );
    }
    Ok(batch.len() - errors.len())
}
