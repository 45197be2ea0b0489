//! What a repair would do, and from which inputs.

use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Cursor};

use crate::check::{Check, Derived, Rule};
use crate::failure::{Failure, Reason};
use crate::pipeline;
use crate::preconditions::Catalog;
use crate::repair::InputValue;
use crate::repair::decision;
use crate::repair::number::Number;
use crate::repair::preconditions;

/// The steps for one check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// One for each document that violates it.
    pub steps: Vec<Step>,
    /// There are more than were asked for.
    pub more: bool,
    /// Of the ids that were asked for, those that no document of the collection has.
    pub unknown: Vec<UnknownId>,
}

/// An id that no document has.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UnknownId {
    /// As it was asked for.
    pub id: Bson,
    /// The same in another type, that a document has: an ObjectId for its text, a number for its text.
    pub suggestion: Option<Bson>,
}

/// What a plan is for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    ids: Vec<Bson>,
    limit: u32,
    empty_inputs: bool,
}

impl PlanOptions {
    /// A plan for at most so many documents.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { ids: Vec::new(), limit, empty_inputs: false }
    }

    /// Only for documents with these ids, if there are any.
    #[must_use]
    pub fn ids(mut self, ids: &[Bson]) -> Self {
        self.ids = ids.to_vec();
        self
    }

    /// Whether a value may be replaced by what comes of no inputs at all: by 0, where there is nothing to add. It may
    /// not unless this says so, since inputs that are lost look the same.
    #[must_use]
    pub fn empty_inputs(mut self, allowed: bool) -> Self {
        self.empty_inputs = allowed;
        self
    }
}

/// One document, and what is to become of its field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The document's `_id`.
    pub id: Bson,
    /// What the field is; nothing if the document lacks it.
    pub actual: Option<Bson>,
    /// What the field should be, as the server computed it; nothing if that cannot be said.
    pub expected: Option<Bson>,
    /// What that was computed from.
    pub inputs: Vec<InputValue>,
    /// What can be done.
    pub repair: Repair,
    /// All of it as the server sent it, to be compared later.
    pub(crate) fingerprint: Vec<u8>,
    /// All that it is computed from is there, and empty.
    pub(crate) is_empty: bool,
}

/// What can be done about a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Repair {
    /// Set it to this.
    Set(Bson),
    /// Nothing, for this reason: a person has to look.
    Impossible(String),
}

/// Reads what a repair of that check would do, without doing it: at most so many documents, those with these ids
/// if there are any.
///
/// It has the preconditions of an audit, and more: [`plan_with`].
///
/// # Errors
///
/// As of [`plan_with`].
///
/// # Cancellation
///
/// A plan that is dropped changes nothing.
pub async fn plan(client: &Client, check: &Check, ids: &[Bson], limit: u32) -> Result<RepairPlan, Failure> {
    plan_with(client, check, &PlanOptions::new(limit).ids(ids)).await
}

/// Reads what a repair of that check would do, without doing it.
///
/// # Errors
///
/// If the check derives nothing, so that nothing can be recomputed; if a collection that it reads does not exist, also
/// behind a view; if its `where` selects nothing by a field that no document has; if its stages do not return one
/// document for each; if what it looks up, or all that it is computed from, is empty for every document, unless
/// [`PlanOptions::empty_inputs`] says that this is so; or if the server does not answer.
///
/// # Cancellation
///
/// A plan that is dropped changes nothing.
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

/// An `_id` is unique on each shard, and need not be over all of them.
fn refuse_twins(steps: &mut [Step]) {
    let ids: Vec<_> = steps.iter().map(|step| step.id.clone()).collect();
    for (index, step) in steps.iter_mut().enumerate() {
        if ids.iter().enumerate().any(|(other, id)| other != index && *id == step.id) {
            step.repair = Repair::Impossible(TWINS.to_owned());
        }
    }
}

pub(crate) const TWINS: &str = "more than one document has this _id";

/// What a plan reads with.
pub(crate) struct Reader<'a> {
    client: &'a Client,
    pub(crate) check: &'a Check,
    pub(crate) derived: &'a Derived,
}

impl Reader<'_> {
    /// On the primary, where repairs are made.
    pub(crate) fn catalog(&self) -> Catalog<'_> {
        Catalog::new(self.client, self.check, SelectionCriteria::ReadPreference(ReadPreference::Primary))
    }

    pub(crate) async fn aggregate(&self, stages: Vec<Document>) -> Result<Cursor<Document>, Failure> {
        let database = self.client.database(&self.check.database);
        let collection = database.collection::<Document>(&self.check.collection);
        let cursor = collection
            .aggregate(stages)
            .allow_disk_use(true)
            .max_time(self.check.max_time)
            // Repairs are made on the primary, so that is where they are planned, from the latest there is: what a
            // majority has lags behind, and a document that is often written would never be found as it was read. The
            // repair itself looks again, and commits only what a majority has.
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
                "the check {} is of the kind {}: only a derived field can be recomputed, and so repaired",
                check.name,
                rule.kind()
            ),
        )),
    }
}

impl Step {
    /// From what [`pipeline::evidence`] makes of a document.
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

    /// Inputs that are lost look like inputs of which there are none.
    fn refuse_empty(&mut self) {
        let is_nothing = match &self.actual {
            None | Some(Bson::Null | Bson::Undefined) => true,
            Some(actual) => Number::of(actual).is_some_and(|number| number == Number::ZERO),
        };
        if self.is_empty && !is_nothing && self.is_possible() {
            self.repair = Repair::Impossible(
                "all that it is computed from is empty, as if it were lost. If there is nothing indeed, \
                 --allow-empty-inputs says so"
                    .to_owned(),
            );
        }
    }
}

/// A document as it is. Read in the usual way, a field `{"$numberLong": "5"}`, which is a document, would be the number 5.
pub(crate) fn document(raw: &RawDocument) -> Result<Document, Failure> {
    Document::try_from(raw).map_err(|_| Failure::malformed("a document that is no BSON"))
}
