//! `txnscope repair --undo` and `--run`, when somebody else has written the record.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};

use crate::shop::{STEERING, Shop, is_harmless};

fn record(run: ObjectId, changes: Document) -> Document {
    let mut record = doc! {
        "_id": ObjectId::new(), "kind": "repair", "run": run, "at": DateTime::now(),
        "by": {"name": "ann@host", "users": ["ann@admin"]}, "check": "drift", "collection": "retainers",
        "document": 1, "field": "balance", "inputs": [], "before": 4_i64, "after": 5_i64, "version": "0.1.0",
    };
    record.extend(changes);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_refuses_a_record_that_names_another_collection_and_shows_it() {
    let shop = Shop::open().await;
    shop.collection("users").insert_one(doc! {"_id": 1, "admin": false}).await.unwrap();
    let of_users = doc! {"collection": "users", "field": "admin", "before": true, "after": false};
    let forged = record(ObjectId::new(), of_users);
    shop.collection("txnscopeRepairs").insert_one(&forged).await.unwrap();
    for which in ["undo", "run"] {
        let id = forged.get_object_id(if which == "undo" { "_id" } else { "run" }).unwrap();
        for more in [&[][..], &["--allow-any-value"]] {
            let flag = format!("--{which}={id}");
            let (code, told) = shop.run(&[&["repair", "--yes", &flag][..], more].concat()).await;
            assert_eq!(code, 2, "{told}");
            assert!(told.contains("another collection than the check, which has retainers"), "{told}");
            assert!(told.contains(r#"{"collection":"users","_id":1}"#), "what it says is not shown: {told}");
        }
    }
    assert_eq!(shop.get("users", 1).await, doc! {"_id": 1, "admin": false});
}

/// The honest records of a run are undone, those that somebody has added are refused one by one.
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_a_run_refuses_what_was_added_to_it_and_undoes_the_rest() {
    let shop = Shop::open().await;
    let wrong = doc! {"$set": {"balance": -4_i64}};
    shop.collection("retainers").update_one(doc! {"_id": 1}, wrong).await.unwrap();
    let (code, told) = shop.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 0, "{told}");
    let run = told.split("--run=").nth(1).unwrap().lines().next().unwrap();
    let run = ObjectId::parse_str(run).unwrap();
    shop.collection("users").insert_one(doc! {"_id": 1, "balance": 5_i64}).await.unwrap();
    let added = [
        doc! {"collection": "users"},
        doc! {"field": "client", "before": "somebody else's"},
        doc! {"check": "other"},
        doc! {"before": "text", "document": 2, "after": 9_i64},
        doc! {"before": {"$function": {"body": "f", "args": [], "lang": "js"}}, "document": 2, "after": 9_i64},
        doc! {"at": "never"},
    ];
    let added = added.map(|changes| record(run, changes));
    shop.collection("txnscopeRepairs").insert_many(&added).await.unwrap();
    let (code, told) = shop.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 1, "{told}");
    assert_eq!(told.matches("refused, this record is not believed").count(), added.len(), "{told}");
    assert_eq!(told.matches("put back, record").count(), 1, "{told}");
    assert_eq!(shop.get("retainers", 1).await.get_i64("balance").unwrap(), -4);
    assert_eq!(shop.get("retainers", 2).await.get_i64("balance").unwrap(), 9);
    assert_eq!(shop.get("users", 1).await.get_i64("balance").unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_shows_a_record_escaped_before_it_asks() {
    let shop = Shop::open().await;
    let run = ObjectId::new();
    let steering = [
        doc! {"by": {"name": STEERING}},
        doc! {"check": STEERING},
        doc! {"field": STEERING},
        doc! {"collection": STEERING},
        doc! {"document": STEERING},
        doc! {"document": {STEERING: 1}},
        doc! {"before": STEERING},
        doc! {"before": {STEERING: STEERING}},
        doc! {"_id": STEERING},
        doc! {"by": {"name": "x".repeat(100_000)}},
        doc! {"before": "x".repeat(100_000)},
    ];
    let records = steering.map(|changes| record(run, changes));
    shop.collection("txnscopeRepairs").insert_many(&records).await.unwrap();
    // It cannot ask here, and so ends after it has shown them.
    let (code, told) = shop.run(&["repair", &format!("--run={run}")]).await;
    assert_eq!(code, 2, "{told}");
    assert!(is_harmless(&told), "{told:?}");
    assert!(!told.lines().any(|line| line.starts_with("level=error")), "a forged line: {told}");
    assert!(told.contains(r"a\u001b[2Jb\nlevel=error forged\r\u009b31mc\u0085d\u202e"), "{told}");
    assert!(told.len() < 30_000, "it shows {} bytes of them", told.len());
}
