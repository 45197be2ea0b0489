//! Whether what a check reads is there at all: what is missing would pass for empty, and what is empty for right.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::SelectionCriteria;
use mongodb::{Client, Database};

use crate::check::{Check, Derived, Rule, Side};
use crate::extended_json::extended_json;
use crate::failure::{Failure, Reason};
use crate::file::{alike, fields};
use crate::pipeline;

const UNAUTHORIZED: i32 = 13;
/// Views of views, at most so many deep: the server allows as many.
const DEEPEST: usize = 20;
/// Of more collections than this, none is proposed in place of one that is missing.
const MOST_NAMES: usize = 1_000;

/// What kind of collection a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Collection,
    View,
    TimeSeries,
}

/// The collections of a database, as far as the user may read them.
#[derive(Debug)]
pub(crate) struct Catalog<'a> {
    database: Database,
    check: &'a Check,
    criteria: SelectionCriteria,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(client: &Client, check: &'a Check, criteria: SelectionCriteria) -> Self {
        Self { database: client.database(&check.database), check, criteria }
    }

    /// The kinds of those of these collections that there are; of all collections, if no name is given.
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
            // Whoever may read a collection may learn that it exists.
            "authorizedCollections": true,
        };
        let reply = self.database.run_command(list).selection_criteria(self.criteria.clone()).await?;
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let batch = batch.map_err(|_| Failure::malformed("listCollections brings no batch"))?;
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

    /// What kind of collection a name is of, if there is one.
    pub(crate) async fn kind(&self, name: &str) -> Result<Option<Kind>, Failure> {
        Ok(self.kinds(&[name]).await?.remove(name))
    }

    /// The first of what a check reads that is missing, if one is, also behind views.
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

    /// Whether there is a document that a filter matches.
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
        let alike = alike(name, &known).filter(|_| known.len() <= MOST_NAMES);
        let hint = alike.map(|other| format!("; did you mean {other}?")).unwrap_or_else(|| ".".to_owned());
        let reader = view.map(|view| format!(", which the view {view} reads")).unwrap_or_default();
        Ok(Failure::new(
            Reason::CollectionMissing,
            format!(
                "there is no collection {name} in {database}{reader}, or the user may not read it{hint} If it is \
                 made later, say may_be_missing = true"
            ),
        ))
    }

    /// What a view reads. Whoever may only read it is not told; then it must have a document.
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
                            "the view {view} is empty, and the user may not see whether what it reads exists: grant \
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
    matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == UNAUTHORIZED)
}

/// What a check reads and compares, which in a collection that has documents should be there in one of them.
pub(crate) struct Expected<'a> {
    pub(crate) collection: &'a str,
    /// Documents that it is about; all if there is no filter.
    pub(crate) filter: Option<&'a Document>,
    /// Paths that are summed or compared.
    pub(crate) paths: Vec<String>,
}

/// What a check that has found nothing should have looked at.
pub(crate) fn expected(check: &Check) -> Vec<Expected<'_>> {
    match &check.rule {
        Rule::Forbid(_) | Rule::Pipeline(_) => Vec::new(),
        Rule::Derived(derived) => vec![Expected {
            collection: &check.collection,
            filter: derived.filter.as_ref(),
            // Nothing is what nothing should be.
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
    /// Which field is in no document of the collection, as far as that makes the check blind: one that is summed, or
    /// one of a filter that selects nothing.
    pub(crate) async fn absent(&self, catalog: &Catalog<'_>) -> Result<Option<Failure>, Failure> {
        if !catalog.any(self.collection, doc! {}).await? {
            return Ok(None);
        }
        let mut paths: Vec<_> = self.paths.iter().map(|path| (path.clone(), "that is compared")).collect();
        if let Some(filter) = self.filter
            && !catalog.any(self.collection, filter.clone()).await?
        {
            paths.extend(fields::of_filter(filter).into_iter().map(|path| (path, "of its `where`")));
        }
        for (path, what) in paths {
            if !catalog.any(self.collection, doc! {&path: {"$exists": true}}).await? {
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

// ===== One document for each =====

/// Stages that count how many documents the stages of a derived field are given, and what they make of them: how many
/// `_id`s, one that comes twice, and one that is of no document.
pub(crate) fn census(check: &Check, derived: &Derived, ids: Option<&[Bson]>) -> Vec<Document> {
    let mut selected: Vec<_> = ids.map(|ids| doc! {"$match": {"_id": {"$in": ids}}}).into_iter().collect();
    selected.extend(pipeline::selected(derived));
    let mut given = selected.clone();
    given.push(doc! {"$project": {"_id": 1}});
    // Both in one pass over the ids, so that each can be asked whether it was given and whether it came back.
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

/// What is wrong with the stages of a derived field, by the first `_id` that a [`census`] has found.
pub(crate) fn one_for_each(check: &Check, found: Option<&Document>) -> Result<(), Failure> {
    let Some(found) = found else { return Ok(()) };
    let id = found.get("_id").map(extended_json).unwrap_or_default();
    let count = |key| {
        found.get(key).and_then(|count| count.as_i64().or_else(|| count.as_i32().map(i64::from))).unwrap_or(0)
    };
    let (given, came) = (count("given"), count("came"));
    let collection = &check.collection;
    let what = if given > 1 {
        format!(
            "{collection} holds {given} documents with the _id {id}: which of them is meant cannot be said"
        )
    } else if given == 0 {
        format!("`stages` of {} yield the _id {id}, which is of no document that they were given", check.name)
    } else if came == 0 {
        format!(
            "`stages` of {} lose the document with the _id {id}: write a $match as `where`, and give $unwind \
             preserveNullAndEmptyArrays",
            check.name
        )
    } else {
        format!(
            "`stages` of {} yield {came} documents for the _id {id}, so that no sum of theirs is whole: group by _id \
             after $unwind, or sum the list itself",
            check.name
        )
    };
    // The _id is a document's.
    let summary = format!(
        "the `stages` of {} do not yield one document for each; `txnscope audit` shows which",
        check.name
    );
    Err(Failure::new(Reason::InvalidQuery, what).summed_up(summary))
}
