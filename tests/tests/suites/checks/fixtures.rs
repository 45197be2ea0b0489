//! A ledger with entities in all states, and its checks.

use std::collections::BTreeMap;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::WriteConcern;
use mongodb::{Client, Collection, Database};
use serde_json::json;
use testkit::ReplicaSet;
use txnscope_checks::{CheckResult, Checks, SampleOptions, run};

use crate::common::Backend;

pub(crate) const COLLECTIONS: [&str; 6] =
    ["retainers", "retainerMovements", "payments", "bankAccounts", "bankTransfers", "generalLedger"];

pub(crate) fn checks() -> Checks {
    let path = testkit::workspace().join("examples/ledger/checks.toml");
    Checks::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The `_id`s of the violations of each violated check; a check that could not run fails the test.
pub(crate) type Found = BTreeMap<String, Vec<Bson>>;

pub(crate) async fn audit(client: &Client) -> Found {
    let mut found = Found::new();
    for check in checks().iter() {
        match run(client, check, SampleOptions { limit: 50, full_documents: false }).await.result {
            CheckResult::Clean { documents } => assert!(documents > 0, "{} looked at nothing", check.name),
            CheckResult::Violated { count, sample, .. } => {
                assert_eq!(count, sample.len() as u64, "{}", check.name);
                let ids = sample.iter().map(|document| document.get("_id").unwrap().clone());
                let mut ids: Vec<_> = ids.collect();
                ids.sort_by_key(Bson::to_string);
                found.insert(check.name.clone(), ids);
            }
            CheckResult::Failed(failure) => panic!("{}: {failure}", check.name),
        }
    }
    found
}

pub(crate) struct Fixtures {
    pub(crate) set: ReplicaSet,
    pub(crate) backend: Backend,
    pub(crate) client: Client,
    pub(crate) database: Database,
    /// Retainers: 1,000.00 less 250.00 consumed plus 50.00 replenished; and an unused one.
    pub(crate) retainers: [ObjectId; 2],
    /// Payments: completed with an invoice, completed, pending.
    pub(crate) payments: [ObjectId; 3],
    /// Accounts: EUR 1,000.00 each, before a transfer of 100.00 from the first to the second.
    pub(crate) accounts: [ObjectId; 3],
    /// Transfers: that one, and a cancelled one of 70.00 from the second to the third.
    pub(crate) transfers: [ObjectId; 2],
}

fn id(text: &str) -> ObjectId {
    ObjectId::parse_str(text).unwrap()
}

impl Fixtures {
    pub(crate) async fn make(members: u8) -> Self {
        Self::on(ReplicaSet::start(members).await.unwrap()).await
    }

    pub(crate) async fn on(set: ReplicaSet) -> Self {
        let backend = Backend::start(&set.uri()).await;
        let http = backend.client();
        let retainers = [http.retainer(1_000).await.unwrap(), http.retainer(40).await.unwrap()];
        let moves = [("consume", 250), ("replenish", 50)];
        for (what, amount) in moves {
            let path = format!("/api/retainers/{}/{what}", retainers[0]);
            assert!(http.post(&path, &json!({"amount": amount})).await.unwrap().0.is_success());
        }
        let payment = async |status: &str, invoice: Option<&str>| {
            let mut body =
                json!({"customerId": "c", "amount": 12.5, "paymentMethod": "card", "status": status});
            if let Some(invoice) = invoice {
                body["invoiceId"] = invoice.into();
            }
            http.create("/api/payments", "payment", &body).await.unwrap()
        };
        let payments = [
            payment("completed", Some("invoice-1")).await,
            payment("completed", None).await,
            payment("pending", Some("invoice-1")).await,
        ];
        let mut accounts = Vec::new();
        for _ in 0..3 {
            accounts.push(http.account(1_000).await.unwrap());
        }
        let transfer = async |from: usize, to: usize, amount: i64| {
            let body =
                json!({"fromAccountId": accounts[from], "toAccountId": accounts[to], "amount": amount});
            http.create("/api/bank-transfers", "transfer", &body).await.unwrap()
        };
        let transfers = [transfer(0, 1, 100).await, transfer(1, 2, 70).await];
        let path = format!("/api/bank-transfers/{}/cancel", transfers[1]);
        assert!(http.post(&path, &json!({})).await.unwrap().0.is_success());
        let client = set.client().await.unwrap();
        let database = client.database("ledger");
        Self {
            retainers: retainers.map(|text| id(&text)),
            payments: payments.map(|text| id(&text)),
            accounts: [id(&accounts[0]), id(&accounts[1]), id(&accounts[2])],
            transfers: transfers.map(|text| id(&text)),
            set,
            backend,
            client,
            database,
        }
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// Changes one document directly in the database.
    pub(crate) async fn set(&self, collection: &str, id: ObjectId, change: Document) {
        let documents = self.collection(collection);
        let update = documents.update_one(doc! {"_id": id}, doc! {"$set": change});
        // The checks read majority-committed data, for which a default write does not wait before MongoDB 5.0.
        let result = update.write_concern(WriteConcern::majority()).await;
        assert_eq!(result.unwrap().modified_count, 1, "{collection} {id}");
    }

    pub(crate) async fn get(&self, collection: &str, id: ObjectId) -> Document {
        self.collection(collection).find_one(doc! {"_id": id}).await.unwrap().unwrap()
    }
}
