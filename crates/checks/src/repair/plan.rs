//! Computes what a repair would do, and from which inputs.

use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Cursor};

use crate::check::{Check, Derived, Rule};
use crate::failure::{Failure, Reason};
use crate::pipeline;
use crate::preconditions::Collections;
use crate::repair::InputValue;
use crate::repair::decision;
use crate::repair::number::Number;
use crate::repair::preconditions;

/// The plan of the repairs for one check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// One step for each document that violates the check.
    pub steps: Vec<Step>,
    /// Whether more documents violate the check than the plan may hold.
    pub more: bool,
    /// The requested ids that no document of the collection has.
    pub unknown: Vec<UnknownId>,
}

/// A requested id that no document has.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UnknownId {
    /// The id as requested.
    pub id: Bson,
    /// The equivalent id of another type that a document has: an ObjectId for its string, a number for its string.
    pub suggestion: Option<Bson>,
}

/// The options of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    ids: Vec<Bson>,
    limit: u32,
    empty_inputs: bool,
}

impl PlanOptions {
    /// A plan for at most `limit` documents.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { ids: Vec::new(), limit, empty_inputs: false }
    }

    /// Restricts the plan to documents with these ids, unless the list is empty.
    #[must_use]
    pub fn ids(mut self, ids: &[Bson]) -> Self {
        self.ids = ids.to_vec();
        self
    }

    /// Whether a value may be replaced by the result of empty inputs, such as 0. The default is that it may not,
    /// because lost inputs look the same.
    #[must_use]
    pub fn empty_inputs(mut self, allowed: bool) -> Self {
        self.empty_inputs = allowed;
        self
    }
}

/// One document, and the repair of its field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The document's `_id`.
    pub id: Bson,
    /// The present value of the field; `None` if the document lacks it.
    pub actual: Option<Bson>,
    /// The expected value of the field, as computed by the server; `None` if it cannot be computed.
    pub expected: Option<Bson>,
    /// The inputs of the expected value.
    pub inputs: Vec<InputValue>,
    /// The possible repair.
    pub repair: Repair,
    /// The document as the server sent it, to detect later changes.
    pub(crate) fingerprint: Vec<u8>,
    /// Whether all inputs exist and are empty.
    pub(crate) is_empty: bool,
}

/// The possible repair of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Repair {
    /// Set the field to this value.
    Set(Bson),
    /// No repair is possible, for this reason: a person has to decide.
    Impossible(String),
}

/// Computes what a repair of a check would do, without doing it, for at most `limit` documents, and only for those
/// with the given ids unless the list is empty.
///
/// The preconditions are those of [`plan_with`].
///
/// # Errors
///
/// As for [`plan_with`].
///
/// # Cancellation
///
/// Dropping the future changes nothing.
pub async fn plan(client: &Client, check: &Check, ids: &[Bson], limit: u32) -> Result<RepairPlan, Failure> {
    plan_with(client, check, &PlanOptions::new(limit).ids(ids)).await
}

/// Computes what a repair of a check would do, without doing it.
///
/// # Errors
///
/// If the check derives no field; if a collection that the check reads does not exist, directly or behind a view; if
/// its `where` matches nothing because of a field that no document has; if its stages do not return one document for
/// each input document; if a lookup, or all inputs, are empty for every document, unless
/// [`PlanOptions::empty_inputs`] allows it; or if the server does not respond.
///
/// # Cancellation
///
/// Dropping the future changes nothing.
pub async fn plan_with(client: &Client, check: &Check, options: &PlanOptions) -> Result<RepairPlan, Failure> {
    let derived = derived(check)?;
    let reader = Reader { client, check, derived };
    preconditions::readable(&reader).await?;
    let unknown = preconditions::known(&reader, &options.ids).await?;
    preconditions::one_for_each(&reader, &options.ids).await?;
    let mut stages = Vec::new();
    if !options.ids.is_empty() {
        stages.push(doc! {"$match": {"_id": {"$in": &options.ids}}});
    }
    stages.extend(pipeline::selected(derived));
    stages.extend(pipeline::inputs(derived));
    stages.push(pipeline::violating(derived));
    stages.push(doc! {"$limit": i64::from(options.limit) + 1});
    stages.push(pipeline::evidence(derived));
    let mut cursor = reader.aggregate(stages).await?;
    let mut plan = RepairPlan { steps: Vec::new(), more: false, unknown };
    while cursor.advance().await? {
        if plan.steps.len() == options.limit as usize {
            plan.more = true;
            break;
        }
        plan.steps.push(Step::read(derived, cursor.current())?);
    }
    if !options.empty_inputs && plan.steps.iter().any(Step::is_possible) {
        preconditions::some_inputs(&reader, &plan.steps).await?;
        plan.steps.iter_mut().for_each(Step::refuse_empty);
    }
    refuse_twins(&mut plan.steps);
    Ok(plan)
}

/// Rejects documents that share an `_id`, which is unique on each shard only.
fn refuse_twins(steps: &mut [Step]) {
    let ids: Vec<_> = steps.iter().map(|step| step.id.clone()).collect();
    for (index, step) in steps.iter_mut().enumerate() {
        if ids.iter().enumerate().any(|(other, id)| other != index && *id == step.id) {
            step.repair = Repair::Impossible(TWINS.to_owned());
        }
    }
}

pub(crate) const TWINS: &str = "more than one document has this _id";

/// Reads the collections of a check for a plan.
pub(crate) struct Reader<'a> {
    client: &'a Client,
    pub(crate) check: &'a Check,
    pub(crate) derived: &'a Derived,
}

impl Reader<'_> {
    /// The collections as the primary sees them, because repairs are made on the primary.
    pub(crate) fn collections(&self) -> Collections<'_> {
        Collections::new(self.client, self.check, SelectionCriteria::ReadPreference(ReadPreference::Primary))
    }

    pub(crate) async fn aggregate(&self, stages: Vec<Document>) -> Result<Cursor<Document>, Failure> {
        let database = self.client.database(&self.check.database);
        let collection = database.collection::<Document>(&self.check.collection);
        let cursor = collection
            .aggregate(stages)
            .allow_disk_use(true)
            .max_time(self.check.max_time)
            // Repairs are planned on the primary, from the latest data: majority-committed data lags behind, and a
            // document that is written often would always have changed. The repair reads the document again, and
            // commits with majority write concern.
            .read_concern(ReadConcern::local())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .comment(format!("txnscope repair {}", self.check.name));
        Ok(cursor.await?)
    }
}

pub(crate) fn derived(check: &Check) -> Result<&Derived, Failure> {
    match &check.rule {
        Rule::Derived(derived) => Ok(derived),
        rule @ (Rule::Forbid(_) | Rule::Pipeline(_) | Rule::Balance(_)) => Err(Failure::new(
            Reason::Other,
            format!(
                "the check {} is of kind {}: only a check with `derived` can be repaired",
                check.name,
                rule.kind()
            ),
        )),
    }
}

impl Step {
    /// Reads a step from the document that [`pipeline::evidence`] returns.
    pub(crate) fn read(derived: &Derived, fingerprint: &RawDocument) -> Result<Self, Failure> {
        let evidence = document(fingerprint)?;
        let fingerprint = fingerprint.as_bytes().to_owned();
        let id = evidence.get("_id").cloned().ok_or_else(|| Failure::malformed("a document without _id"))?;
        let inputs = evidence.get_array("inputs").map(Vec::as_slice).unwrap_or_default();
        let inputs: Vec<_> = inputs
            .iter()
            .filter_map(Bson::as_document)
            .map(|trace| InputValue {
                path: trace.get_str("path").unwrap_or_default().to_owned(),
                value: trace.get("value").cloned(),
            })
            .collect();
        let (actual, expected) = (evidence.get("actual").cloned(), evidence.get("expected").cloned());
        let repair = decision::repair(derived, &evidence, &inputs);
        let is_empty = decision::is_empty(derived, &evidence, &inputs);
        Ok(Self { id, inputs, repair, actual, expected, fingerprint, is_empty })
    }

    pub(crate) fn is_possible(&self) -> bool {
        matches!(self.repair, Repair::Set(_))
    }

    /// Rejects repairs from empty inputs, which may be lost inputs.
    fn refuse_empty(&mut self) {
        let is_nothing = match &self.actual {
            None | Some(Bson::Null | Bson::Undefined) => true,
            Some(actual) => Number::from_bson(actual).is_some_and(|number| number == Number::ZERO),
        };
        if self.is_empty && !is_nothing && self.is_possible() {
            self.repair = Repair::Impossible(
                "all inputs are empty and may have been lost. If there are indeed none, repeat with \
                 --allow-empty-inputs"
                    .to_owned(),
            );
        }
    }
}

/// Deserializes a document verbatim. Serde would read a field `{"$numberLong": "5"}`, which is a document, as the
/// number 5.
pub(crate) fn document(raw: &RawDocument) -> Result<Document, Failure> {
    Document::try_from(raw).map_err(|_| Failure::malformed("a document is not valid BSON"))
}
