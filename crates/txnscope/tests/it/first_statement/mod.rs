//! For every first statement of a transaction, the counters of the driver and of the server match, and no transaction
//! stays open, with the runner and with the listener.

mod statements;

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::options::{ClientOptions, ReadConcern, WriteConcern};
use testkit::ReplicaSet;
use txnscope::{Abort, Metrics, Reason, TransactionListener};

use self::statements::{STATEMENTS, Statement, set_up};
use crate::env::{Environment, NO, OPERATION};

/// The counters of one statement.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counted {
    /// Started on the server.
    server: f64,
    /// Attempts, less those whose first statement was not sent.
    started: f64,
    refused: f64,
    lost: f64,
    fenced: f64,
}

impl Counted {
    fn of(metrics: &Metrics, server: i64) -> Self {
        let scrape = testkit::Scrape::parse(&metrics.render()).unwrap();
        let not_started =
            |cause| scrape.sum("mongodb_client_transactions_not_started_total", &[("cause", cause)]);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        Self {
            server: server as f64,
            started: scrape.sum("mongodb_client_transactions_started_total", &[]) - not_started("not_sent"),
            refused: not_started("refused"),
            lost: not_started("lost"),
            fenced: scrape.sum("mongodb_client_transaction_cleanups_total", &[("result", "fenced")]),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            server: self.server - before.server,
            started: self.started - before.started,
            refused: self.refused - before.refused,
            lost: self.lost - before.lost,
            fenced: self.fenced - before.fenced,
        }
    }

    /// Whether the server's counter is within the bounds of the client's.
    fn agrees(self) -> bool {
        let most = self.started - self.refused + self.fenced;
        (most - self.lost..=most).contains(&self.server)
    }
}

/// Runs the statement with the runner. The callback rejects after a successful statement, so that nothing is changed.
async fn with_runner(env: &Environment, statement: Statement) -> (Counted, String) {
    let before = Counted::of(&env.metrics, env.server().await.started);
    let db = env.client.database("shop");
    let runner = env.runner.clone().max_attempts(1);
    let ended = runner.run_as(OPERATION, async |mut tx| {
        statement(&db, tx.session()).await?;
        Err::<(), Abort<Reason>>(NO.into())
    });
    let ended = format!("{:?}", ended.await.unwrap_err());
    env.wait_until_nothing_is_open().await;
    (Counted::of(&env.metrics, env.server().await.started).since(before), ended)
}

/// Runs the statement with a driver session and a listener.
async fn with_driver_session(
    env: &Environment,
    client: &Client,
    metrics: &Metrics,
    statement: Statement,
) -> Counted {
    let before = Counted::of(metrics, env.server().await.started);
    let mut session = client.start_session().await.unwrap();
    let begin = session.start_transaction().read_concern(ReadConcern::snapshot());
    begin.write_concern(WriteConcern::majority()).await.unwrap();
    let _ = statement(&client.database("shop"), &mut session).await;
    let _ = session.abort_transaction().await;
    drop(session);
    env.wait_until_nothing_is_open().await;
    Counted::of(metrics, env.server().await.started).since(before)
}

async fn listened(set: &ReplicaSet) -> (Client, Metrics) {
    let metrics = Metrics::isolated().unwrap();
    let mut options = ClientOptions::parse(set.uri()).await.unwrap();
    TransactionListener::with_registry(metrics.registry()).install(&mut options);
    (Client::with_options(options).unwrap(), metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn first_statement_driver_and_server_counters_match() {
    let env = Environment::start().await;
    env.admin.database("shop").collection::<mongodb::bson::Document>("items").drop().await.unwrap();
    set_up(&env.admin.database("shop")).await.unwrap();
    let (client, metrics) = listened(&env.set).await;
    // The first operation establishes the connection.
    env.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    let mut wrong = Vec::new();
    let mut certain = 0;
    for (name, statement) in STATEMENTS {
        let (runner, ended) = with_runner(&env, *statement).await;
        let listener = with_driver_session(&env, &client, &metrics, *statement).await;
        // The driver hides this command from event handlers.
        let is_kept_secret = *name == "createUser";
        let same = is_kept_secret
            || (runner.started, runner.refused, runner.lost)
                == (listener.started, listener.refused, listener.lost);
        if !runner.agrees() || !listener.agrees() || !same {
            wrong.push(format!("{name}: runner {runner:?}, listener {listener:?}; {ended}"));
        }
        if runner.lost == 0.0 {
            certain += 1;
        } else if !ended.contains("kind: Command(") {
            wrong.push(format!("{name} is certain: {runner:?}; {ended}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), STATEMENTS.len(), wrong.join("\n"));
    assert!(STATEMENTS.len() > 61 && certain > 50, "{certain} of {} are certain", STATEMENTS.len());
}
