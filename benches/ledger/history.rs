//! The cost of a consumption after few and after many consumptions of the same retainer, with the ledger itself.

use anyhow::{Context, Result, ensure};
use end_to_end::client::Client as Http;
use end_to_end::measure::quantile;
use ledger::{Ledger, Server, Settings, Token};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc, rawdoc, serialize_to_vec};
use mongodb::{Client, Database};
use serde_json::json;
use testkit::ReplicaSet;
use tokio::net::TcpListener;
use tokio::time::Instant;
use txnscope::Metrics;

const TOKEN: &str = "of-the-benchmark";
/// The short history.
const FEW: u32 = 10;
/// The number of consumptions of one round.
const ROUND: u32 = 100;
const BATCH: u32 = 5_000;

/// A retainer, and the measurements of its consumptions.
struct Measured {
    retainer: String,
    consumptions: u32,
    /// Seconds.
    latencies: Vec<f64>,
    /// The bytes that mongod received and sent for one consumption, in the round with the fewest.
    received: f64,
    sent: f64,
    /// The bytes of the last response.
    response: usize,
}

pub(crate) async fn run(many: u32, rounds: u32) -> Result<()> {
    let set = ReplicaSet::start(1).await?;
    let client = set.client().await?;
    let metrics = Metrics::isolated()?;
    let settings = Settings { registry: metrics.registry(), ..Settings::new(Token::new(TOKEN)?) };
    let ledger = Ledger::open(ledger::connect(&set.uri()).await?, settings).await?;
    let server = Server::start(TcpListener::bind("127.0.0.1:0").await?, ledger, &metrics)?;
    let http = Http::new(format!("http://{}", server.address()), TOKEN);
    let database = client.database("ledger");
    let mut measured = Vec::new();
    for consumptions in [FEW, many] {
        let retainer = http.retainer(1_000_000_000).await?;
        insert(&database, &retainer, consumptions).await?;
        measured.push(Measured {
            retainer,
            consumptions,
            latencies: Vec::new(),
            received: f64::INFINITY,
            sent: f64::INFINITY,
            response: 0,
        });
    }
    for one in &mut measured {
        // Connections and query planning of the first requests are not measured.
        one.round(&http, &client).await?;
        (one.latencies, one.received, one.sent) = (Vec::new(), f64::INFINITY, f64::INFINITY);
    }
    for _ in 0..rounds {
        for one in &mut measured {
            one.round(&http, &client).await?;
        }
    }
    println!(
        "One consumption after the other, {} of each retainer in turns of {ROUND}; the earlier consumptions were inserted \
         directly.\n",
        rounds * ROUND
    );
    println!(
        "| consumptions before | p50 | p99 | bytes to mongod, each | bytes from mongod, each | response | stored retainer |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for one in &mut measured {
        println!("{}", one.row(&database).await?);
    }
    server.shutdown().await?;
    Ok(())
}

/// Inserts consumptions of a cent each, as the ledger would have written them.
async fn insert(database: &Database, retainer: &str, consumptions: u32) -> Result<()> {
    let (id, at) = (ObjectId::parse_str(retainer)?, DateTime::now());
    for begin in (0..consumptions).step_by(usize::try_from(BATCH)?) {
        let (mut movements, mut lines) = (Vec::new(), Vec::new());
        for _ in begin..consumptions.min(begin + BATCH) {
            let movement = ObjectId::new();
            movements.push(rawdoc! {
                "_id": movement, "retainerId": id, "kind": "consumption", "amount": 1_i64, "description": "work", "at": at,
            });
            for (account, debit) in [(format!("retainers/{retainer}"), 1_i64), ("revenue".to_owned(), 0)] {
                lines.push(rawdoc! {
                    "_id": ObjectId::new(), "movementId": movement, "account": account, "debit": debit, "credit": 1 - debit,
                    "currency": "USD", "entity": {"collection": "retainers", "id": id}, "description": "work", "at": at,
                });
            }
        }
        database.collection::<RawDocumentBuf>("retainerMovements").insert_many(movements).await?;
        database.collection::<RawDocumentBuf>("generalLedger").insert_many(lines).await?;
    }
    let change = doc! {"$inc": {"currentBalance": -i64::from(consumptions)}};
    database.collection::<Document>("retainers").update_one(doc! {"_id": id}, change).await?;
    Ok(())
}

impl Measured {
    async fn round(&mut self, http: &Http, client: &Client) -> Result<()> {
        let path = format!("/api/retainers/{}/consume", self.retainer);
        let body = json!({"amount": 0.01, "description": "work"});
        let before = network(client).await?;
        for _ in 0..ROUND {
            let begin = Instant::now();
            let (status, answer) = http.post(&path, &body).await?;
            self.latencies.push(begin.elapsed().as_secs_f64());
            ensure!(status.is_success(), "the ledger answered {status}: {answer}");
            self.response = answer.to_string().len();
        }
        let after = network(client).await?;
        // The minimum, because the driver's monitoring only adds bytes.
        self.received = self.received.min((after.0 - before.0) / f64::from(ROUND));
        self.sent = self.sent.min((after.1 - before.1) / f64::from(ROUND));
        Ok(())
    }

    /// A row of the table.
    async fn row(&mut self, database: &Database) -> Result<String> {
        let id = ObjectId::parse_str(&self.retainer)?;
        let stored = database.collection::<Document>("retainers").find_one(doc! {"_id": id}).await?;
        let stored = serialize_to_vec(&stored.context("the retainer")?)?.len();
        self.latencies.sort_by(f64::total_cmp);
        Ok(format!(
            "| {} | {:.2} ms | {:.2} ms | {:.0} | {:.0} | {} | {stored} |",
            self.consumptions,
            quantile(&self.latencies, 0.5) * 1e3,
            quantile(&self.latencies, 0.99) * 1e3,
            self.received,
            self.sent,
            self.response,
        ))
    }
}

/// The bytes that mongod has received and sent.
async fn network(client: &Client) -> Result<(f64, f64)> {
    let status = client
        .database("admin")
        .run_command(doc! {"serverStatus": 1, "metrics": 0, "repl": 0, "wiredTiger": 0, "locks": 0})
        .await?;
    let network = status.get_document("network")?;
    #[allow(clippy::cast_precision_loss, reason = "a mean that is printed")]
    let bytes = |key| network.get_i64(key).map(|bytes| bytes as f64);
    Ok((bytes("bytesIn")?, bytes("bytesOut")?))
}
