//! Repairs of the ledger: exactly what can be recomputed, on the record, under load, through an election, and back.

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

use crate::world::{Found, World, audit, checks};

const DRIFT: &str = "retainer_balance_drift";
const RECORDS: &str = "txnscopeRepairs";

fn check(name: &str) -> Check {
    checks().find(name).unwrap().clone()
}

async fn readable(repairer: &Repairer, which: UndoSelector) -> Vec<RepairRecord> {
    let found = records(repairer, which).await.unwrap();
    found.iter().map(|stored| stored.record().unwrap().clone()).collect()
}

impl World {
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
async fn a_drifted_balance_is_set_right_on_the_record_and_an_undo_restores_it() {
    let world = World::make(1).await;
    let retainer = world.retainers[0];
    let right = world.get("retainers", retainer).await;
    world.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let wrong = world.get("retainers", retainer).await;
    // One that a repair must not touch: it is right.
    let untouched = world.get("retainers", world.retainers[1]).await;

    let planned = world.plan(DRIFT).await;
    let [step] = planned.steps.as_slice() else { panic!("{planned:?}") };
    assert_eq!((&step.id, &step.actual), (&Bson::ObjectId(retainer), &Some(Bson::Int64(7))));
    assert_eq!(step.repair, Repair::Set(Bson::Int64(80_000)));
    let paths: Vec<_> = step.inputs.iter().map(|trace| trace.path.as_str()).collect();
    assert_eq!(paths, ["deposits", "consumptions"]);
    assert_eq!(step.inputs[0].value.as_ref(), right.get("deposits"));
    assert_eq!(world.get("retainers", retainer).await, wrong, "a plan changes nothing");

    let repairer = world.repairer().await;
    let outcomes = world.repair_all(&repairer, DRIFT).await;
    let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(world.get("retainers", retainer).await, right);
    assert_eq!(world.get("retainers", world.retainers[1]).await, untouched);
    let stored = &world.recorded().await[0];
    assert_eq!(stored.get("before"), Some(&Bson::Int64(7)));
    assert_eq!(stored.get("after"), Some(&Bson::Int64(80_000)));
    assert_eq!(stored.get_str("check").unwrap(), DRIFT);
    assert_eq!(stored.get_document("by").unwrap().get_str("name").unwrap(), "ann@test");
    assert_eq!(stored.get_object_id("_id").unwrap(), record.id);
    assert_eq!(audit(&world.client).await, Found::new());

    let repairer = world.repairer().await;
    let found = readable(&repairer, UndoSelector::Run(record.run)).await;
    assert_eq!(found.len(), 1);
    assert!(matches!(undo(&repairer, &check(DRIFT), &found[0]).await.unwrap(), RepairOutcome::Done(_)));
    assert_eq!(world.get("retainers", retainer).await, wrong);
    let again = undo(&repairer, &check(DRIFT), &found[0]).await.unwrap();
    assert!(matches!(again, RepairOutcome::Refused(_)), "{again:?}");
    let kinds: Vec<_> =
        world.recorded().await.iter().map(|r| r.get_str("kind").unwrap().to_owned()).collect();
    assert_eq!(kinds, ["repair", "undo"]);
}

/// The balance of an account comes from another collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_recomputed_from_the_lines_of_another_collection() {
    let world = World::make(1).await;
    let before = [
        world.get("bankAccounts", world.accounts[0]).await,
        world.get("bankAccounts", world.accounts[1]).await,
    ];
    let accounts = world.collection("bankAccounts");
    accounts
        .update_one(doc! {"_id": world.accounts[0]}, doc! {"$unset": {"availableBalance": 1}})
        .await
        .unwrap();
    world.set("bankAccounts", world.accounts[1], doc! {"availableBalance": "a lot"}).await;
    let outcomes = world.repair_all(&world.repairer().await, "bank_account_balance_drift").await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Done(_), RepairOutcome::Done(_)]), "{outcomes:?}");
    for (account, before) in world.accounts.iter().zip(&before) {
        let now = world.get("bankAccounts", *account).await;
        // In the type that the check names: the ledger reads nothing but longs.
        assert_eq!(now.get_i64("availableBalance").unwrap(), before.get_i64("availableBalance").unwrap());
    }
    assert_eq!(audit(&world.client).await, Found::new());
    // A field that was not there is not there again; a text, only if somebody says that it was there.
    let repairer = world.repairer().await;
    let check = check("bank_account_balance_drift");
    for record in world.recorded().await {
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
    assert!(!world.get("bankAccounts", world.accounts[0]).await.contains_key("availableBalance"));
    assert_eq!(
        world.get("bankAccounts", world.accounts[1]).await.get_str("availableBalance").unwrap(),
        "a lot"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_it_was_read_is_left_alone() {
    let world = World::make(1).await;
    let retainer = world.retainers[0];
    let filter = doc! {"_id": retainer};
    let repairer = world.repairer().await;
    for (what, change) in [
        ("the field", doc! {"$set": {"currentBalance": 8_i64}}),
        ("its type", doc! {"$set": {"currentBalance": 7}}),
        ("the history", doc! {"$set": {"deposits.0.amount": 90_000_i64}}),
        ("the history, not its sum", doc! {"$set": {"deposits.0.description": "other"}}),
        ("all of it", doc! {"$unset": {"currentBalance": 1}}),
    ] {
        let right = world.get("retainers", retainer).await;
        world.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
        let planned = world.plan(DRIFT).await;
        world.collection("retainers").update_one(filter.clone(), change).await.unwrap();
        let changed = world.get("retainers", retainer).await;
        let outcome = repairer.repair(&check(DRIFT), &planned.steps[0]).await.unwrap();
        assert_eq!(outcome, RepairOutcome::Changed, "{what}");
        assert_eq!(world.get("retainers", retainer).await, changed, "{what}");
        world.collection("retainers").replace_one(filter.clone(), right).await.unwrap();
    }
    // Nor does an undo go over what came after the repair.
    world.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let outcomes = world.repair_all(&repairer, DRIFT).await;
    let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let path = format!("/api/retainers/{retainer}/consume");
    let spent = world.backend.client().post(&path, &json!({"amount": 1})).await.unwrap();
    assert!(spent.0.is_success(), "{spent:?}");
    assert_eq!(undo(&repairer, &check(DRIFT), record).await.unwrap(), RepairOutcome::Changed);
    let stored = readable(&repairer, UndoSelector::Record(record.id)).await;
    assert_eq!(stored[0].undone_by, None, "what was not undone is not marked so");
    assert_eq!(audit(&world.client).await, Found::new());

    world.set("retainers", retainer, doc! {"currentBalance": 7_i64}).await;
    let planned = world.plan(DRIFT).await;
    world.collection("retainers").delete_one(filter).await.unwrap();
    let outcome = repairer.repair(&check(DRIFT), &planned.steps[0]).await.unwrap();
    assert_eq!(outcome, RepairOutcome::Changed, "a document that is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recomputed_is_never_written() {
    let world = World::make(1).await;
    let refused = plan(&world.client, &check("bank_account_overdrawn"), &[], 1).await.unwrap_err();
    assert!(refused.message.contains("only a derived field"), "{refused}");

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
    let before = world.get("retainers", world.retainers[0]).await;
    let planned = plan(&world.client, null, &[Bson::ObjectId(world.retainers[0])], 5).await.unwrap();
    assert_eq!(planned.steps.len(), 1, "limited to one id");
    assert!(matches!(planned.steps[0].repair, Repair::Impossible(_)));
    let outcome = world.repairer().await.repair(null, &planned.steps[0]).await.unwrap();
    assert!(matches!(outcome, RepairOutcome::Refused(_)), "{outcome:?}");
    assert_eq!(world.get("retainers", world.retainers[0]).await, before);
    assert!(world.recorded().await.is_empty());
}

/// Balances are broken and repaired again and again while clients consume and replenish and another member is
/// elected. At the end each balance is what its history says, and the history is what the clients were told.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_and_through_an_election_nothing_is_lost() {
    const ROUNDS: usize = 8;
    let world = World::make(3).await;
    let mut retainers = Vec::new();
    for _ in 0..4 {
        retainers.push(ObjectId::parse_str(world.backend.client().retainer(10_000).await.unwrap()).unwrap());
    }
    let repairer = world.repairer().await;
    let (mut made, mut told) = (0, 0);
    for round in 0..ROUNDS {
        let broken = doc! {"$inc": {"currentBalance": 12_345_i64}};
        let filter = doc! {"_id": retainers[round % 4]};
        world.collection("retainers").update_one(filter, broken).await.unwrap();
        let election = async {
            if round == ROUNDS / 2 {
                world.set.step_up_another().await.unwrap();
            }
        };
        // A round's load ends by itself: a document that is never left alone never is as it was read.
        let (repaired, moved, ()) =
            tokio::join!(world.mend(&repairer, retainers[round % 4]), world.load(&retainers), election);
        made += repaired;
        told += moved;
    }
    assert_eq!(made, ROUNDS, "one repair for each time that a balance was broken");
    assert_eq!(world.recorded().await.len(), made);
    assert!(told > 0, "nothing moved meanwhile");
    assert_eq!(audit(&world.client).await, Found::new());
    // Each movement that a client was told of is there.
    let mut moved = 0;
    for retainer in &retainers {
        let stored = world.get("retainers", *retainer).await;
        let length = |array| stored.get_array(array).unwrap().len();
        moved += length("deposits") - 1 + length("consumptions");
    }
    assert!(moved >= told, "{moved} movements, {told} told");
}

impl World {
    /// Repairs a document until there is nothing to repair, and returns how often it did.
    async fn mend(&self, repairer: &Repairer, id: ObjectId) -> usize {
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

    /// Eight clients, of which each moves money on each retainer. Returns how many were told that it moved; of the
    /// others only the history knows.
    async fn load(&self, retainers: &[ObjectId]) -> usize {
        let http = &self.backend.client();
        let clients = (0..8_usize).map(async |client| {
            let mut told = 0;
            for turn in 0..retainers.len() {
                let retainer = retainers[(client + turn) % retainers.len()];
                let (what, amount) = if client == 0 { ("replenish", 2) } else { ("consume", 1) };
                let path = format!("/api/retainers/{retainer}/{what}");
                let answer = http.post(&path, &json!({"amount": amount})).await;
                told += usize::from(answer.is_ok_and(|(status, _)| status.is_success()));
            }
            told
        });
        join_all(clients).await.into_iter().sum()
    }
}
