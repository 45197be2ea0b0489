//! The test environment: a replica set with one database, and checks on it.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Collection, Database};
use testkit::{RecycledSet, ReplicaSet};
use txnscope_checks::repair::{PlanOptions, Repair, RepairOutcome, RepairPlan, Repairer, plan, plan_with};
use txnscope_checks::{Check, CheckResult, Checks, Failure, SampleOptions, run};

/// The sum of embedded amounts, as in both sample files.
pub(crate) const EMBEDDED: &str = r#"[check.derived]
    field = "balance"
    expression = '{ "$subtract": [ { "$sum": "$in.amount" }, { "$sum": "$out.amount" } ] }'
"#;

/// The sum of lines in another collection, as in the ledger's check file.
pub(crate) const LINES: &str = r#"[check.derived]
    field = "balance"
    stages = '''[ { "$lookup": {
        "from": "lines",
        "let": { "account": "$_id" },
        "pipeline": [
            { "$match": { "$expr": { "$eq": [ "$account", "$$account" ] } } },
            { "$group": { "_id": null, "sum": { "$sum": "$amount" } } }
        ],
        "as": "posted"
    } } ]'''
    expression = '{ "$sum": "$posted.sum" }'
"#;

pub(crate) fn check(rule: &str) -> Check {
    check_of("accounts", rule)
}

pub(crate) fn check_of(collection: &str, rule: &str) -> Check {
    let head = format!(
        "[[check]]\nname = \"drift\"\nseverity = \"critical\"\ndatabase = \"d\"\ncollection = \"{collection}\"\n"
    );
    let checks = Checks::parse(&format!("{head}{rule}")).unwrap_or_else(|error| panic!("{error}\n{rule}"));
    checks.iter().next().unwrap().clone()
}

pub(crate) fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

pub(crate) struct Money {
    pub(crate) client: Client,
    pub(crate) database: Database,
    _set: RecycledSet,
}

impl Money {
    pub(crate) async fn start() -> Self {
        let set = ReplicaSet::recycled().await.unwrap();
        let client = set.client().await.unwrap();
        Self { database: client.database("d"), client, _set: set }
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    pub(crate) async fn fill(&self, name: &str, documents: &[Document]) {
        self.collection(name).delete_many(doc! {}).await.unwrap();
        if !documents.is_empty() {
            self.collection(name).insert_many(documents).await.unwrap();
        }
    }

    pub(crate) async fn all(&self, name: &str) -> Vec<Document> {
        // Raw documents, because {"$numberLong": "5"}, which is a document, would be deserialized as a number
        // otherwise.
        let collection = self.database.collection::<RawDocumentBuf>(name);
        let all = collection.find(doc! {}).sort(doc! {"_id": 1}).await.unwrap();
        let all: Vec<RawDocumentBuf> = all.try_collect().await.unwrap();
        all.iter().map(|one| Document::try_from(&**one).unwrap()).collect()
    }

    pub(crate) async fn get(&self, id: impl Into<Bson>) -> Document {
        let id = id.into();
        self.all("accounts").await.into_iter().find(|one| one.get("_id") == Some(&id)).unwrap()
    }

    pub(crate) async fn balance(&self, id: impl Into<Bson>) -> Option<Bson> {
        self.get(id).await.get("balance").cloned()
    }

    pub(crate) async fn plan(&self, check: &Check) -> Result<RepairPlan, Failure> {
        plan(&self.client, check, &[], 100).await
    }

    pub(crate) async fn plan_of_nothing(&self, check: &Check) -> Result<RepairPlan, Failure> {
        plan_with(&self.client, check, &PlanOptions::new(100).empty_inputs(true)).await
    }

    pub(crate) async fn repairer(&self) -> Repairer {
        Repairer::connect(&self.client, "d", "repairs", "ann@test").await.unwrap()
    }

    pub(crate) async fn apply(&self, check: &Check, plan: &RepairPlan) -> Vec<RepairOutcome> {
        let repairer = self.repairer().await;
        let mut outcomes = Vec::new();
        for step in &plan.steps {
            outcomes.push(repairer.repair(check, step).await.unwrap());
        }
        outcomes
    }

    /// Plans and applies all repairs. Returns the values that were set, and the reasons why others were not.
    pub(crate) async fn repair(&self, check: &Check) -> (Vec<(Bson, Bson)>, Vec<(Bson, String)>) {
        let plan = self.plan(check).await.unwrap();
        let outcomes = self.apply(check, &plan).await;
        let (mut set, mut refused) = (Vec::new(), Vec::new());
        for (step, outcome) in plan.steps.iter().zip(outcomes) {
            match (outcome, &step.repair) {
                (RepairOutcome::Done(record), Repair::Set(value)) => {
                    assert_eq!(record.after.as_ref(), Some(value));
                    set.push((step.id.clone(), value.clone()));
                }
                (RepairOutcome::Refused(why), _) => refused.push((step.id.clone(), why)),
                (outcome, repair) => panic!("{outcome:?} {repair:?}"),
            }
        }
        (set, refused)
    }

    pub(crate) async fn audit(&self, check: &Check) -> CheckResult {
        run(&self.client, check, SampleOptions { limit: 100, full_documents: false }).await.result
    }

    /// The violations that an audit finds, by `_id`.
    pub(crate) async fn wrong(&self, check: &Check) -> Vec<Bson> {
        match self.audit(check).await {
            CheckResult::Clean { .. } => Vec::new(),
            CheckResult::Violated { sample, .. } => {
                let mut ids: Vec<_> = sample.iter().map(|one| one.get("_id").unwrap().clone()).collect();
                ids.sort_by_key(Bson::to_string);
                ids
            }
            CheckResult::Failed(failure) => panic!("{failure:?}"),
        }
    }

    /// Asserts that an audit and a repair both fail with this reason and message, and that nothing is written.
    pub(crate) async fn refuses(&self, check: &Check, reason: txnscope_checks::Reason, message: &str) {
        let before = self.all(&check.collection).await;
        match self.audit(check).await {
            CheckResult::Failed(failure) => {
                assert_eq!(failure.reason, reason, "{failure}");
                assert!(failure.message.contains(message), "{failure}");
            }
            other => panic!("{message}: {other:?}"),
        }
        let failure = self.plan(check).await.expect_err(message);
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.contains(message), "{failure}");
        assert_eq!(self.all(&check.collection).await, before);
    }
}
