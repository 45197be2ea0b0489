//! `txnscope role`: what it prints is enough for what is on, and for nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use anyhow::ensure;
use mongodb::Client;
use mongodb::bson::{self, Document, doc};
use tempfile::TempDir;
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};

use crate::common::{Serving, run, said};

/// Failures are counted here: a busy machine makes no poll fail for lack of time.
const PATIENT: [&str; 1] = ["--poll.timeout=60s"];

const CHECKS: &str = r#"
    [defaults]
    database = "shop"
    severity = "info"
    interval = "1s"

    [[check]]
    name = "order_without_lines"
    collection = "orders"
    pipeline = '''[
        { "$lookup": { "from": "lines", "localField": "_id", "foreignField": "order", "as": "lines" } },
        { "$match": { "lines": [] } }
    ]'''
"#;

/// What follows that word, as far as the parentheses behind it.
fn arguments<'a>(text: &'a str, call: &str) -> &'a str {
    let (_, rest) = text.split_once(call).unwrap();
    let mut depth = 0;
    let end = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth < 0
    });
    &rest[..end.unwrap().0]
}

/// As mongosh would run it: the role, and the user with that password.
async fn obey(client: &Client, text: &str, password: &str) {
    let admin = client.database("admin");
    for (call, name, command) in
        [("admin.createRole(", "role", "createRole"), ("admin.createUser(", "user", "createUser")]
    {
        let json = arguments(text, call).replace("passwordPrompt()", &format!("\"{password}\""));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut document = doc! {command: json[name].as_str().unwrap()};
        let rest = bson::serialize_to_document(&json).unwrap();
        document.extend(rest.into_iter().filter(|(key, _)| key != name));
        admin.run_command(document).await.unwrap();
    }
}

/// A deployment that asks for passwords, and the URI of the user to be made.
async fn deployment() -> (ReplicaSet, Client, String) {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let client = set.client().await.unwrap();
    for (name, document) in [("orders", doc! {"_id": 1}), ("lines", doc! {"_id": 1, "order": 1})] {
        client.database("shop").collection::<Document>(name).insert_one(document).await.unwrap();
    }
    let uri = set.uri().replace("root:the-password-of-root@", "poller:pass-of-ours@");
    (set, client, uri)
}

/// Waits until so many collectors have been asked, and none was ever refused.
async fn succeed(serving: &Serving, collectors: usize) {
    wait::until("every collector", async || {
        let page = Scrape::parse(&serving.get("/metrics").await?)?;
        let success: Vec<_> = page.matching("txnscope_poll_success", &[]).map(|one| one.value).collect();
        ensure!(success.len() == collectors && success.iter().all(|success| *success == 1.0), "{success:?}");
        ensure!(page.sum("txnscope_poll_errors_total", &[]) == 0.0, "some failed");
        Ok(())
    })
    .await
    .unwrap()
}

async fn may_read(uri: &str, collection: &str) -> bool {
    let ours = Client::with_uri_str(uri).await.unwrap();
    ours.database("shop").collection::<Document>(collection).find_one(doc! {}).await.is_ok()
}

#[tokio::test]
async fn the_printed_role_is_enough_and_no_more() {
    let (_set, client, uri) = deployment().await;
    let text = String::from_utf8(run(&["role", "--user=poller"]).await.stdout).unwrap();
    assert!(!text.contains("profile"), "{text}");
    obey(&client, &text, "pass-of-ours").await;
    let serving = Serving::start(&PATIENT, &[("MONGODB_URI", &uri)]).await;
    succeed(&serving, 5).await;
    assert!(!may_read(&uri, "orders").await, "it may do more than it needs");
}

/// The collectors by flag and by file, the checks by a flag; and the profiler turned on by what is printed.
#[tokio::test]
async fn what_is_printed_for_all_collectors_and_checks_is_enough() {
    let (_set, client, uri) = deployment().await;
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let file =
        write("txnscope.toml", "[collector]\nprofile.enabled = true\nslow_transactions.enabled = true\n");
    let (file, checks) =
        (format!("--config.file={file}"), format!("--checks.file={}", write("checks.toml", CHECKS)));
    let settings = [file.as_str(), "--collector.profile.databases=shop", &checks];
    let output = run(&[&["role", "--user=poller"], &settings[..]].concat()).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    obey(&client, &text, "pass-of-ours").await;
    assert!(text.contains("//   check order_without_lines: "), "{text}");

    // What mongosh understands without quotes is no JSON yet.
    let shop = client.database("shop");
    let profiler = arguments(&text, "db.getSiblingDB(\"shop\").runCommand(");
    let mut json = profiler.to_owned();
    for key in ["profile", "filter", "$or", "errCode", "writeConflicts", "$gte", "$gt", "millis"] {
        json = json
            .replace(&format!("{{{key}:"), &format!("{{\"{key}\":"))
            .replace(&format!(" {key}:"), &format!(" \"{key}\":"));
    }
    let printed: Document = serde_json::from_str::<serde_json::Value>(&json)
        .map(|json| bson::serialize_to_document(&json).unwrap())
        .expect(&json);
    // JSON has no order, and a command has: its name comes first.
    let mut command = doc! {"profile": printed.get("profile").unwrap()};
    command.extend(printed.into_iter().filter(|(key, _)| key != "profile"));
    shop.run_command(command).await.unwrap();
    let level = shop.run_command(doc! {"profile": -1}).await.unwrap();
    assert_eq!(level.get_i32("was").unwrap(), 1, "{level}");
    assert!(level.get_document("filter").unwrap().contains_key("$or"), "{level}");

    let settings = [&settings[..], &PATIENT].concat();
    let serving = Serving::start(&settings, &[("MONGODB_URI", &uri)]).await;
    // All but that of a backend.
    succeed(&serving, 7).await;
    wait::until("the check", async || {
        let page = Scrape::parse(&serving.get("/metrics").await?)?;
        let found = page.value("mongodb_consistency_violations", &[("check", "order_without_lines")]);
        ensure!(found == Some(0.0), "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(may_read(&uri, "lines").await);
    shop.collection::<Document>("other").insert_one(doc! {}).await.unwrap();
    assert!(!may_read(&uri, "other").await, "it may do more than it needs");
}

#[tokio::test]
async fn a_role_for_what_cannot_be_is_refused() {
    for (arguments, told) in [
        (&["role", "--collector.profile.enabled"][..], "has no databases"),
        (&["role", "--checks.file=/nowhere/checks.toml"], "/nowhere/checks.toml"),
        (&["role", "--config.file=/nowhere/txnscope.toml"], "/nowhere/txnscope.toml"),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(told), "{arguments:?}: {}", said(&output));
    }
}
