//! Verifies that the collections and fields that a check reads exist: a missing collection would look like an empty
//! one, and a missing field like correct data.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::SelectionCriteria;
use mongodb::{Client, Database};
use txnscope_catalog::nearest;
use txnscope_mongo::server_code;

use crate::check::{Check, Derived, Rule, Side};
use crate::extended_json::extended_json;
use crate::failure::{Failure, Reason};
use crate::file::fields;
use crate::pipeline;

const UNAUTHORIZED: i32 = 13;
/// The maximum depth of views of views, which is also the server's limit.
const DEEPEST: usize = 20;
/// No similar name is suggested for a missing collection if the database has more collections than this.
const MOST_NAMES: usize = 1_000;

/// The kind of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Collection,
    View,
    TimeSeries,
}

/// The collections of a database that the user may read.
#[derive(Debug)]
pub(crate) struct Collections<'a> {
    database: Database,
    check: &'a Check,
    criteria: SelectionCriteria,
}

impl<'a> Collections<'a> {
    pub(crate) fn new(client: &Client, check: &'a Check, criteria: SelectionCriteria) -> Self {
        Self { database: client.database(&check.database), check, criteria }
    }

    /// The kinds of those of the named collections that exist; of all collections, if no name is given.
    async fn kinds(&self, names: &[&str]) -> Result<BTreeMap<String, Kind>, Failure> {
        let filter = if names.is_empty() {
            doc! {}
        } else {
            doc! {"name": {"$in": names}}
        };
        let list = doc! {
            "listCollections": 1,
            "filter": filter,
            "nameOnly": true,
            // A user who may read a collection may list it.
            "authorizedCollections": true,
        };
        let reply = self.database.run_command(list).selection_criteria(self.criteria.clone()).await?;
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let batch = batch.map_err(|_| Failure::malformed("listCollections returned no batch"))?;
        let kinds = batch.iter().filter_map(|entry| {
            let entry = entry.as_document()?;
            let kind = match entry.get_str("type") {
                Ok("view") => Kind::View,
                Ok("timeseries") => Kind::TimeSeries,
                _ => Kind::Collection,
            };
            Some((entry.get_str("name").ok()?.to_owned(), kind))
        });
        Ok(kinds.collect())
    }

    /// The kind of the collection with that name, if it exists.
    pub(crate) async fn kind(&self, name: &str) -> Result<Option<Kind>, Failure> {
        Ok(self.kinds(&[name]).await?.remove(name))
    }

    /// The failure for the first missing collection that the check reads, directly or through views.
    pub(crate) async fn missing(&self) -> Result<Option<Failure>, Failure> {
        let mut names: Vec<(String, Option<String>)> =
            pipeline::sources(self.check).into_iter().map(|name| (name, None)).collect();
        for _ in 0..DEEPEST {
            if names.is_empty() {
                break;
            }
            let asked: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
            let kinds = self.kinds(&asked).await?;
            let mut behind = Vec::new();
            for (name, view) in names {
                match kinds.get(&name) {
                    None => return Ok(Some(self.absent(&name, view.as_deref()).await?)),
                    Some(Kind::View) => behind.extend(self.behind(&name).await?),
                    Some(Kind::Collection | Kind::TimeSeries) => {}
                }
            }
            names = behind;
        }
        Ok(None)
    }

    /// Whether the collection has a document that matches the filter.
    pub(crate) async fn any(&self, collection: &str, filter: Document) -> Result<bool, Failure> {
        let collection = self.database.collection::<Document>(collection);
        let found = collection
            .find_one(filter)
            .projection(doc! {"_id": 1})
            .selection_criteria(self.criteria.clone())
            .max_time(self.check.max_time)
            .comment(format!("txnscope check {}", self.check.name));
        Ok(found.await?.is_some())
    }

    async fn absent(&self, name: &str, view: Option<&str>) -> Result<Failure, Failure> {
        let database = self.database.name();
        let known = self.kinds(&[]).await?;
        let known: Vec<_> =
            known.keys().map(String::as_str).filter(|name| !name.starts_with("system.")).collect();
        let alike = nearest(name, &known).filter(|_| known.len() <= MOST_NAMES);
        let hint = alike.map(|other| format!("; did you mean {other}?")).unwrap_or_else(|| ".".to_owned());
        let reader = view.map(|view| format!(", which the view {view} reads")).unwrap_or_default();
        Ok(Failure::new(
            Reason::CollectionMissing,
            format!(
                "there is no collection {name} in {database}{reader}, or the user may not read it{hint} If it is \
                 created later, set may_be_missing = true"
            ),
        ))
    }

    /// The collections that a view reads. If the user may only read the view and not its definition, the view must
    /// have a document.
    async fn behind(&self, view: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
        let list = doc! {"listCollections": 1, "filter": {"name": view}};
        let reply = match self.database.run_command(list).selection_criteria(self.criteria.clone()).await {
            Err(error) if is_unauthorized(&error) => {
                let collection = self.database.collection::<Document>(view);
                let any = collection.find_one(doc! {});
                let any = any.selection_criteria(self.criteria.clone()).max_time(self.check.max_time).await?;
                return match any {
                    Some(_) => Ok(Vec::new()),
                    None => Err(Failure::new(
                        Reason::PermissionDenied,
                        format!(
                            "the view {view} is empty, and the user may not read its definition to see whether its collections exist: grant \
                             listCollections on {}",
                            self.database.name()
                        ),
                    )),
                };
            }
            other => other?,
        };
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let first = batch.ok().and_then(|batch| batch.first()).and_then(Bson::as_document);
        let options = first.and_then(|entry| entry.get_document("options").ok());
        let Some(options) = options else { return Ok(Vec::new()) };
        let stages = options.get_array("pipeline").map(Vec::as_slice).unwrap_or_default();
        let stages: Vec<_> = stages.iter().filter_map(|stage| stage.as_document().cloned()).collect();
        if let Some(operator) = stages.iter().find_map(fields::in_document)
            && !self.check.allow_javascript
        {
            return Err(Failure::new(
                Reason::InvalidQuery,
                format!(
                    "the view {view} has {operator}, which runs JavaScript on the server: that may go on after `max_time`. \
                     Read a collection, or allow it with `allow_javascript = true` in the check"
                ),
            ));
        }
        let mut names: Vec<_> = options.get_str("viewOn").ok().map(str::to_owned).into_iter().collect();
        names.extend(fields::collections(&stages));
        Ok(names.into_iter().map(|name| (name, Some(view.to_owned()))).collect())
    }
}

fn is_unauthorized(error: &Error) -> bool {
    server_code(error) == Some(UNAUTHORIZED)
}

/// The collection and fields that a check reads; a collection that has documents should have the fields in one of
/// them.
pub(crate) struct Expected<'a> {
    pub(crate) collection: &'a str,
    /// The filter for the documents that count; all documents if there is none.
    pub(crate) filter: Option<&'a Document>,
    /// The paths that are summed or compared.
    pub(crate) paths: Vec<String>,
}

/// The collections and fields that must exist for a clean result to be trusted.
pub(crate) fn expected(check: &Check) -> Vec<Expected<'_>> {
    match &check.rule {
        Rule::Forbid(_) | Rule::Pipeline(_) => Vec::new(),
        Rule::Derived(derived) => vec![Expected {
            collection: &check.collection,
            filter: derived.filter.as_ref(),
            // An absent value is what an absent field should have.
            paths: vec![derived.field.clone()],
        }],
        Rule::Balance(balance) => {
            let side = |side: &'_ Side| fields::paths(&side.sum);
            [&balance.left, &balance.right]
                .map(|one| Expected {
                    collection: &one.collection,
                    filter: one.filter.as_ref(),
                    paths: side(one),
                })
                .into()
        }
    }
}

impl Expected<'_> {
    /// The failure for a field that no document of the collection has and that makes the check blind: one that is
    /// summed, or one of a filter that matches nothing.
    pub(crate) async fn absent(&self, collections: &Collections<'_>) -> Result<Option<Failure>, Failure> {
        if !collections.any(self.collection, doc! {}).await? {
            return Ok(None);
        }
        let mut paths: Vec<_> = self.paths.iter().map(|path| (path.clone(), "that is compared")).collect();
        if let Some(filter) = self.filter
            && !collections.any(self.collection, filter.clone()).await?
        {
            paths.extend(fields::of_filter(filter).into_iter().map(|path| (path, "of its `where`")));
        }
        for (path, what) in paths {
            if !collections.any(self.collection, doc! {&path: {"$exists": true}}).await? {
                return Ok(Some(Failure::new(
                    Reason::InvalidQuery,
                    format!(
                        "no document of {} has the field {path} {what}: is it spelled as in the data?",
                        self.collection
                    ),
                )));
            }
        }
        Ok(None)
    }
}

// ===== One result document per input document =====

/// Stages that count how many documents the stages of a derived field receive and return: the number of each `_id`,
/// one that is returned twice, and one that belongs to no document.
pub(crate) fn census(check: &Check, derived: &Derived, ids: Option<&[Bson]>) -> Vec<Document> {
    let mut selected: Vec<_> = ids.map(|ids| doc! {"$match": {"_id": {"$in": ids}}}).into_iter().collect();
    selected.extend(pipeline::selected(derived));
    let mut given = selected.clone();
    given.push(doc! {"$project": {"_id": 1}});
    // One pass over the ids of both sides, so that each id can be compared: received and returned.
    let came = {
        let mut stages = selected;
        stages.extend(derived.stages.iter().cloned());
        stages.push(doc! {"$project": {"_id": 1, "txnscopeCame": {"$literal": 1}}});
        stages
    };
    given.push(doc! {"$set": {"txnscopeCame": {"$literal": 0}}});
    given.push(doc! {"$unionWith": {"coll": &check.collection, "pipeline": came}});
    given.push(doc! {"$group": {
        "_id": "$_id",
        "given": {"$sum": {"$cond": [{"$eq": ["$txnscopeCame", 0]}, 1, 0]}},
        "came": {"$sum": "$txnscopeCame"},
    }});
    given.push(doc! {"$match": {"$expr": {"$or": [{"$ne": ["$given", 1]}, {"$ne": ["$came", 1]}]}}});
    given.push(doc! {"$limit": 1});
    given
}

/// The failure for the first `_id` that a [`census`] has found.
pub(crate) fn one_for_each(check: &Check, found: Option<&Document>) -> Result<(), Failure> {
    let Some(found) = found else { return Ok(()) };
    let id = found.get("_id").map(extended_json).unwrap_or_default();
    let count = |key| {
        found.get(key).and_then(|count| count.as_i64().or_else(|| count.as_i32().map(i64::from))).unwrap_or(0)
    };
    let (given, came) = (count("given"), count("came"));
    let collection = &check.collection;
    let what = if given > 1 {
        format!("{collection} holds {given} documents with the _id {id}: the _id must be unique")
    } else if given == 0 {
        format!(
            "`stages` of {} return the _id {id}, which belongs to none of their input documents",
            check.name
        )
    } else if came == 0 {
        format!(
            "`stages` of {} drop the document with the _id {id}: write a $match as `where`, and give $unwind \
             preserveNullAndEmptyArrays",
            check.name
        )
    } else {
        format!(
            "`stages` of {} return {came} documents for the _id {id}, so that none of their sums is complete: group by _id \
             after $unwind, or sum the list itself",
            check.name
        )
    };
    // The _id is data of a document.
    let summary = format!(
        "the `stages` of {} do not return exactly one document for each input document; `txnscope audit` shows which",
        check.name
    );
    Err(Failure::new(Reason::InvalidQuery, what).summed_up(summary))
}
