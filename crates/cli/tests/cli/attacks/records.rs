//! `txnscope repair --undo` and `--run` with forged records.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};

use crate::attacks::environment::{CONTROL_CHARACTERS, Environment, is_harmless};

fn record(run: ObjectId, changes: Document) -> Document {
    let mut record = doc! {
        "_id": ObjectId::new(), "kind": "repair", "run": run, "at": DateTime::now(),
        "by": {"name": "ann@host", "users": ["ann@admin"]}, "check": "drift", "collection": "retainers",
        "document": 1, "field": "balance", "history": [], "before": 4_i64, "after": 5_i64, "version": "0.1.0",
    };
    record.extend(changes);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_rejects_and_shows_a_record_of_another_collection() {
    let env = Environment::open().await;
    env.collection("users").insert_one(doc! {"_id": 1, "admin": false}).await.unwrap();
    let of_users = doc! {"collection": "users", "field": "admin", "before": true, "after": false};
    let forged = record(ObjectId::new(), of_users);
    env.collection("txnscopeRepairs").insert_one(&forged).await.unwrap();
    for which in ["undo", "run"] {
        let id = forged.get_object_id(if which == "undo" { "_id" } else { "run" }).unwrap();
        for more in [&[][..], &["--allow-any-value"]] {
            let flag = format!("--{which}={id}");
            let (code, text) = env.run(&[&["repair", "--yes", &flag][..], more].concat()).await;
            assert_eq!(code, 2, "{text}");
            assert!(text.contains("another collection than the check, which has retainers"), "{text}");
            assert!(text.contains(r#"{"collection":"users","_id":1}"#), "the record is not shown: {text}");
        }
    }
    assert_eq!(env.get("users", 1).await, doc! {"_id": 1, "admin": false});
}

/// The genuine records of a run are undone, and each forged one is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_a_run_rejects_forged_records_only() {
    let env = Environment::open().await;
    let wrong = doc! {"$set": {"balance": -4_i64}};
    env.collection("retainers").update_one(doc! {"_id": 1}, wrong).await.unwrap();
    let (code, text) = env.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 0, "{text}");
    let run = text.split("--run=").nth(1).unwrap().lines().next().unwrap();
    let run = ObjectId::parse_str(run).unwrap();
    env.collection("users").insert_one(doc! {"_id": 1, "balance": 5_i64}).await.unwrap();
    let added = [
        doc! {"collection": "users"},
        doc! {"field": "client", "before": "other client"},
        doc! {"check": "other"},
        doc! {"before": "text", "document": 2, "after": 9_i64},
        doc! {"before": {"$function": {"body": "f", "args": [], "lang": "js"}}, "document": 2, "after": 9_i64},
        doc! {"at": "never"},
    ];
    let added = added.map(|changes| record(run, changes));
    env.collection("txnscopeRepairs").insert_many(&added).await.unwrap();
    let (code, text) = env.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 1, "{text}");
    assert_eq!(text.matches("refused, this record is not trusted").count(), added.len(), "{text}");
    assert_eq!(text.matches(": restored, record").count(), 1, "{text}");
    assert_eq!(env.get("retainers", 1).await.get_i64("balance").unwrap(), -4);
    assert_eq!(env.get("retainers", 2).await.get_i64("balance").unwrap(), 9);
    assert_eq!(env.get("users", 1).await.get_i64("balance").unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_escapes_records_before_confirmation() {
    let env = Environment::open().await;
    let run = ObjectId::new();
    let malicious = [
        doc! {"by": {"name": CONTROL_CHARACTERS}},
        doc! {"check": CONTROL_CHARACTERS},
        doc! {"field": CONTROL_CHARACTERS},
        doc! {"collection": CONTROL_CHARACTERS},
        doc! {"document": CONTROL_CHARACTERS},
        doc! {"document": {CONTROL_CHARACTERS: 1}},
        doc! {"before": CONTROL_CHARACTERS},
        doc! {"before": {CONTROL_CHARACTERS: CONTROL_CHARACTERS}},
        doc! {"_id": CONTROL_CHARACTERS},
        doc! {"by": {"name": "x".repeat(100_000)}},
        doc! {"before": "x".repeat(100_000)},
    ];
    let records = malicious.map(|changes| record(run, changes));
    env.collection("txnscopeRepairs").insert_many(&records).await.unwrap();
    // Without a terminal it cannot ask, so it ends after it has shown the records.
    let (code, text) = env.run(&["repair", &format!("--run={run}")]).await;
    assert_eq!(code, 2, "{text}");
    assert!(is_harmless(&text), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("level=error")), "a forged line: {text}");
    assert!(text.contains(r"a\u001b[2Jb\nlevel=error forged\r\u009b31mc\u0085d\u202e"), "{text}");
    assert!(text.len() < 30_000, "it prints {} bytes of them", text.len());
}
