//! The test environment: a ledger on a free port, with a database of its own, and a client for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ledger::{Ledger, Server, Settings, Token};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use testkit::wait::until;
use testkit::{FailPoint, ReplicaSet, Scrape, http_client};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, MutexGuard};
use txnscope::Metrics;

pub(crate) const TOKEN: &str = "t0p-s3cret";

/// One runtime for all tests, so that they can share a replica set and its clients.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// The replica set that concurrent tests share. It is held weakly: a static is never dropped, and mongod must end
/// with the last test.
static SHARED: Mutex<Weak<ReplicaSet>> = Mutex::const_new(Weak::new());

static DATABASES: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn block_on(test: impl Future<Output = Result<()>>) -> Result<()> {
    RUNTIME.block_on(test)
}

/// Runs a test against a ledger on the shared replica set.
pub(crate) fn with_ledger(test: impl AsyncFnOnce(&Bench) -> Result<()>) -> Result<()> {
    // Far above the duration of any request, so that a busy machine causes no 503.
    with_deadline(testkit::wait::LIMIT, test)
}

pub(crate) fn with_deadline(deadline: Duration, test: impl AsyncFnOnce(&Bench) -> Result<()>) -> Result<()> {
    block_on(async {
        let bench = Bench::start(shared().await?, deadline, "").await?;
        test(&bench).await?;
        bench.end().await
    })
}

pub(crate) async fn shared() -> Result<Arc<ReplicaSet>> {
    let mut shared = SHARED.lock().await;
    if let Some(replica_set) = shared.upgrade() {
        return Ok(replica_set);
    }
    let replica_set = Arc::new(ReplicaSet::start(1).await?);
    *shared = Arc::downgrade(&replica_set);
    Ok(replica_set)
}

pub(crate) struct Bench {
    pub(crate) replica_set: Arc<ReplicaSet>,
    /// The name of the database and of the application, by which failpoints and `$currentOp` distinguish tests.
    pub(crate) name: String,
    pub(crate) metrics: Metrics,
    pub(crate) http: reqwest::Client,
    server: Server,
    root: String,
    direct: Client,
}

impl Bench {
    pub(crate) async fn start(
        replica_set: Arc<ReplicaSet>,
        deadline: Duration,
        options: &str,
    ) -> Result<Self> {
        let name = format!("ledger_{}", DATABASES.fetch_add(1, Relaxed));
        let client = ledger::connect(&format!("{}&appName={name}{options}", replica_set.uri())).await?;
        let metrics = Metrics::isolated()?;
        let mut settings = Settings::new(Token::new(TOKEN)?);
        settings.database.clone_from(&name);
        settings.deadline = deadline;
        settings.registry = metrics.registry();
        let ledger = Ledger::open(client, settings).await?;
        let server = Server::start(TcpListener::bind("127.0.0.1:0").await?, ledger, &metrics)?;
        Ok(Self {
            root: format!("http://{}", server.address()),
            direct: replica_set.client().await?,
            replica_set,
            name,
            metrics,
            http: http_client(),
            server,
        })
    }

    /// Shuts the ledger down gracefully, and drops the database.
    pub(crate) async fn end(self) -> Result<()> {
        self.server.shutdown().await?;
        Ok(self.direct.database(&self.name).drop().await?)
    }

    pub(crate) async fn shutdown(self) -> Result<()> {
        Ok(self.server.shutdown().await?)
    }

    /// Direct access to the database.
    pub(crate) fn database(&self) -> Database {
        self.direct.database(&self.name)
    }

    /// Fails commands of this ledger, a number of times or until the failpoint is turned off.
    pub(crate) async fn fail(&self, times: Option<i32>, data: Document) -> Result<Failing> {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let failpoint = match times {
            Some(times) => FailPoint::fail_command_times(&self.direct, &self.name, times, data).await?,
            None => FailPoint::fail_command(&self.direct, &self.name, data).await?,
        };
        Ok(Failing { failpoint, _turn: turn })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(TOKEN)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        Answer::to(self.request(Method::POST, path).json(&body)).await
    }

    /// Sends a body verbatim.
    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Result<Answer> {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        Answer::to(request.body(body.to_owned())).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, key: &str, body: Value) -> Result<Answer> {
        Answer::to(self.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        Answer::to(self.request(Method::GET, path)).await
    }

    // ===== Entities =====

    pub(crate) async fn retainer(&self, amount: Value) -> Result<String> {
        let body = json!({ "clientId": "client-1", "retainerType": "hourly", "initialAmount": amount });
        self.post("/api/retainers", body).await?.created("retainer")
    }

    pub(crate) async fn account(&self, currency: &str, balance: Value) -> Result<String> {
        let body = json!({
            "name": "Operating", "accountNumber": "0001", "bankName": "First", "currency": currency, "balance": balance,
        });
        self.post("/api/bank-accounts", body).await?.created("account")
    }

    pub(crate) async fn payment(&self, status: &str, invoice: Option<&str>) -> Result<Answer> {
        let mut body =
            json!({ "customerId": "customer-1", "amount": 99.95, "paymentMethod": "card", "status": status });
        if let Some(invoice) = invoice {
            body["invoiceId"] = invoice.into();
        }
        self.post("/api/payments", body).await
    }

    pub(crate) async fn transfer(&self, from: &str, to: &str, amount: Value) -> Result<Answer> {
        self.post("/api/bank-transfers", transfer(from, to, amount)).await
    }

    pub(crate) async fn retainer_balance(&self, id: &str) -> Result<Value> {
        Ok(self.get(&format!("/api/retainers/{id}")).await?.expect(200)?.json["data"]["currentBalance"]
            .clone())
    }

    /// A page of the movements of a retainer; `query` begins with `?` unless it is empty.
    pub(crate) async fn movements(&self, id: &str, query: &str) -> Result<Value> {
        let answer = self.get(&format!("/api/retainers/{id}/movements{query}")).await?.expect(200)?;
        Ok(answer.json["data"].clone())
    }

    pub(crate) async fn account_balance(&self, id: &str) -> Result<Value> {
        let answer = self.get(&format!("/api/bank-accounts/{id}")).await?.expect(200)?;
        Ok(answer.json["account"]["availableBalance"].clone())
    }

    // ===== Accounting =====

    pub(crate) async fn scrape(&self) -> Result<Scrape> {
        let page = self.http.get(self.url("/metrics")).send().await?.error_for_status()?.text().await?;
        Ok(Scrape::parse(&page)?)
    }

    /// The number of operations with that outcome.
    pub(crate) async fn failures(&self, operation: &str, outcome: &str, reason: &str) -> Result<f64> {
        let labels = [("operation", operation), ("outcome", outcome), ("reason", reason)];
        let scrape = self.scrape().await?;
        scrape.value("transaction_failures_total", &labels).with_context(|| format!("no series {labels:?}"))
    }

    pub(crate) async fn count(&self, collection: &str, filter: Document) -> Result<u64> {
        Ok(self.database().collection::<Document>(collection).count_documents(filter).await?)
    }

    /// Waits until the server has no transaction of this ledger open.
    pub(crate) async fn no_transaction_is_open(&self) -> Result<()> {
        until("no transaction of the ledger is open", async || {
            let pipeline = [
                doc! { "$currentOp": { "allUsers": true, "idleSessions": true } },
                doc! { "$match": { "transaction.parameters.autocommit": false, "appName": &self.name } },
            ];
            let mut open = self.direct.database("admin").aggregate(pipeline).await?;
            let mut count = 0;
            while open.advance().await? {
                count += 1;
            }
            ensure!(count == 0, "{count} are open");
            Ok(())
        })
        .await
    }

    /// Debits equal credits: for each movement, for each currency, and for every balance.
    pub(crate) async fn assert_counters_reconcile(&self) -> Result<()> {
        let database = self.database();
        let aggregate = async |collection: &str, pipeline: Vec<Document>| -> Result<Vec<Document>> {
            let mut cursor = database.collection::<Document>(collection).aggregate(pipeline).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        };
        let sums =
            doc! { "debit": { "$sum": "$debit" }, "credit": { "$sum": "$credit" }, "lines": { "$sum": 1 } };
        let group = |id: &str| {
            let mut group = sums.clone();
            group.insert("_id", id);
            doc! { "$group": group }
        };
        for movement in aggregate("generalLedger", vec![group("$movementId")]).await? {
            ensure!(movement.get("debit") == movement.get("credit"), "unbalanced: {movement}");
            ensure!(movement.get_i32("lines")? == 2, "not two lines: {movement}");
        }
        for currency in aggregate("generalLedger", vec![group("$currency")]).await? {
            ensure!(currency.get("debit") == currency.get("credit"), "unbalanced: {currency}");
        }
        let mut accounts = BTreeMap::new();
        for account in aggregate("generalLedger", vec![group("$account")]).await? {
            accounts.insert(
                account.get_str("_id")?.to_owned(),
                (cents(&account, "debit")?, cents(&account, "credit")?),
            );
        }
        let is_deposit = doc! { "$eq": [ "$kind", "deposit" ] };
        let signed = doc! { "$cond": [ is_deposit, "$amount", { "$subtract": [ 0, "$amount" ] } ] };
        let sums = doc! { "$group": { "_id": "$retainerId", "sum": { "$sum": signed } } };
        let mut moved = BTreeMap::new();
        for sum in aggregate("retainerMovements", vec![sums]).await? {
            moved.insert(sum.get_object_id("_id")?, cents(&sum, "sum")?);
        }
        for retainer in aggregate("retainers", vec![]).await? {
            let (id, balance) = (retainer.get_object_id("_id")?, retainer.get_i64("currentBalance")?);
            ensure!(balance >= 0, "negative: {retainer}");
            let moved = moved.remove(&id).unwrap_or(0);
            ensure!(balance == moved, "its movements say {moved}: {retainer}");
            let lines = accounts.remove(&format!("retainers/{id}")).unwrap_or((0, 0));
            ensure!(balance == lines.1 - lines.0, "the general ledger says {lines:?}: {retainer}");
        }
        ensure!(moved.is_empty(), "movements of retainers that do not exist: {moved:?}");
        for account in aggregate("bankAccounts", vec![doc! { "$match": {} }]).await? {
            let balance = account.get_i64("availableBalance")?;
            ensure!(balance >= 0, "negative: {account}");
            let lines =
                accounts.remove(&format!("bankAccounts/{}", account.get_object_id("_id")?)).unwrap_or((0, 0));
            ensure!(balance == lines.0 - lines.1, "the general ledger says {lines:?}: {account}");
        }
        let paid = doc! { "$match": { "status": "completed" } };
        let sum = doc! { "$group": { "_id": "", "amount": { "$sum": "$amount" } } };
        let paid = aggregate("payments", vec![paid, sum]).await?;
        let paid = paid.first().map_or(Ok(0), |paid| cents(paid, "amount"))?;
        let receivables = accounts.remove("receivables").unwrap_or((0, 0));
        ensure!(receivables == (0, paid), "completed payments are {paid}, receivables {receivables:?}");
        accounts.retain(|account, _| account.contains('/'));
        ensure!(accounts.is_empty(), "lines of accounts that do not exist: {accounts:?}");
        Ok(())
    }

    /// Attempts equal the counts of durations plus the operations in flight, for every operation.
    pub(crate) async fn assert_attempts_are_accounted_for(&self) -> Result<()> {
        let scrape = self.scrape().await?;
        for operation in ledger::operations::OPERATIONS {
            let labels = [("operation", operation.name())];
            let attempts = scrape.value("transaction_attempts_total", &labels).context("attempts")?;
            let ended = scrape.sum("transaction_duration_seconds_count", &labels);
            let in_flight = scrape.value("concurrent_operations", &labels).context("in flight")?;
            ensure!(
                (attempts - ended - in_flight).abs() < 0.5,
                "{}: {attempts} attempts, {ended} ended, {in_flight} in flight",
                operation.name()
            );
        }
        Ok(())
    }
}

/// A whole number; a sum may be an int or a long.
fn cents(document: &Document, key: &str) -> Result<i64> {
    let value = document.get(key).with_context(|| format!("{key} in {document}"))?;
    value
        .as_i64()
        .or(value.as_i32().map(i64::from))
        .with_context(|| format!("{key} is not an integer in {document}"))
}

pub(crate) fn transfer(from: &str, to: &str, amount: Value) -> Value {
    json!({ "fromAccountId": from, "toAccountId": to, "amount": amount, "description": "rent" })
}

/// An active failpoint. A server has only one of each kind, so tests that use it are serialized.
pub(crate) struct Failing {
    failpoint: FailPoint,
    _turn: MutexGuard<'static, ()>,
}

impl Failing {
    pub(crate) async fn off(self) -> Result<()> {
        self.failpoint.off().await
    }

    /// Waits until a command has hit the failpoint.
    pub(crate) async fn fired(&self) -> Result<()> {
        self.failpoint.fired(testkit::wait::LIMIT).await
    }
}

/// An HTTP response with its body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, text, json })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "expected {status}, got {} {}", self.status, self.text);
        ensure!(self.header("content-type") == Some("application/json"), "not JSON: {:?}", self.headers);
        Ok(self)
    }

    /// Asserts an error with exactly that message and no other field.
    pub(crate) fn expect_error(self, status: u16, error: &str) -> Result<Self> {
        let answer = self.expect(status)?;
        ensure!(answer.json == json!({ "error": error }), "expected {error:?}, got {}", answer.text);
        Ok(answer)
    }

    /// Asserts an error whose message contains a text.
    pub(crate) fn expect_error_about(self, status: u16, about: &str) -> Result<Self> {
        let answer = self.expect(status)?;
        let error = answer.json["error"].as_str().unwrap_or("");
        ensure!(error.contains(about), "expected something about {about:?}, got {}", answer.text);
        Ok(answer)
    }

    /// The id of the created entity.
    pub(crate) fn created(self, name: &str) -> Result<String> {
        let answer = self.expect(201)?;
        let id =
            answer.json[name]["_id"].as_str().with_context(|| format!("no {name}._id: {}", answer.text))?;
        ensure!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "not an ObjectId: {id}");
        Ok(id.to_owned())
    }
}
