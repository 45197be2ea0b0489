//! Verifies the preconditions of a repair: those of an audit, and that the inputs exist.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use crate::failure::{Failure, Reason};
use crate::pipeline;
use crate::preconditions;
use crate::preconditions::{Kind, census, expected};
use crate::repair::Step;
use crate::repair::decision::own_inputs;
use crate::repair::plan::{Reader, UnknownId};
use crate::strict::Limits;
use crate::strict::stages::{joins, keep_each, strict};

/// The collections exist, the repaired collection can be written in a transaction, and a `where` that matches nothing
/// does not have a misspelled field.
pub(crate) async fn readable(reader: &Reader<'_>) -> Result<(), Failure> {
    let check = reader.check;
    let collections = reader.collections();
    let name = &check.collection;
    if let Some(missing) = collections.missing().await?
        && (!check.may_be_missing || collections.kind(name).await?.is_none())
    {
        return Err(missing);
    }
    let refused = match collections.kind(name).await? {
        Some(Kind::View) => Some("a view: name the collection that it reads"),
        Some(Kind::TimeSeries) => Some("a time series, which no transaction can write"),
        Some(Kind::Collection) | None => None,
    };
    if let Some(what) = refused {
        return Err(Failure::new(Reason::InvalidQuery, format!("{name} is {what}")));
    }
    for mut one in expected(check) {
        // The repair may be the one that creates the field.
        one.paths.clear();
        if let Some(failure) = one.absent(&collections).await? {
            return Err(failure);
        }
    }
    Ok(())
}

/// The ids that no document has.
pub(crate) async fn known(reader: &Reader<'_>, ids: &[Bson]) -> Result<Vec<UnknownId>, Failure> {
    let mut unknown = Vec::new();
    for id in ids {
        if !reader.collections().any(&reader.check.collection, doc! {"_id": {"$eq": id}}).await? {
            unknown.push(UnknownId { id: id.clone(), suggestion: suggestion(reader, id).await? });
        }
    }
    Ok(unknown)
}

/// The equivalent id of another type: an ObjectId or its string, a number or its string.
async fn suggestion(reader: &Reader<'_>, id: &Bson) -> Result<Option<Bson>, Failure> {
    let mut others = Vec::new();
    match id {
        Bson::ObjectId(id) => others.push(Bson::String(id.to_hex())),
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => others.push(Bson::String(id.to_string())),
        Bson::String(text) => {
            others.extend(ObjectId::parse_str(text).ok().map(Bson::ObjectId));
            others.extend(text.parse().ok().map(Bson::Int64));
        }
        _ => {}
    }
    for other in others {
        if reader.collections().any(&reader.check.collection, doc! {"_id": {"$eq": &other}}).await? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The stages return exactly one document for each input document.
pub(crate) async fn one_for_each(reader: &Reader<'_>, ids: &[Bson]) -> Result<(), Failure> {
    if keep_each(&reader.derived.stages) {
        return Ok(());
    }
    let ids = (!ids.is_empty()).then_some(ids);
    let mut cursor = reader.aggregate(census(reader.check, reader.derived, ids)).await?;
    let found = if cursor.advance().await? { Some(cursor.deserialize_current()?) } else { None };
    preconditions::one_for_each(reader.check, found.as_ref())
}

/// Each lookup finds something for some document, and not all documents have empty inputs.
pub(crate) async fn some_inputs(reader: &Reader<'_>, steps: &[Step]) -> Result<(), Failure> {
    let derived = reader.derived;
    let empty = |what: String| {
        Err(Failure::new(
            Reason::InvalidQuery,
            format!(
                "{what}: check the names of collections and fields, and the types of the keys. If it is really \
                 empty, repeat with --allow-empty-inputs"
            ),
        ))
    };
    for (index, stage) in derived.stages.iter().enumerate() {
        let Some(joined) = joins(stage) else { continue };
        let mut stages = pipeline::selected(derived);
        stages.extend(strict(&derived.stages[..=index], Limits::Finite));
        stages.push(doc! {"$match": {format!("{joined}.0"): {"$exists": true}}});
        stages.push(doc! {"$limit": 1});
        stages.push(doc! {"$project": {"_id": 1}});
        if !reader.aggregate(stages).await?.advance().await? {
            let from = source(stage);
            return empty(format!(
                "the $lookup of {from} finds nothing for any document of {}",
                reader.check.collection
            ));
        }
    }
    let own = own_inputs(derived);
    if steps.iter().filter(|step| step.is_possible()).all(|step| step.is_empty)
        && !own.is_empty()
        && derived.stages.iter().all(|stage| joins(stage).is_none())
    {
        let some: Vec<_> = own
            .iter()
            .map(|path| doc! {path: {"$exists": true, "$nin": [Bson::Null, Bson::Array(Vec::new())]}})
            .collect();
        let mut filter = derived.filter.clone().into_iter().map(Bson::Document).collect::<Vec<_>>();
        filter.push(doc! {"$or": some}.into());
        if !reader.collections().any(&reader.check.collection, doc! {"$and": filter}).await? {
            return empty(format!(
                "no document of {} has anything in {}",
                reader.check.collection,
                own.join(", ")
            ));
        }
    }
    Ok(())
}

fn source(stage: &Document) -> &str {
    let of = stage.get_document("$lookup").or_else(|_| stage.get_document("$graphLookup"));
    of.ok().and_then(|of| of.get_str("from").ok()).unwrap_or("another collection")
}
