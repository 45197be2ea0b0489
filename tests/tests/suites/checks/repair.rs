//! Repairs of the ledger: only derived fields, with records, under load, through an election, and undone.

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use serde_json::json;
use txnscope_checks::Check;
use txnscope_checks::repair::{
    Repair, RepairOutcome, RepairPlan, RepairRecord, Repairer, UndoOptions, UndoSelector, plan, records,
    undo, undo_with,
};

use super::fixtures::{Fixtures, Found, audit, checks};

const DRIFT: &str = "retainer_balance_drift";
const RECORDS: &str = "txnscopeRepairs";

fn check(name: &str) -> Check {
    checks().find(name).unwrap().clone()
}

async fn readable(repairer: &Repairer, which: UndoSelector) -> Vec<RepairRecord> {
    let found = records(repairer, which).await.unwrap();
    found.iter().map(|stored| stored.record().unwrap().clone()).collect()
}

impl Fixtures {
    async fn plan(&self, name: &str) -> RepairPlan {
        plan(&self.client, &check(name), &[], 100).await.unwrap()
    }

    async fn repairer(&self) -> Repairer {
        Repairer::connect(&self.client, "ledger", RECORDS, "ann@test").await.unwrap()
    }

    async fn repair_all(&self, repairer: &Repairer, name: &str) -> Vec<RepairOutcome> {
        let mut outcomes = Vec::new();
        for step in &self.plan(name).await.steps {
            outcomes.push(repairer.repair(&check(name), step).await.unwrap());
        }
        outcomes
    }

    async fn recorded(&self) -> Vec<Document> {
        self.collection(RECORDS)
            .find(doc! {})
            .sort(doc! {"_id": 1})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drifted_balance_is_repaired_recorded_and_undone() {
    let fixtures = Fixtures::make(1).await;
    let retainer = fixtures.retainers[0];
    let right = fixtures.get("retainers", retainer).await;
    fixtures.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let wrong = fixtures.get("retainers", retainer).await;
    // A document that a repair must not change, because it is right.
    let untouched = fixtures.get("retainers", fixtures.retainers[1]).await;

    let planned = fixtures.plan(DRIFT).await;
    let [step] = planned.steps.as_slice() else { panic!("{planned:?}") };
    assert_eq!((&step.id, &step.actual), (&Bson::ObjectId(retainer), &Some(Bson::Int64(7))));
    assert_eq!(step.repair, Repair::Set(Bson::Int64(80_000)));
    let paths: Vec<_> = step.inputs.iter().map(|trace| trace.path.as_str()).collect();
    assert_eq!(paths, ["movements"]);
    let Some([Bson::Document(sums)]) =
        step.inputs[0].value.as_ref().and_then(Bson::as_array).map(Vec::as_slice)
    else {
        panic!("{step:?}")
    };
    let sums = ["deposits", "consumptions"].map(|kind| sums.get_i64(kind).unwrap());
    assert_eq!(sums, [105_000, 25_000]);
    assert_eq!(fixtures.get("retainers", retainer).await, wrong, "a plan changes nothing");

    let repairer = fixtures.repairer().await;
    let outcomes = fixtures.repair_all(&repairer, DRIFT).await;
    let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(fixtures.get("retainers", retainer).await, right);
    assert_eq!(fixtures.get("retainers", fixtures.retainers[1]).await, untouched);
    let stored = &fixtures.recorded().await[0];
    assert_eq!(stored.get("before"), Some(&Bson::Int64(7)));
    assert_eq!(stored.get("after"), Some(&Bson::Int64(80_000)));
    assert_eq!(stored.get_str("check").unwrap(), DRIFT);
    assert_eq!(stored.get_document("by").unwrap().get_str("name").unwrap(), "ann@test");
    assert_eq!(stored.get_object_id("_id").unwrap(), record.id);
    assert_eq!(audit(&fixtures.client).await, Found::new());

    let repairer = fixtures.repairer().await;
    let found = readable(&repairer, UndoSelector::Run(record.run)).await;
    assert_eq!(found.len(), 1);
    assert!(matches!(undo(&repairer, &check(DRIFT), &found[0]).await.unwrap(), RepairOutcome::Done(_)));
    assert_eq!(fixtures.get("retainers", retainer).await, wrong);
    let again = undo(&repairer, &check(DRIFT), &found[0]).await.unwrap();
    assert!(matches!(again, RepairOutcome::Refused(_)), "{again:?}");
    let kinds: Vec<_> =
        fixtures.recorded().await.iter().map(|r| r.get_str("kind").unwrap().to_owned()).collect();
    assert_eq!(kinds, ["repair", "undo"]);
}

/// The balance of an account is derived from another collection.
#[tokio::test(flavor = "multi_thread")]
async fn balance_is_recomputed_from_another_collection() {
    let fixtures = Fixtures::make(1).await;
    let before = [
        fixtures.get("bankAccounts", fixtures.accounts[0]).await,
        fixtures.get("bankAccounts", fixtures.accounts[1]).await,
    ];
    let accounts = fixtures.collection("bankAccounts");
    accounts
        .update_one(doc! {"_id": fixtures.accounts[0]}, doc! {"$unset": {"availableBalance": 1}})
        .await
        .unwrap();
    fixtures.set("bankAccounts", fixtures.accounts[1], doc! {"availableBalance": "a lot"}).await;
    let outcomes = fixtures.repair_all(&fixtures.repairer().await, "bank_account_balance_drift").await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Done(_), RepairOutcome::Done(_)]), "{outcomes:?}");
    for (account, before) in fixtures.accounts.iter().zip(&before) {
        let now = fixtures.get("bankAccounts", *account).await;
        // The check defines the type: the ledger reads longs only.
        assert_eq!(now.get_i64("availableBalance").unwrap(), before.get_i64("availableBalance").unwrap());
    }
    assert_eq!(audit(&fixtures.client).await, Found::new());
    // A field that was missing is removed again; a string is restored only if this is allowed explicitly.
    let repairer = fixtures.repairer().await;
    let check = check("bank_account_balance_drift");
    for record in fixtures.recorded().await {
        let id = record.get_object_id("_id").unwrap();
        let found = readable(&repairer, UndoSelector::Record(id)).await;
        if found[0].before.is_some() {
            let outcome = undo(&repairer, &check, &found[0]).await.unwrap();
            assert!(
                matches!(&outcome, RepairOutcome::Refused(why) if why.contains("any-value")),
                "{outcome:?}"
            );
        }
        let undone = undo_with(&repairer, &check, &found[0], UndoOptions::new().any_value(true)).await;
        assert!(matches!(undone.unwrap(), RepairOutcome::Done(_)));
    }
    assert!(!fixtures.get("bankAccounts", fixtures.accounts[0]).await.contains_key("availableBalance"));
    assert_eq!(
        fixtures.get("bankAccounts", fixtures.accounts[1]).await.get_str("availableBalance").unwrap(),
        "a lot"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn document_changed_since_plan_is_not_repaired() {
    let fixtures = Fixtures::make(1).await;
    let retainer = fixtures.retainers[0];
    let filter = doc! {"_id": retainer};
    let repairer = fixtures.repairer().await;
    let history = doc! {"retainerId": retainer};
    let movements: Vec<Document> = fixtures
        .collection("retainerMovements")
        .find(history.clone())
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let deposit = doc! {"retainerId": retainer, "description": "Initial amount"};
    let deposit_and_consumption =
        doc! {"retainerId": retainer, "$or": [{"description": "Initial amount"}, {"kind": "consumption"}]};
    let more = doc! {"$inc": {"amount": 500_i64}};
    for (what, collection, of, change) in [
        ("the field", "retainers", &filter, doc! {"$set": {"currentBalance": 8_i64}}),
        ("its type", "retainers", &filter, doc! {"$set": {"currentBalance": 7}}),
        ("the history", "retainerMovements", &deposit, more.clone()),
        ("the history, not its sum", "retainerMovements", &deposit_and_consumption, more),
        ("all of it", "retainers", &filter, doc! {"$unset": {"currentBalance": 1}}),
    ] {
        let right = fixtures.get("retainers", retainer).await;
        fixtures.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
        let planned = fixtures.plan(DRIFT).await;
        fixtures.collection(collection).update_many(of.clone(), change).await.unwrap();
        let changed = fixtures.get("retainers", retainer).await;
        let outcome = repairer.repair(&check(DRIFT), &planned.steps[0]).await.unwrap();
        assert_eq!(outcome, RepairOutcome::Changed, "{what}");
        assert_eq!(fixtures.get("retainers", retainer).await, changed, "{what}");
        fixtures.collection("retainers").replace_one(filter.clone(), right).await.unwrap();
        fixtures.collection("retainerMovements").delete_many(history.clone()).await.unwrap();
        fixtures.collection("retainerMovements").insert_many(&movements).await.unwrap();
    }
    // An undo does not overwrite a later change either.
    fixtures.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let outcomes = fixtures.repair_all(&repairer, DRIFT).await;
    let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let path = format!("/api/retainers/{retainer}/consume");
    let spent = fixtures.backend.client().post(&path, &json!({"amount": 1})).await.unwrap();
    assert!(spent.0.is_success(), "{spent:?}");
    assert_eq!(undo(&repairer, &check(DRIFT), record).await.unwrap(), RepairOutcome::Changed);
    let stored = readable(&repairer, UndoSelector::Record(record.id)).await;
    assert_eq!(stored[0].undone_by, None, "what was not undone is not marked so");
    assert_eq!(audit(&fixtures.client).await, Found::new());

    fixtures.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let planned = fixtures.plan(DRIFT).await;
    fixtures.collection("retainers").delete_one(filter).await.unwrap();
    let outcome = repairer.repair(&check(DRIFT), &planned.steps[0]).await.unwrap();
    assert_eq!(outcome, RepairOutcome::Changed, "a document that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn unrepairable_document_is_not_written() {
    let fixtures = Fixtures::make(1).await;
    let refused = plan(&fixtures.client, &check("bank_account_overdrawn"), &[], 1).await.unwrap_err();
    assert!(refused.message.contains("only a check with `derived`"), "{refused}");

    let text = r#"
        [[check]]
        name = "null"
        severity = "info"
        database = "ledger"
        collection = "retainers"
        [check.derived]
        field = "currentBalance"
        expression = '{ "$add": [ "$currentBalance", "$noSuchField" ] }'
    "#;
    let checks = txnscope_checks::Checks::parse(text).unwrap();
    let null = checks.find("null").unwrap();
    let before = fixtures.get("retainers", fixtures.retainers[0]).await;
    let planned = plan(&fixtures.client, null, &[Bson::ObjectId(fixtures.retainers[0])], 5).await.unwrap();
    assert_eq!(planned.steps.len(), 1, "limited to one id");
    assert!(matches!(planned.steps[0].repair, Repair::Impossible(_)));
    let outcome = fixtures.repairer().await.repair(null, &planned.steps[0]).await.unwrap();
    assert!(matches!(outcome, RepairOutcome::Refused(_)), "{outcome:?}");
    assert_eq!(fixtures.get("retainers", fixtures.retainers[0]).await, before);
    assert!(fixtures.recorded().await.is_empty());
}

/// Balances are corrupted and repaired repeatedly while clients consume and replenish and another member is elected.
/// At the end each balance matches its movements, and the movements match the clients' responses.
#[tokio::test(flavor = "multi_thread")]
async fn repairs_under_load_and_election_lose_nothing() {
    const ROUNDS: usize = 8;
    let fixtures = Fixtures::make(3).await;
    let mut retainers = Vec::new();
    for _ in 0..4 {
        retainers
            .push(ObjectId::parse_str(fixtures.backend.client().retainer(10_000).await.unwrap()).unwrap());
    }
    let repairer = fixtures.repairer().await;
    let (mut made, mut acknowledged) = (0, 0);
    for round in 0..ROUNDS {
        let broken = doc! {"$inc": {"currentBalance": 12_345_i64}};
        let filter = doc! {"_id": retainers[round % 4]};
        fixtures.collection("retainers").update_one(filter, broken).await.unwrap();
        let election = async {
            if round == ROUNDS / 2 {
                fixtures.set.step_up_another().await.unwrap();
            }
        };
        // The load of a round ends by itself: a document that changes all the time can never be repaired.
        let (repaired, moved, ()) = tokio::join!(
            fixtures.repair_until_done(&repairer, retainers[round % 4]),
            fixtures.load(&retainers),
            election
        );
        made += repaired;
        acknowledged += moved;
    }
    assert_eq!(made, ROUNDS, "one repair for each time that a balance was broken");
    assert_eq!(fixtures.recorded().await.len(), made);
    assert!(acknowledged > 0, "nothing moved meanwhile");
    assert_eq!(audit(&fixtures.client).await, Found::new());
    // Every movement that was acknowledged to a client exists.
    let of_these = doc! {"retainerId": {"$in": &retainers}};
    let stored = fixtures.collection("retainerMovements").count_documents(of_these).await.unwrap();
    let moved = usize::try_from(stored).unwrap() - retainers.len();
    assert!(moved >= acknowledged, "{moved} movements, {acknowledged} acknowledged");
}

impl Fixtures {
    /// Repairs a document until there is nothing to repair, and returns the number of repairs.
    async fn repair_until_done(&self, repairer: &Repairer, id: ObjectId) -> usize {
        let mut made = 0;
        loop {
            let planned = plan(&self.client, &check(DRIFT), &[id.into()], 1).await.unwrap();
            let Some(step) = planned.steps.first() else { return made };
            match repairer.repair(&check(DRIFT), step).await.unwrap() {
                RepairOutcome::Done(_) => made += 1,
                RepairOutcome::Changed => {}
                RepairOutcome::Refused(why) => panic!("{why}"),
            }
        }
    }

    /// Eight clients move money on all retainers. Returns the number of acknowledged movements; unacknowledged ones
    /// may exist as well.
    async fn load(&self, retainers: &[ObjectId]) -> usize {
        let http = &self.backend.client();
        let clients = (0..8_usize).map(async |client| {
            let mut acknowledged = 0;
            for turn in 0..retainers.len() {
                let retainer = retainers[(client + turn) % retainers.len()];
                let (what, amount) = if client == 0 { ("replenish", 2) } else { ("consume", 1) };
                let path = format!("/api/retainers/{retainer}/{what}");
                let answer = http.post(&path, &json!({"amount": amount})).await;
                acknowledged += usize::from(answer.is_ok_and(|(status, _)| status.is_success()));
            }
            acknowledged
        });
        join_all(clients).await.into_iter().sum()
    }
}
