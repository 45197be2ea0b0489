//! Ending a transaction with `top`: by a flag, for scripts, and by a key of the view.

use anyhow::ensure;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, ClientSession};
use serde_json::Value;
use testkit::{ReplicaSetOptions, wait};

use super::terminal::Terminal;
use super::{Environment, LIFETIME};
use crate::common::{run, run_with, stderr};
use crate::role::run_script;

fn id(session: &ClientSession) -> String {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().unwrap().to_string(),
        other => panic!("{other:?} is no id"),
    }
}

async fn begin(client: &Client, document: i32) -> ClientSession {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    let (one, more) = (doc! {"_id": document}, doc! {"$inc": {"n": 1}});
    orders.update_one(one, more).session(&mut session).await.unwrap();
    session
}

/// The number of the open transaction of a session, from the command's own output.
async fn number(uri: &str, session: &ClientSession) -> i64 {
    let session = id(session);
    wait::until("the transaction", async || {
        let output =
            run_with(&["top", "--once", "--output=json", "--timeout=10s"], &[("MONGODB_URI", uri)]).await;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let open =
            report["transactions"].as_array().into_iter().flatten().find(|of| of["session"] == *session);
        let number = open.and_then(|of| of["txn_number"].as_i64());
        number.ok_or_else(|| anyhow::anyhow!("{report:#}"))
    })
    .await
    .unwrap()
}

/// The roles are those that `txnscope role` prints.
#[tokio::test(flavor = "multi_thread")]
async fn script_ends_the_transaction_and_records_who_did_it() {
    let set = ReplicaSetOptions::new(1).auth().parameter("transactionLifetimeLimitSeconds", LIFETIME);
    let set = set.start().await.unwrap();
    let root = set.client_named("sh\u{1b}op").await.unwrap();
    let uri_of =
        |user: &str| set.uri().replace("root:the-password-of-root@", &format!("{user}:role-password@"));
    for (arguments, user) in [(&[][..], "view"), (&["--allow-kill"][..], "night_shift")] {
        let names = [format!("--user={user}"), format!("--role={user}")];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let output = run(&[&["role"][..], arguments, &names[..]].concat()).await;
        run_script(&root, &String::from_utf8(output.stdout).unwrap(), "role-password").await;
    }
    let orders = root.database("shop").collection::<Document>("orders");
    orders.insert_many((0..4).map(|id| doc! {"_id": id})).await.unwrap();
    let mut other = begin(&root, 1).await;
    let mut session = begin(&root, 0).await;
    let night_shift = uri_of("night_shift");
    let number = number(&night_shift, &session).await;
    let chosen = format!("--end-transaction={}:{number}", id(&session));
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kills.log");
    let log = format!("--kill-log={}", file.display());
    let arguments = ["top", "--timeout=10s", "--allow-kill", &chosen, "--yes", &log];

    let output = run_with(&arguments, &[("MONGODB_URI", &uri_of("view"))]).await;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("`txnscope role --allow-kill`"), "{}", stderr(&output));

    let output = run_with(&arguments[..4], &[("MONGODB_URI", &night_shift)]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("give --yes to confirm"), "{}", stderr(&output));

    let output = run_with(&arguments, &[("MONGODB_URI", &night_shift), ("USER", "ann")]).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for part in [
        id(&session).as_str(),
        "sh\\u001bop",
        "shop.orders",
        "IX collection shop.orders",
        "0 operations",
        "is over",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}') && !stderr(&output).contains('\u{1b}'));
    assert!(session.commit_transaction().await.is_err(), "it was ended");
    other.commit_transaction().await.unwrap();

    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results: Vec<_> = lines.iter().map(|line| line["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["permission_denied", "ended"]);
    let last: Value = serde_json::from_str(stderr(&output).lines().last().unwrap()).unwrap();
    assert_eq!(last, lines[1], "the line is on the standard error as well");
    assert!(last["user"].as_str().unwrap().starts_with("ann@"), "{last}");
    assert_eq!(last["uid"], rustix::process::getuid().as_raw());
    assert_eq!(last["database_users"], serde_json::json!(["night_shift@admin"]));
    assert_eq!((&last["session"], &last["txn_number"]), (&id(&session).into(), &number.into()));
    assert_eq!(last["namespaces"], serde_json::json!(["shop.orders"]));
    assert!(last["time"].as_str().unwrap().ends_with('Z') && last["started_at"].is_string(), "{last}");

    let output = run_with(&arguments, &[("MONGODB_URI", &night_shift)]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("had ended before"));
}

#[tokio::test]
async fn invalid_use_of_kill_flags_says_what_to_do() {
    const ID: &str = "--end-transaction=6e01e4f2-0000-4000-8000-000000000001:7";
    for (arguments, text) in [
        (&["top", ID][..], "--allow-kill"),
        (&["top", "--allow-kill", "--end-transaction=7"], "the session, a colon and the number"),
        (&["top", "--allow-kill", "--yes"], "--end-transaction"),
        (&["top", "--allow-kill", "--once", ID], "cannot be used with"),
        (
            &[
                "top",
                "--allow-kill",
                ID,
                "--kill-log=/nowhere/kills.log",
                "--mongodb.uri=mongodb://127.0.0.1:1/",
            ],
            "cannot append to",
        ),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_ends_the_selected_transaction_only_if_allowed() {
    let env = Environment::start().await;
    let mut session = begin(&env.client, 0).await;
    let first = number(&env.set.uri(), &session).await;
    let uri = env.uri();
    let mut terminal = Terminal::open(&["top", &uri, "--interval=200ms"], &[]);
    terminal.shows("shop.orders").await;
    terminal.press("K");
    terminal.shows("ending transactions is off").await;
    terminal.press("q");
    terminal.ended().await;

    let mut terminal = Terminal::open(&["top", &uri, "--interval=200ms", "--allow-kill"], &[]);
    terminal.shows("shop.orders").await;
    terminal.press("K");
    terminal.shows("Type end and Enter").await;
    terminal.shows(&id(&session)).await;
    // The client goes on while the user reads: the transaction that was chosen is over.
    session.commit_transaction().await.unwrap();
    session.start_transaction().await.unwrap();
    let (two, more) = (doc! {"_id": 2}, doc! {"$inc": {"n": 1}});
    env.orders().update_one(two, more).session(&mut session).await.unwrap();
    terminal.press("end\r");
    terminal.shows("its session runs another one now").await;
    terminal.press("\u{1b}");
    wait::until("the list again", async || {
        ensure!(!terminal.screen().contains("End this transaction?"), "{}", terminal.screen());
        Ok(())
    })
    .await
    .unwrap();
    // The view has the later transaction once its details do.
    terminal.press("\r");
    terminal.shows(&format!("number         {}", first + 1)).await;
    terminal.press("\rK");
    terminal.shows("Type end and Enter").await;
    terminal.press("end\r");
    terminal.shows("the transaction is over").await;
    assert!(session.commit_transaction().await.is_err(), "it was ended");
    terminal.press("\u{3}");
    let (status, _) = terminal.ended().await;
    assert_eq!(status, Some(0));
}
