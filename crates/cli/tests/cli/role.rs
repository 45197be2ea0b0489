//! `txnscope role`: the printed role is sufficient for the enabled collectors and checks, and minimal.

use anyhow::ensure;
use mongodb::Client;
use mongodb::bson::{self, Document, doc};
use tempfile::TempDir;
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};

use crate::common::{Serving, run, stderr};

/// Failed polls are counted, so a busy machine must not make a poll time out.
const LONG_TIMEOUT: [&str; 1] = ["--poll.timeout=60s"];

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

/// The arguments of a call in a script.
fn arguments<'a>(text: &'a str, call: &str) -> &'a str {
    let (_, rest) = text.split_once(call).unwrap();
    let mut depth = 0;
    let end = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth < 0
    });
    &rest[..end.unwrap().0]
}

/// Runs the printed commands as mongosh would: creates the role, and the user with this password.
pub(crate) async fn run_script(client: &Client, text: &str, password: &str) {
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

/// A deployment with authentication, and the URI of the user to be created.
async fn deployment() -> (ReplicaSet, Client, String) {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let client = set.client().await.unwrap();
    for (name, document) in [("orders", doc! {"_id": 1}), ("lines", doc! {"_id": 1, "order": 1})] {
        client.database("shop").collection::<Document>(name).insert_one(document).await.unwrap();
    }
    let uri = set.uri().replace("root:the-password-of-root@", "poller:role-password@");
    (set, client, uri)
}

/// Waits until this number of collectors was polled, without an error.
async fn wait_for_successful_polls(serving: &Serving, collectors: usize) {
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
    let client = Client::with_uri_str(uri).await.unwrap();
    client.database("shop").collection::<Document>(collection).find_one(doc! {}).await.is_ok()
}

#[tokio::test]
async fn printed_role_is_sufficient_and_minimal() {
    let (_set, client, uri) = deployment().await;
    let text = String::from_utf8(run(&["role", "--user=poller"]).await.stdout).unwrap();
    assert!(!text.contains("profile"), "{text}");
    run_script(&client, &text, "role-password").await;
    let serving = Serving::start(&LONG_TIMEOUT, &[("MONGODB_URI", &uri)]).await;
    wait_for_successful_polls(&serving, 5).await;
    assert!(!may_read(&uri, "orders").await, "the role grants more than is needed");
}

/// Collectors are enabled by flag and by file, the checks by a flag; the profiler is enabled by the printed command.
#[tokio::test]
async fn printed_role_for_all_collectors_and_checks_is_sufficient() {
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
    run_script(&client, &text, "role-password").await;
    assert!(text.contains("//   check order_without_lines: "), "{text}");

    // mongosh accepts keys without quotes, JSON does not.
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
    // The name of a command must be its first key, and JSON objects have no order.
    let mut command = doc! {"profile": printed.get("profile").unwrap()};
    command.extend(printed.into_iter().filter(|(key, _)| key != "profile"));
    shop.run_command(command).await.unwrap();
    let level = shop.run_command(doc! {"profile": -1}).await.unwrap();
    assert_eq!(level.get_i32("was").unwrap(), 1, "{level}");
    assert!(level.get_document("filter").unwrap().contains_key("$or"), "{level}");

    let settings = [&settings[..], &LONG_TIMEOUT].concat();
    let serving = Serving::start(&settings, &[("MONGODB_URI", &uri)]).await;
    // All collectors but the one for backends.
    wait_for_successful_polls(&serving, 7).await;
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
    assert!(!may_read(&uri, "other").await, "the role grants more than is needed");
}

#[tokio::test]
async fn role_with_invalid_settings_is_an_error() {
    for (arguments, text) in [
        (&["role", "--collector.profile.enabled"][..], "has no databases"),
        (&["role", "--checks.file=/nowhere/checks.toml"], "/nowhere/checks.toml"),
        (&["role", "--config.file=/nowhere/txnscope.toml"], "/nowhere/txnscope.toml"),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
    }
}
