//! Servers that refuse `killSessions`, and databases without transactions: a dropped request's transaction is still
//! ended at once.

use mongodb::bson::{Document, doc};
use mongodb::{Client, options::ClientOptions};
use testkit::{Mongod, Scrape, wait};
use txnscope::{Abort, Metrics, TransactionRunner};

use crate::env::{Environment, OPERATION};

/// How often the server has executed a command.
async fn count_executions(env: &Environment, command: &str) -> i64 {
    let status = env.admin.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
    let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
    commands.get_document(command).and_then(|command| command.get_i64("total")).unwrap_or_default()
}

/// Drops a callback in one of its two statements, which the server delays. The other commands in `fails` fail.
async fn dropped_in(env: &Environment, statement: &str, fails: Document) {
    let held = doc! {"failCommands": [statement], "blockConnection": true, "blockTimeMS": 3_000};
    let failpoint = env.fail(held).await;
    let items = env.items();
    let run = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        items.update_one(doc! {}, doc! {"$set": {"n": 1}}).session(&mut tx).await?;
        std::future::pending::<Result<(), Abort>>().await
    });
    let admin = env.admin.database("admin");
    let wait_until_in_progress = wait::until(statement, async || {
        let own =
            doc! {"appName": "runner", "active": true, format!("command.{statement}"): {"$exists": true}};
        let pipeline = vec![doc! {"$currentOp": {"allUsers": true}}, doc! {"$match": own}];
        let command = doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}};
        let reply = admin.run_command(command).await?;
        anyhow::ensure!(reply.get_document("cursor")?.get_array("firstBatch")?.len() == 1);
        Ok(())
    });
    let mut run = Box::pin(run);
    tokio::select! {
        ended = &mut run => panic!("{ended:?}"),
        held = wait_until_in_progress => held.unwrap(),
    }
    failpoint.off().await.unwrap();
    // Replaces the failpoint that delays the statement.
    let refusing = if fails.is_empty() { None } else { Some(env.fail(fails).await) };
    drop(run);
    env.wait_until_nothing_is_open().await;
    if let Some(refusing) = refusing {
        refusing.off().await.unwrap();
    }
}

async fn kill_sessions_is_refused_with(code: i32) {
    let env = Environment::start().await;
    for (statement, result) in [("insert", "fenced"), ("update", "aborted")] {
        let (kills, cleanups) = (count_executions(&env, "killSessions").await, env.cleanups(result));
        dropped_in(&env, statement, doc! {"failCommands": ["killSessions"], "errorCode": code}).await;
        assert_eq!(env.cleanups(result), cleanups + 1.0, "{statement}: {}", env.metrics.render());
        assert!(
            count_executions(&env, "killSessions").await - kills <= 1,
            "{statement}: the command is sent in a loop"
        );
    }
    env.reconciled().await;
    assert_eq!(env.cleanups("left_to_server"), 0.0);
}

#[tokio::test]
async fn kill_sessions_refused_with_8000_leaves_nothing_open() {
    kill_sessions_is_refused_with(8000).await;
}

#[tokio::test]
async fn kill_sessions_refused_with_115_leaves_nothing_open() {
    kill_sessions_is_refused_with(115).await;
}

#[tokio::test]
async fn strict_stable_api_without_kill_sessions_leaves_nothing_open() {
    kill_sessions_is_refused_with(323).await;
}

#[tokio::test]
async fn missing_kill_sessions_privilege_leaves_nothing_open() {
    kill_sessions_is_refused_with(13).await;
}

/// Many URIs end with `/admin`, as the database of the user.
#[tokio::test]
async fn fence_uses_database_that_allows_transactions() {
    for version in [None, Some("4.4.2")] {
        let mut env = Environment::start_version(version).await;
        for database in ["admin", "config", "local"] {
            let uri = env.set.uri().replace("/?", &format!("/{database}?"));
            let mut options = ClientOptions::parse(&uri).await.unwrap();
            options.app_name = Some("runner".to_owned());
            let client = Client::with_options(options).unwrap();
            assert_eq!(client.default_database().unwrap().name(), database);
            env.reset(&client).await;
            let finds = count_executions(&env, "find").await;
            dropped_in(&env, "insert", doc! {}).await;
            env.reconciled().await;
            assert_eq!(
                (env.cleanups("fenced"), env.cleanups("left_to_server")),
                (1.0, 0.0),
                "{version:?} {database}"
            );
            assert!(
                count_executions(&env, "find").await - finds <= 3,
                "{version:?} {database}: the command is sent in a loop"
            );
        }
    }
}

#[tokio::test]
async fn standalone_fails_with_invalid_request() {
    let mongod = Mongod::standalone().await.unwrap();
    let client = mongod.client().await.unwrap();
    let metrics = Metrics::isolated().unwrap();
    let runner = TransactionRunner::with_registry(&client, metrics.registry());
    let items = client.database("shop").collection::<Document>("items");
    let ended = runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let error = ended.await.unwrap_err();
    runner.wait_idle().await;
    let page = Scrape::parse(&metrics.render()).unwrap();
    let counted = |metric: &str, label| page.sum(metric, &[("operation", OPERATION), label]);
    let aborted = counted("mongodb_client_transactions_aborted_total", ("reason", "invalid_request"));
    let refused = counted("mongodb_client_transactions_not_started_total", ("cause", "refused"));
    assert_eq!((aborted, refused), (1.0, 1.0), "{error:?}");
}
