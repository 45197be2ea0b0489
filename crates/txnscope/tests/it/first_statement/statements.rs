//! First statements of a transaction: successful ones, ones that the driver rejects, and ones that the server rejects
//! before or after starting the transaction.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::options::{
    Acknowledgment, CollectionOptions, CursorType, Hint, ReadConcern, ReadPreference, ReturnDocument,
    SelectionCriteria, WriteConcern,
};
use mongodb::{ClientSession, Database, IndexModel};
use serde::Deserialize;

/// One statement in the session's transaction.
pub(crate) type Statement = for<'a> fn(&'a Database, &'a mut ClientSession) -> BoxFuture<'a, Result<()>>;

/// A type that does not match the stored documents.
#[derive(Debug, Deserialize)]
struct Misfit {
    #[allow(dead_code, reason = "only its type is wanted")]
    nowhere: u32,
}

/// Creates the collections and documents that the statements use.
pub(crate) async fn set_up(db: &Database) -> Result<()> {
    let items = db.collection::<Document>("items");
    items.insert_many((1..=20).map(|n| doc! {"_id": n, "n": n, "text": "a text", "list": [n]})).await?;
    let unique = IndexModel::builder()
        .keys(doc! {"n": 1})
        .options(mongodb::options::IndexOptions::builder().unique(true).build());
    items.create_index(unique.build()).await?;
    db.create_collection("empty").await?;
    db.create_collection("capped").capped(true).size(4_096).await?;
    db.collection("capped").insert_one(doc! {"_id": 1, "text": "short"}).await?;
    db.run_command(doc! {"create": "series", "timeseries": {"timeField": "at"}}).await?;
    db.run_command(doc! {"create": "view", "viewOn": "items", "pipeline": []}).await?;
    db.run_command(doc! {"create": "strict", "validator": {"n": {"$type": "int"}}}).await?;
    db.collection("strict").insert_one(doc! {"_id": 1, "n": 1}).await?;
    Ok(())
}

macro_rules! statements {
    ($(($name:literal, |$db:ident, $session:ident| $statement:expr)),* $(,)?) => {
        /// The statements and their names.
        pub(crate) const STATEMENTS: &[(&str, Statement)] = &[
            $(($name, |$db, $session| async move { $statement?; Ok(()) }.boxed())),*
        ];
    };
}

fn items(db: &Database) -> mongodb::Collection<Document> {
    db.collection("items")
}

statements![
    // Successful statements.
    ("find_one", |db, s| items(db).find_one(doc! {"_id": 1}).session(s).await),
    ("find_one of nothing", |db, s| items(db).find_one(doc! {"_id": "none"}).session(s).await),
    ("find in a view", |db, s| db.collection::<Document>("view").find_one(doc! {}).session(s).await),
    ("find in a capped collection", |db, s| db
        .collection::<Document>("capped")
        .find_one(doc! {})
        .session(s)
        .await),
    ("find in a time series", |db, s| db.collection::<Document>("series").find_one(doc! {}).session(s).await),
    ("find where there is no collection", |db, s| db
        .collection::<Document>("none")
        .find_one(doc! {})
        .session(s)
        .await),
    ("find with batches", |db, s| items(db).find(doc! {}).batch_size(2).session(s).await),
    ("aggregate", |db, s| items(db).aggregate([doc! {"$match": {"n": 1}}]).session(s).await),
    ("aggregate with $lookup", |db, s| items(db)
        .aggregate([doc! {"$lookup": {"from": "empty", "localField": "n", "foreignField": "n", "as": "x"}}])
        .session(s)
        .await),
    ("aggregate with $unionWith", |db, s| items(db)
        .aggregate([doc! {"$unionWith": "empty"}])
        .session(s)
        .await),
    ("count_documents", |db, s| items(db).count_documents(doc! {}).session(s).await),
    ("distinct", |db, s| items(db).distinct("n", doc! {}).session(s).await),
    ("insert_one", |db, s| items(db).insert_one(doc! {"_id": 100, "n": 100}).session(s).await),
    ("insert_many", |db, s| items(db)
        .insert_many((100..150).map(|n| doc! {"_id": n, "n": n}))
        .session(s)
        .await),
    ("insert into a new collection", |db, s| db.collection("new").insert_one(doc! {}).session(s).await),
    ("update_one", |db, s| items(db).update_one(doc! {"_id": 1}, doc! {"$inc": {"m": 1}}).session(s).await),
    ("update_one of nothing", |db, s| items(db)
        .update_one(doc! {"_id": "none"}, doc! {"$inc": {"m": 1}})
        .session(s)
        .await),
    ("update_one with upsert", |db, s| items(db)
        .update_one(doc! {"_id": 200}, doc! {"$set": {"n": 200}})
        .upsert(true)
        .session(s)
        .await),
    ("update_many", |db, s| items(db).update_many(doc! {}, doc! {"$inc": {"m": 1}}).session(s).await),
    ("replace_one", |db, s| items(db).replace_one(doc! {"_id": 1}, doc! {"n": 1}).session(s).await),
    ("delete_one", |db, s| items(db).delete_one(doc! {"_id": 1}).session(s).await),
    ("find_one_and_update", |db, s| items(db)
        .find_one_and_update(doc! {"_id": 1}, doc! {"$inc": {"m": 1}})
        .return_document(ReturnDocument::After)
        .session(s)
        .await),
    ("find_one_and_delete", |db, s| items(db).find_one_and_delete(doc! {"_id": 1}).session(s).await),
    // Statements that the server has executed, with a reply that the driver cannot decode.
    ("find_one of another type", |db, s| db
        .collection::<Misfit>("items")
        .find_one(doc! {"_id": 1})
        .session(s)
        .await),
    ("find_one_and_update of another type", |db, s| db
        .collection::<Misfit>("items")
        .find_one_and_update(doc! {"_id": 1}, doc! {"$inc": {"m": 1}})
        .session(s)
        .await),
    ("a cursor of another type", |db, s| {
        let mut cursor = db.collection::<Misfit>("items").find(doc! {}).session(&mut *s).await?;
        cursor.next(s).await.transpose()
    }),
    // Statements that the driver rejects.
    ("update without an operator", |db, s| items(db)
        .update_one(doc! {}, doc! {"no operator": 1})
        .session(s)
        .await),
    ("replace with an operator", |db, s| items(db)
        .replace_one(doc! {}, doc! {"$set": {"n": 1}})
        .session(s)
        .await),
    ("insert_many of nothing", |db, s| items(db).insert_many(Vec::<Document>::new()).session(s).await),
    ("a read concern of its own", |db, s| items(db)
        .find_one(doc! {})
        .read_concern(ReadConcern::local())
        .session(s)
        .await),
    ("a write concern of its own", |db, s| items(db)
        .insert_one(doc! {"n": 300})
        .write_concern(WriteConcern::from(Acknowledgment::Nodes(1)))
        .session(s)
        .await),
    ("a secondary", |db, s| items(db)
        .find_one(doc! {})
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: None }))
        .session(s)
        .await),
    ("estimated_document_count by command", |db, s| db.run_command(doc! {"count": "items"}).session(s).await),
    // Statements that violate a rule about the data.
    ("a duplicate _id", |db, s| items(db).insert_one(doc! {"_id": 1}).session(s).await),
    ("a duplicate among many", |db, s| items(db)
        .insert_many([doc! {"_id": 300, "n": 300}, doc! {"_id": 1}])
        .session(s)
        .await),
    ("a duplicate of a unique key", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$set": {"n": 2}})
        .session(s)
        .await),
    ("a duplicate by find_one_and_update", |db, s| items(db)
        .find_one_and_update(doc! {"_id": 1}, doc! {"$set": {"n": 2}})
        .session(s)
        .await),
    ("a document that a validator refuses", |db, s| db
        .collection("strict")
        .insert_one(doc! {"n": "text"})
        .session(s)
        .await),
    ("an update that a validator refuses", |db, s| db
        .collection::<Document>("strict")
        .update_one(doc! {}, doc! {"$set": {"n": "text"}})
        .session(s)
        .await),
    ("a change of _id", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$set": {"_id": 2}})
        .session(s)
        .await),
    ("an increment of a text", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$inc": {"text": 1}})
        .session(s)
        .await),
    ("a push onto a text", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$push": {"text": 1}})
        .session(s)
        .await),
    // Invalid statements.
    ("an unknown operator of a filter", |db, s| items(db).find_one(doc! {"n": {"$bad": 1}}).session(s).await),
    ("an unknown top-level operator", |db, s| items(db).find_one(doc! {"$bad": 1}).session(s).await),
    ("an invalid regular expression", |db, s| items(db)
        .find_one(doc! {"text": {"$regex": "("}})
        .session(s)
        .await),
    ("an unknown operator of an update", |db, s| items(db)
        .update_one(doc! {}, doc! {"$bad": {"n": 1}})
        .session(s)
        .await),
    ("an unknown stage of an update", |db, s| items(db)
        .update_one(doc! {}, vec![doc! {"$bad": {}}])
        .session(s)
        .await),
    ("an unused array filter", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$set": {"n": 1}})
        .array_filters(vec![doc! {"x": 1}])
        .session(s)
        .await),
    ("a conflict of two paths", |db, s| items(db)
        .update_one(doc! {"_id": 1}, doc! {"$set": {"a": 1}, "$inc": {"a.b": 1}})
        .session(s)
        .await),
    ("an unknown stage", |db, s| items(db).aggregate([doc! {"$bad": {}}]).session(s).await),
    ("a stage with two fields", |db, s| items(db)
        .aggregate([doc! {"$match": {}, "$limit": 1}])
        .session(s)
        .await),
    ("a $group without _id", |db, s| items(db).aggregate([doc! {"$group": {"n": 1}}]).session(s).await),
    ("a division by zero", |db, s| items(db)
        .aggregate([doc! {"$project": {"x": {"$divide": ["$n", 0]}}}])
        .session(s)
        .await),
    ("a sum of a text", |db, s| items(db)
        .aggregate([doc! {"$project": {"x": {"$add": ["$text", 1]}}}])
        .session(s)
        .await),
    ("a $limit of zero", |db, s| items(db).aggregate([doc! {"$limit": 0}]).session(s).await),
    ("a $geoNear without an index", |db, s| items(db)
        .aggregate([doc! {"$geoNear": {"near": [0, 0], "distanceField": "d"}}])
        .session(s)
        .await),
    ("a $near without an index", |db, s| items(db).find_one(doc! {"n": {"$near": [0, 0]}}).session(s).await),
    ("a $text without an index", |db, s| items(db)
        .find_one(doc! {"$text": {"$search": "x"}})
        .session(s)
        .await),
    ("a hint at no index", |db, s| items(db)
        .find_one(doc! {})
        .hint(Hint::Name("none".to_owned()))
        .session(s)
        .await),
    ("a tailable cursor", |db, s| db
        .collection::<Document>("capped")
        .find(doc! {})
        .cursor_type(CursorType::Tailable)
        .session(s)
        .await),
    ("a negative skip", |db, s| db.run_command(doc! {"find": "items", "skip": -1}).session(s).await),
    ("a filter of another type", |db, s| db
        .run_command(doc! {"find": "items", "filter": "text"})
        .session(s)
        .await),
    ("an unknown field of a command", |db, s| db
        .run_command(doc! {"find": "items", "bad": 1})
        .session(s)
        .await),
    ("a negative maxTimeMS", |db, s| db
        .run_command(doc! {"find": "items", "maxTimeMS": -1})
        .session(s)
        .await),
    ("a collection without a name", |db, s| db.run_command(doc! {"find": ""}).session(s).await),
    ("an insert into a collection without a name", |db, s| db
        .run_command(doc! {"insert": "", "documents": [{}]})
        .session(s)
        .await),
    ("a collection with a dollar", |db, s| db
        .run_command(doc! {"insert": "a$b", "documents": [{}]})
        .session(s)
        .await),
    ("an insert of no documents", |db, s| db
        .run_command(doc! {"insert": "items", "documents": []})
        .session(s)
        .await),
    ("an insert of an invalid _id", |db, s| items(db).insert_one(doc! {"_id": [1]}).session(s).await),
    ("no filter at all", |db, s| db
        .run_command(doc! {"delete": "items", "deletes": [{"limit": 1}]})
        .session(s)
        .await),
    // Statements that are not allowed in transactions.
    ("$out", |db, s| items(db).aggregate([doc! {"$out": "copy"}]).session(s).await),
    ("$merge", |db, s| items(db).aggregate([doc! {"$merge": "copy"}]).session(s).await),
    ("$out that is not last", |db, s| items(db)
        .aggregate([doc! {"$out": "copy"}, doc! {"$limit": 1}])
        .session(s)
        .await),
    ("$collStats", |db, s| items(db).aggregate([doc! {"$collStats": {"count": {}}}]).session(s).await),
    ("$indexStats", |db, s| items(db).aggregate([doc! {"$indexStats": {}}]).session(s).await),
    ("$listSessions", |db, s| items(db).aggregate([doc! {"$listSessions": {}}]).session(s).await),
    ("$currentOp", |db, s| db
        .client()
        .database("admin")
        .aggregate([doc! {"$currentOp": {}}])
        .session(s)
        .await),
    ("a change stream", |db, s| items(db).watch().session(s).await),
    ("a change stream of the database", |db, s| db.watch().session(s).await),
    ("an explained find", |db, s| db.run_command(doc! {"explain": {"find": "items"}}).session(s).await),
    ("an insert into a capped collection", |db, s| db
        .collection("capped")
        .insert_one(doc! {"_id": 2})
        .session(s)
        .await),
    ("an update in a capped collection", |db, s| db
        .collection::<Document>("capped")
        .update_one(doc! {"_id": 1}, doc! {"$set": {"text": "sport"}})
        .session(s)
        .await),
    ("a delete from a capped collection", |db, s| db
        .collection::<Document>("capped")
        .delete_one(doc! {"_id": 1})
        .session(s)
        .await),
    ("an insert into a time series", |db, s| db
        .collection("series")
        .insert_one(doc! {"at": mongodb::bson::DateTime::now()})
        .session(s)
        .await),
    ("a delete from a time series", |db, s| db
        .collection::<Document>("series")
        .delete_many(doc! {})
        .session(s)
        .await),
    ("an insert into a view", |db, s| db.collection("view").insert_one(doc! {}).session(s).await),
    ("an update of a view", |db, s| db
        .collection::<Document>("view")
        .update_one(doc! {}, doc! {"$set": {"n": 1}})
        .session(s)
        .await),
    ("a write into admin", |db, s| db
        .client()
        .database("admin")
        .collection("x")
        .insert_one(doc! {})
        .session(s)
        .await),
    ("a read of local", |db, s| db
        .client()
        .database("local")
        .collection::<Document>("oplog.rs")
        .find_one(doc! {})
        .session(s)
        .await),
    ("a read of config", |db, s| db
        .client()
        .database("config")
        .collection::<Document>("transactions")
        .find_one(doc! {})
        .session(s)
        .await),
    ("a write into system.profile", |db, s| db
        .collection("system.profile")
        .insert_one(doc! {})
        .session(s)
        .await),
    ("a read of system.views", |db, s| db
        .collection::<Document>("system.views")
        .find_one(doc! {})
        .session(s)
        .await),
    // Raw commands.
    ("an unknown command", |db, s| db.run_command(doc! {"noSuchCommand": 1}).session(s).await),
    ("ping", |db, s| db.run_command(doc! {"ping": 1}).session(s).await),
    ("hello", |db, s| db.run_command(doc! {"hello": 1}).session(s).await),
    ("buildInfo", |db, s| db.run_command(doc! {"buildInfo": 1}).session(s).await),
    ("serverStatus", |db, s| db.run_command(doc! {"serverStatus": 1}).session(s).await),
    ("dbStats", |db, s| db.run_command(doc! {"dbStats": 1}).session(s).await),
    ("validate", |db, s| db.run_command(doc! {"validate": "items"}).session(s).await),
    ("listCollections", |db, s| db.list_collections().session(s).await),
    ("listIndexes", |db, s| items(db).list_indexes().session(s).await),
    ("create", |db, s| db.create_collection("created").session(s).await),
    ("create what is there", |db, s| db.create_collection("items").session(s).await),
    ("create a capped collection", |db, s| db
        .create_collection("created")
        .capped(true)
        .size(4_096)
        .session(s)
        .await),
    ("create a time series", |db, s| db
        .run_command(doc! {"create": "created", "timeseries": {"timeField": "at"}})
        .session(s)
        .await),
    ("create a view", |db, s| db.run_command(doc! {"create": "created", "viewOn": "items"}).session(s).await),
    ("create an index on documents", |db, s| items(db)
        .create_index(IndexModel::builder().keys(doc! {"text": 1}).build())
        .session(s)
        .await),
    ("create an index on nothing", |db, s| db
        .collection::<Document>("empty")
        .create_index(IndexModel::builder().keys(doc! {"text": 1}).build())
        .session(s)
        .await),
    ("create an index that is there", |db, s| items(db)
        .create_index(IndexModel::builder().keys(doc! {"_id": 1}).build())
        .session(s)
        .await),
    ("drop a collection", |db, s| items(db).drop().session(s).await),
    ("drop an index", |db, s| items(db).drop_index("n_1").session(s).await),
    ("drop a database", |db, s| db.drop().session(s).await),
    ("rename a collection", |db, s| db
        .client()
        .database("admin")
        .run_command(
            doc! {"renameCollection": format!("{}.items", db.name()), "to": format!("{}.other", db.name())}
        )
        .session(s)
        .await),
    ("collMod", |db, s| db.run_command(doc! {"collMod": "items", "validationLevel": "off"}).session(s).await),
    ("mapReduce", |db, s| db
        .run_command(
            doc! {"mapReduce": "items", "map": "function(){}", "reduce": "function(){}", "out": {"inline": 1}}
        )
        .session(s)
        .await),
    ("an admin command elsewhere", |db, s| db.run_command(doc! {"replSetGetStatus": 1}).session(s).await),
    ("getMore of no cursor", |db, s| db
        .run_command(doc! {"getMore": 4_711_i64, "collection": "items"})
        .session(s)
        .await),
    ("killCursors", |db, s| db
        .run_command(doc! {"killCursors": "items", "cursors": [1_i64]})
        .session(s)
        .await),
    ("createUser", |db, s| db
        .run_command(doc! {"createUser": "u", "pwd": "p", "roles": []})
        .session(s)
        .await),
    ("findAndModify of nothing to do", |db, s| db
        .run_command(doc! {"findAndModify": "items", "query": {}})
        .session(s)
        .await),
    ("findAndModify of both", |db, s| db
        .run_command(doc! {"findAndModify": "items", "remove": true, "update": {"$set": {"n": 1}}})
        .session(s)
        .await),
    ("a collection's own concerns", |db, s| {
        let options = CollectionOptions::builder().read_concern(ReadConcern::majority()).build();
        db.collection_with_options::<Document>("items", options).find_one(doc! {}).session(s).await
    }),
];
