//! What a repair would do, and from which history.

use mongodb::Client;
use mongodb::bson::{Bson, Decimal128, Document, doc};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};

use crate::check::{Check, Derived, Rule};
use crate::failure::{Failure, Reason};
use crate::pipeline;
use crate::repair::Trace;

/// The steps for one check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// One for each document that violates it.
    pub steps: Vec<Step>,
    /// There are more than were asked for.
    pub more: bool,
}

/// One document, and what is to become of its field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The document's `_id`.
    pub id: Bson,
    /// What the field is; nothing if the document lacks it.
    pub actual: Option<Bson>,
    /// What the field should be, as the server computed it.
    pub expected: Option<Bson>,
    /// What that was computed from.
    pub history: Vec<Trace>,
    /// What can be done.
    pub repair: Repair,
    /// All of it as the server sent it, to be compared later.
    pub(crate) seen: Vec<u8>,
}

/// What can be done about a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Repair {
    /// Set it to this.
    Set(Bson),
    /// Nothing, for this reason: a person has to look.
    Impossible(&'static str),
}

/// Reads what a repair of that check would do, without doing it: at most so many documents, those with these ids
/// if there are any.
///
/// # Errors
///
/// If the check derives nothing, so that nothing can be recomputed; or if the server does not answer.
///
/// # Cancellation
///
/// A plan that is dropped changes nothing.
pub async fn plan(client: &Client, check: &Check, ids: &[Bson], most: u32) -> Result<Plan, Failure> {
    let derived = derived(check)?;
    let mut stages = Vec::new();
    if !ids.is_empty() {
        stages.push(doc! {"$match": {"_id": {"$in": ids}}});
    }
    stages.extend(pipeline::violations(check));
    stages.push(doc! {"$limit": i64::from(most) + 1});
    stages.push(pipeline::evidence(derived));
    let collection = client.database(&check.database).collection::<Document>(&check.collection);
    let mut cursor = collection
        .aggregate(stages)
        .allow_disk_use(true)
        .max_time(check.max_time)
        // Repairs are made on the primary, so that is where they are planned, from the latest there is: what a
        // majority has lags behind, and a document that is often written would never be found as it was read. The
        // repair itself looks again, and commits only what a majority has.
        .read_concern(ReadConcern::local())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .comment(format!("txnscope repair {}", check.name))
        .await?;
    let mut plan = Plan { steps: Vec::new(), more: false };
    while cursor.advance().await? {
        if plan.steps.len() == most as usize {
            plan.more = true;
            break;
        }
        plan.steps.push(Step::read(cursor.deserialize_current()?)?);
    }
    Ok(plan)
}

pub(crate) fn derived(check: &Check) -> Result<&Derived, Failure> {
    match &check.rule {
        Rule::Derived(derived) => Ok(derived),
        rule @ (Rule::Forbid(_) | Rule::Pipeline(_) | Rule::Balance(_)) => Err(Failure::new(
            Reason::Other,
            format!(
                "the check {} is of the kind {}: only a derived field can be recomputed, and so repaired",
                check.name,
                rule.kind()
            ),
        )),
    }
}

impl Step {
    /// From what [`pipeline::evidence`] makes of a document.
    pub(crate) fn read(evidence: Document) -> Result<Self, Failure> {
        let seen =
            evidence.to_vec().map_err(|_| Failure::malformed("a document that cannot be written back"))?;
        let id = evidence.get("_id").cloned().ok_or_else(|| Failure::malformed("a document without _id"))?;
        let history = evidence.get_array("history").map(Vec::as_slice).unwrap_or_default();
        let history = history.iter().filter_map(Bson::as_document).map(|trace| Trace {
            path: trace.get_str("path").unwrap_or_default().to_owned(),
            value: trace.get("value").cloned(),
        });
        let (actual, expected) = (evidence.get("actual").cloned(), evidence.get("expected").cloned());
        let repair = repair(actual.as_ref(), expected.as_ref());
        Ok(Self { id, history: history.collect(), repair, actual, expected, seen })
    }
}

/// An expression that comes to nothing could not be computed: a part of the history is missing or no number.
fn repair(actual: Option<&Bson>, expected: Option<&Bson>) -> Repair {
    match expected {
        None | Some(Bson::Null | Bson::Undefined) => {
            Repair::Impossible("its history does not add up to a value: a part is missing, or is no number")
        }
        Some(Bson::Double(number)) if !number.is_finite() => {
            Repair::Impossible("its history adds up to no finite number")
        }
        Some(Bson::Decimal128(number)) if !is_finite(number) => {
            Repair::Impossible("its history adds up to no finite number")
        }
        Some(expected) => Repair::Set(as_stored(actual, expected)),
    }
}

fn is_finite(number: &Decimal128) -> bool {
    let text = number.to_string();
    !text.contains("NaN") && !text.contains("Inf")
}

/// The value in the type that the field has, if that loses nothing: the sum of no amounts is an int to MongoDB, and
/// a backend that keeps longs may not read one.
fn as_stored(actual: Option<&Bson>, expected: &Bson) -> Bson {
    /// The whole numbers that a double holds exactly.
    const EXACT: i64 = 1 << 53;
    let whole = match expected {
        Bson::Int32(number) => i64::from(*number),
        Bson::Int64(number) => *number,
        _ => return expected.clone(),
    };
    match actual {
        Some(Bson::Int64(_)) => Bson::Int64(whole),
        #[allow(clippy::cast_precision_loss, reason = "within the bounds there is none")]
        Some(Bson::Double(_)) if (-EXACT..=EXACT).contains(&whole) => Bson::Double(whole as f64),
        Some(Bson::Decimal128(_)) => whole.to_string().parse().map_or(expected.clone(), Bson::Decimal128),
        _ => expected.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn a_whole_number_takes_the_type_that_the_field_has_and_loses_nothing() {
        for (actual, expected, set) in [
            (Some(Bson::Int64(5)), Bson::Int32(0), Bson::Int64(0)),
            (Some(Bson::Int32(5)), Bson::Int64(1 << 40), Bson::Int64(1 << 40)),
            (Some(Bson::Double(0.5)), Bson::Int32(7), Bson::Double(7.0)),
            (Some(Bson::Double(0.5)), Bson::Int64((1 << 53) + 1), Bson::Int64((1 << 53) + 1)),
            (Some(decimal("1.5")), Bson::Int32(-7), decimal("-7")),
            (Some(Bson::Int64(5)), Bson::Double(0.5), Bson::Double(0.5)),
            (None, Bson::Int32(7), Bson::Int32(7)),
            (Some(Bson::String("5".into())), Bson::Int32(7), Bson::Int32(7)),
        ] {
            assert_eq!(repair(actual.as_ref(), Some(&expected)), Repair::Set(set), "{actual:?} {expected:?}");
        }
    }

    #[test]
    fn what_comes_to_nothing_is_never_written() {
        for expected in [
            None,
            Some(Bson::Null),
            Some(Bson::Double(f64::NAN)),
            Some(decimal("NaN")),
            Some(decimal("Infinity")),
        ] {
            let repair = repair(Some(&Bson::Int32(1)), expected.as_ref());
            assert!(matches!(repair, Repair::Impossible(_)), "{expected:?}");
        }
    }
}
