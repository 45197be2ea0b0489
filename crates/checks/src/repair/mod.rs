//! Guarded repairs of derived fields: a derived field is recomputed, corrected once, recorded, and can be restored.
//!
//! A plan is computed and shown first. It has the preconditions of an audit: missing collections and fields, values
//! that are not numbers, and stages that return more or less than one document for each input document are rejected.
//! A value is set in the type that the field has, or not at all.
//!
//! Each repair is a transaction of its own. It reads the document again and continues only if the field, its expected
//! value and all inputs equal the plan byte for byte. The correction and its record are written in this transaction,
//! so neither exists without the other, and the transaction commits only if the check is no longer violated by the
//! document. A concurrent writer of the document conflicts with the transaction: MongoDB lets one of the two commit,
//! and the other one reads again.
//!
//! A writer who adds inputs in *another* collection without touching the document is not detected. Backends that
//! write both in one transaction, as they should, do touch the document.
//!
//! Records are untrusted: a user who may insert into their collection can write anything. An undo therefore changes
//! only the field of the check, in a document that the check selects, and restores only a value that a repair could
//! have replaced.

mod apply;
mod decision;
mod number;
mod plan;
mod preconditions;
mod record;
mod undo;
mod verification;

pub use apply::{RepairOutcome, Repairer};
pub use plan::{PlanOptions, Repair, RepairPlan, Step, UnknownId, plan, plan_with};
pub use record::{Author, RepairRecord};
pub use undo::{MAX_RECORDS, StoredRecord, UndoOptions, UndoSelector, records, undo, undo_with};

use mongodb::bson::Bson;
#[cfg(feature = "fuzzing")]
pub(crate) use verification::{agrees, named};

/// One input of a derived field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InputValue {
    /// The path of the input.
    pub path: String,
    /// The value; `None` if the document has none.
    pub value: Option<Bson>,
}
