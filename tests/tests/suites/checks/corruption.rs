//! Every corruption of the ledger's data that a check covers, written directly to the database: the checks find
//! exactly the corrupted documents.

use std::collections::BTreeSet;
use std::slice::from_ref;

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::fixtures::{COLLECTIONS, Fixtures, Found, audit, checks};

/// All documents of the ledger, to be restored after each corruption.
struct Saved(Vec<(&'static str, Vec<Document>)>);

impl Saved {
    async fn of(fixtures: &Fixtures) -> Self {
        let mut saved = Vec::new();
        for name in COLLECTIONS {
            let all = fixtures.collection(name).find(doc! {}).await.unwrap();
            saved.push((name, all.try_collect().await.unwrap()));
        }
        Self(saved)
    }

    async fn put_back(&self, fixtures: &Fixtures) {
        for (name, documents) in &self.0 {
            fixtures.collection(name).delete_many(doc! {}).await.unwrap();
            fixtures.collection(name).insert_many(documents).await.unwrap();
        }
    }
}

fn found(expected: &[(&str, &[Bson])]) -> Found {
    let sorted = |ids: &[Bson]| {
        let mut ids = ids.to_vec();
        ids.sort_by_key(Bson::to_string);
        ids
    };
    expected.iter().map(|(name, ids)| ((*name).to_owned(), sorted(ids))).collect()
}

struct Trial<'a> {
    fixtures: &'a Fixtures,
    saved: Saved,
    caught: BTreeSet<String>,
}

impl Trial<'_> {
    /// Audits the corrupted data, and restores it.
    async fn finds(&mut self, what: &str, expected: &[(&str, &[Bson])]) {
        let audited = audit(&self.fixtures.client).await;
        assert_eq!(audited, found(expected), "{what}");
        self.caught.extend(audited.into_keys());
        self.saved.put_back(self.fixtures).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_corruption_violates_exactly_its_checks() {
    let fixtures = Fixtures::make(1).await;
    assert_eq!(audit(&fixtures.client).await, Found::new(), "an uncorrupted ledger has no violations");
    // Corruptions that the indexes would reject.
    fixtures.collection("payments").drop_index("invoiceId_1").await.unwrap();
    let saved = Saved::of(&fixtures).await;
    let mut trial = Trial { fixtures: &fixtures, saved, caught: BTreeSet::new() };
    let [spent, untouched] = fixtures.retainers.map(Bson::ObjectId);
    let [with_invoice, without, pending] = fixtures.payments.map(Bson::ObjectId);
    let [first, second, third] = fixtures.accounts.map(Bson::ObjectId);
    let [completed, cancelled] = fixtures.transfers.map(Bson::ObjectId);
    let euro = Bson::from("EUR");

    // ===== Retainers =====

    fixtures.set("retainers", fixtures.retainers[0], doc! {"currentBalance": -1_i64}).await;
    fn drift(ids: &[Bson]) -> [(&'static str, &[Bson]); 2] {
        [("retainer_balance_drift", ids), ("retainer_not_in_general_ledger", ids)]
    }
    let one = [spent.clone()];
    let mut expected = vec![("retainer_balance_negative", &one[..])];
    expected.extend(drift(&one));
    trial.finds("a negative balance", &expected).await;

    fixtures.set("retainers", fixtures.retainers[0], doc! {"currentBalance": "80000"}).await;
    trial.finds("a balance that is a text", &expected).await;

    for (what, id) in [("one cent too much", &spent), ("one cent too much, untouched", &untouched)] {
        let filter = doc! {"_id": id};
        let more = doc! {"$inc": {"currentBalance": 1_i64}};
        fixtures.collection("retainers").update_one(filter, more).await.unwrap();
        trial.finds(what, &drift(from_ref(id))).await;
    }

    let movements = fixtures.collection("retainerMovements");
    movements.delete_one(doc! {"retainerId": &spent, "kind": "consumption"}).await.unwrap();
    trial.finds("a lost consumption", &[("retainer_balance_drift", from_ref(&spent))]).await;

    let of_other_retainer = doc! {"$set": {"retainerId": &untouched}};
    movements
        .update_one(doc! {"retainerId": &spent, "kind": "consumption"}, of_other_retainer)
        .await
        .unwrap();
    let both = [spent.clone(), untouched.clone()];
    trial.finds("a consumption of another retainer", &[("retainer_balance_drift", &both)]).await;

    for (what, kind, amount) in [("a deposit of nothing", "deposit", 0_i64), ("neither", "gift", 5)] {
        let movement = doc! {"retainerId": &untouched, "kind": kind, "amount": amount};
        let id = movements.insert_one(movement).await.unwrap().inserted_id;
        trial.finds(what, &[("retainer_movement_not_positive", from_ref(&id))]).await;
    }

    // ===== Payments =====

    fixtures.set("payments", fixtures.payments[2], doc! {"status": "completed"}).await;
    trial
        .finds(
            "an invoice that is paid twice",
            &[
                ("payment_completed_twice", &["invoice-1".into()]),
                ("payment_not_posted_once", from_ref(&pending)),
                ("payment_completion_undated", from_ref(&pending)),
            ],
        )
        .await;

    let lines = fixtures.collection("generalLedger");
    let of_payment: Vec<Document> =
        lines.find(doc! {"movementId": &without}).await.unwrap().try_collect().await.unwrap();
    let again = of_payment.iter().cloned().map(|mut line| {
        line.insert("_id", ObjectId::new());
        line
    });
    lines.insert_many(again).await.unwrap();
    trial
        .finds(
            "a payment that moved its money twice",
            &[
                ("payment_not_posted_once", from_ref(&without)),
                ("general_ledger_movement_unbalanced", from_ref(&without)),
            ],
        )
        .await;

    lines.delete_many(doc! {"movementId": &with_invoice}).await.unwrap();
    trial.finds("a payment that moved none", &[("payment_not_posted_once", from_ref(&with_invoice))]).await;

    fixtures.set("payments", fixtures.payments[2], doc! {"amount": 0_i64}).await;
    trial.finds("a payment of nothing", &[("payment_amount_not_positive", from_ref(&pending))]).await;

    // ===== Accounts and transfers =====

    fixtures.set("bankAccounts", fixtures.accounts[0], doc! {"availableBalance": -5_i64}).await;
    trial
        .finds(
            "an overdraft",
            &[
                ("bank_account_overdrawn", from_ref(&first)),
                ("bank_account_balance_drift", from_ref(&first)),
                ("bank_accounts_total", from_ref(&euro)),
            ],
        )
        .await;

    let move_cent = async |id: &Bson, cents: i64| {
        let change = doc! {"$inc": {"availableBalance": cents}};
        fixtures.collection("bankAccounts").update_one(doc! {"_id": id}, change).await.unwrap();
    };
    move_cent(&second, 1).await;
    move_cent(&third, -1).await;
    trial
        .finds(
            "a cent that moved with no transfer",
            &[("bank_account_balance_drift", &[second.clone(), third.clone()])],
        )
        .await;

    fixtures.set("bankTransfers", fixtures.transfers[0], doc! {"status": "cancelled"}).await;
    trial
        .finds(
            "a cancellation that gave nothing back",
            &[("bank_transfer_not_posted_once", from_ref(&completed))],
        )
        .await;

    // Cancelled twice, with the corresponding balances.
    let back: Vec<Document> = lines
        .find(doc! {"transferId": &cancelled, "description": "Transfer cancelled"})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let movement = ObjectId::new();
    let again = back.iter().cloned().map(|mut line| {
        line.insert("_id", ObjectId::new());
        line.insert("movementId", movement);
        line
    });
    lines.insert_many(again).await.unwrap();
    move_cent(&second, 7_000).await;
    move_cent(&third, -7_000).await;
    trial
        .finds(
            "a transfer that was cancelled twice",
            &[("bank_transfer_not_posted_once", from_ref(&cancelled))],
        )
        .await;

    fixtures.collection("bankTransfers").delete_one(doc! {"_id": &completed}).await.unwrap();
    trial
        .finds(
            "money that a transfer moved which is not there",
            &[("bank_transfer_not_posted_once", from_ref(&completed))],
        )
        .await;

    // ===== The general ledger =====

    let credit = doc! {"movementId": &with_invoice, "credit": {"$gt": 0}};
    let line = lines.find_one(credit.clone()).await.unwrap().unwrap();
    let line = line.get("_id").unwrap().clone();
    lines.update_one(doc! {"_id": &line}, doc! {"$inc": {"credit": 1_i64}}).await.unwrap();
    trial
        .finds(
            "a credit of a cent too much",
            &[
                ("payment_not_posted_once", from_ref(&with_invoice)),
                ("general_ledger_movement_unbalanced", from_ref(&with_invoice)),
                ("general_ledger_unbalanced", &["USD".into()]),
            ],
        )
        .await;

    lines.update_one(doc! {"_id": &line}, doc! {"$set": {"currency": "EUR"}}).await.unwrap();
    trial
        .finds(
            "one movement in two currencies",
            &[
                ("general_ledger_movement_unbalanced", from_ref(&with_invoice)),
                ("general_ledger_unbalanced", &["USD".into(), euro.clone()]),
            ],
        )
        .await;

    lines.update_one(doc! {"_id": &line}, doc! {"$set": {"credit": 0_i64}}).await.unwrap();
    trial
        .finds(
            "a line that is neither debit nor credit",
            &[
                ("payment_not_posted_once", from_ref(&with_invoice)),
                ("general_ledger_movement_unbalanced", from_ref(&with_invoice)),
                ("general_ledger_unbalanced", &["USD".into()]),
                ("general_ledger_line_malformed", from_ref(&line)),
            ],
        )
        .await;

    // Every check has found a violation.
    let all: BTreeSet<_> = checks().iter().map(|check| check.name.clone()).collect();
    assert_eq!(trial.caught, all);
    assert_eq!(audit(&fixtures.client).await, Found::new());
}
