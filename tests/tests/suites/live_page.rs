//! The sidecar's live page in a real browser.
//!
//! A replica set is in a known situation; `tests/browser/live-page.js` holds the page to it, through a reverse proxy with a
//! prefix. With `TXNSCOPE_LIVE_PICTURES=FOLDER` it also takes the pictures of the documentation.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use axum::Router;
use axum::routing::get;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Collection};
use serde_json::json;
use testkit::{RecycledSet, ReplicaSet, browser_script, wait};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use txnscope_checks::Checks;
use txnscope_sidecar::{Config, Sidecar};

const PICTURES: &str = "TXNSCOPE_LIVE_PICTURES";

/// How long the load goes on before the pictures, so that they show a history.
const HISTORY: &str = "90";

const CHECKS: &str = r#"
    [[check]]
    name = "orders_without_customer"
    severity = "critical"
    database = "shop"
    collection = "orders"
    interval = "2s"
    forbid = '{ "customer": null }'

    [[check]]
    name = "stock_negative"
    severity = "warning"
    database = "shop"
    collection = "stock"
    interval = "2s"
    forbid = '{ "n": { "$lt": 0 } }'
"#;

/// Longer than the test and the pictures: the server must not end the transactions.
const LIFETIME: i32 = 3_600;

/// An index build and five writers behind it wait for an idle transaction, and a writer conflicts with another one.
struct Situation {
    set: RecycledSet,
    client: Client,
    sessions: Vec<ClientSession>,
    blocked: JoinSet<mongodb::error::Result<()>>,
    load: JoinSet<()>,
}

impl Situation {
    async fn start(is_pictured: bool) -> Result<Self> {
        let set = match is_pictured {
            true => ReplicaSet::start(3).await?.into(),
            false => ReplicaSet::recycled().await?,
        };
        let mut options = ClientOptions::parse(set.uri()).await?;
        options.app_name = Some("shop".to_owned());
        let client = Client::with_options(options)?;
        let mut of =
            Self { set, client, sessions: Vec::new(), blocked: JoinSet::new(), load: JoinSet::new() };
        of.set_lifetime(LIFETIME).await?;
        for name in ["orders", "stock", "payments"] {
            of.collection(name).insert_many((0..40).map(|id| doc! {"_id": id, "n": 0})).await?;
        }
        if is_pictured {
            of.start_load();
        }
        Ok(of)
    }

    /// Opens the transactions, and blocks the others behind them.
    async fn block(&mut self) -> Result<String> {
        let mut rows = Vec::new();
        for name in ["orders", "stock"] {
            let mut session = self.client.start_session().await?;
            session.start_transaction().await?;
            let change = doc! {"$inc": {"n": 1}};
            self.collection(name).update_one(doc! {"_id": 0}, change).session(&mut session).await?;
            rows.push((self.row(&session, &format!("POST /{name}")).await?, name));
            self.sessions.push(session);
        }
        let database = self.client.database("shop");
        let index = doc! {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "name": "by_n"}]};
        self.blocked.spawn(async move { database.run_command(index).await.map(drop) });
        self.until_waiting("the index build", doc! {"command.createIndexes": "orders"}, 1).await?;
        for id in 1..=5 {
            self.write("orders", id);
        }
        self.until_waiting("the writers", doc! {"ns": "shop.orders", "op": "update"}, 5).await?;
        self.write("stock", 0);
        Ok(json!({"transactions": rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>()}).to_string())
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.client.database("shop").collection(name)
    }

    fn write(&mut self, name: &str, id: i32) {
        let collection = self.collection(name);
        let change = doc! {"$inc": {"n": 1}};
        self.blocked.spawn(async move { collection.update_one(doc! {"_id": id}, change).await.map(drop) });
    }

    /// Transactions that commit, and that conflict now and then.
    fn start_load(&mut self) {
        for _ in 0..4 {
            let (client, payments) = (self.client.clone(), self.collection("payments"));
            self.load.spawn(async move {
                for round in 0_u64.. {
                    let Ok(mut session) = client.start_session().await else { continue };
                    let id = i64::try_from(round * 7 % 40).unwrap_or_default();
                    let _ = session.start_transaction().await;
                    let change = doc! {"$inc": {"n": 1}};
                    let changed = payments.update_one(doc! {"_id": id}, change).session(&mut session).await;
                    if changed.is_ok() {
                        let _ = session.commit_transaction().await;
                    }
                    tokio::time::sleep(Duration::from_millis(30 + round % 90)).await;
                }
            });
        }
    }

    /// A row of the backend's table of open transactions.
    async fn row(&self, session: &ClientSession, operation: &str) -> Result<serde_json::Value> {
        let Some(Bson::Binary(id)) = session.id().get("id") else {
            return Err(anyhow!("the session has no id"));
        };
        let of_session = doc! {"$match": {"lsid.id": id}};
        let stages = [doc! {"$currentOp": {"allUsers": true, "idleSessions": true}}, of_session];
        let mut found = self.client.database("admin").aggregate(stages).await?;
        ensure!(found.advance().await?, "the session has no transaction");
        let found = found.deserialize_current()?;
        let number = found.get_document("transaction")?.get_document("parameters")?.get_i64("txnNumber")?;
        Ok(json!({"lsid": id.to_uuid()?.to_string(), "txnNumber": number, "operation": operation}))
    }

    async fn until_waiting(&self, what: &str, which: Document, count: i32) -> Result<()> {
        wait::until(what, async || {
            let mut waiting = which.clone();
            waiting.insert("waitingForLock", true);
            let stages = [doc! {"$currentOp": {"allUsers": true}}, doc! {"$match": waiting}];
            let mut found = self.client.database("admin").aggregate(stages).await?;
            let mut waiting = 0;
            while found.advance().await? {
                waiting += 1;
            }
            ensure!(waiting == count, "{waiting} of {count} wait");
            Ok(())
        })
        .await
    }

    async fn set_lifetime(&self, seconds: i32) -> Result<()> {
        for member in self.set.members() {
            let command = doc! {"setParameter": 1, "transactionLifetimeLimitSeconds": seconds};
            member.client().await?.database("admin").run_command(command).await?;
        }
        Ok(())
    }

    /// Ends the transactions, so that all others go on.
    async fn resolve(&mut self) -> Result<()> {
        self.load.shutdown().await;
        for mut session in self.sessions.drain(..) {
            session.abort_transaction().await?;
        }
        while let Some(ended) = self.blocked.join_next().await {
            ended??;
        }
        // The set goes to another test.
        self.set_lifetime(60).await
    }
}

/// Serves a backend's table of open transactions, and returns its URL.
async fn serve_table(table: String) -> Result<String> {
    let router = Router::new().route("/-/transactions", get(async move || table));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/-/transactions", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

async fn sidecar(uri: String, table: String) -> Result<Sidecar> {
    let mut config = Config::new(uri);
    config.listen_addresses = vec!["127.0.0.1:0".parse()?];
    config.poll_timeout = wait::LIMIT;
    config.collectors.open_by_operation.backends = vec![serve_table(table).await?];
    config.checks = Some(Checks::parse(CHECKS)?);
    Ok(Sidecar::start(config).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn live_page_shows_who_waits_for_whom_in_a_browser() -> Result<()> {
    let pictures = std::env::var_os(PICTURES);
    let mut situation = Situation::start(pictures.is_some()).await?;
    let table = situation.block().await?;
    let sidecar = sidecar(situation.set.uri(), table).await?;
    let mut script = browser_script("live-page.js")?;
    script.arg(format!("--url=http://{}", sidecar.local_addr()));
    if let Some(folder) = pictures {
        script.arg(format!("--pictures={}", folder.display())).arg(format!("--seconds={HISTORY}"));
    }
    let mut script = tokio::process::Command::from(script);
    let mut script = script.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(script.stdout.take().context("the output is piped")?).lines();
    // If the script fails, its error is in the output of the test.
    if lines.next_line().await?.as_deref() == Some("shown") {
        situation.resolve().await?;
    }
    let status = script.wait().await?;
    ensure!(status.success(), "the page is not as expected: {status}");
    sidecar.shutdown().await;
    Ok(())
}
