//! Guarded repairs of derived fields: what can be recomputed is set right, once, on the record, and can be undone.
//!
//! A plan is read first and shown. It has the preconditions of an audit: what is missing, what is no number, and stages
//! that return more or less than one document for each, are reasons to refuse. A value is set in the type that the
//! field has, or not at all.
//!
//! Each repair is then a transaction of its own that reads the document anew and goes on only if the field, what it
//! should be and all that it is computed from are byte for byte what the plan says. The correction and the record of it
//! are written in that transaction, so there is never one without the other; and the check must find nothing in the
//! document any more, or none of it is kept. A writer who changes the document at the same time conflicts with it:
//! MongoDB lets one of the two through, and the loser looks again.
//!
//! What this cannot see is a writer who adds to the inputs in *another* collection without touching the document.
//! Backends that write both in one transaction, as they should, do touch it.
//!
//! Records are claims: whoever may insert into their collection can write anything there. An undo therefore touches only
//! the field of the check, in a document that the check selects, and puts back only what a repair could have replaced.

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

/// One value that a field was computed from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InputValue {
    /// Its path.
    pub path: String,
    /// Its value; nothing if the document has none.
    pub value: Option<Bson>,
}
