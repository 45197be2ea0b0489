//! The complete workflow: the data is corrupted in five ways, an audit and the exporter report it, a repair fixes
//! exactly the derived fields, and an undo restores the previous values.

use mongodb::bson::{Bson, doc};
use testkit::{Scrape, wait};
use txnscope_checks::repair::{RepairOutcome, Repairer, plan, undo};
use txnscope_sidecar::Sidecar;

use super::fixtures::{Fixtures, Found, audit, checks};
use crate::common::{frequent_checks, metrics_url, sidecar_with};

/// Waits until the exporter has reported each check's result once. One check after the other: on a slow machine the
/// first result may have been replaced before the last is exported.
async fn page_shows(sidecar: &Sidecar, found: &Found) {
    for check in checks().iter() {
        let expected = found.get(&check.name).map_or(0, Vec::len);
        let what = format!("{expected} violations of {}", check.name);
        wait::until(&what, async || {
            let page = Scrape::get(&metrics_url(sidecar)).await?;
            let labels = [("check", check.name.as_str()), ("severity", check.severity.as_str())];
            let seen = page.value("mongodb_consistency_violations", &labels);
            #[allow(clippy::cast_precision_loss, reason = "a few")]
            let expected = expected as f64;
            anyhow::ensure!(seen == Some(expected), "{seen:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

fn found(expected: &[(&str, Bson)]) -> Found {
    let mut found = Found::new();
    for (name, id) in expected {
        found.entry((*name).to_owned()).or_default().push(id.clone());
    }
    found.values_mut().for_each(|ids| ids.sort_by_key(Bson::to_string));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_repair_undo_roundtrip() {
    let fixtures = Fixtures::make(1).await;
    let sidecar = sidecar_with(&fixtures.set.uri(), Some(frequent_checks(""))).await;
    page_shows(&sidecar, &Found::new()).await;

    // A negative balance, an overdraft, an invoice that is paid twice, a drifted balance, and an unbalanced general
    // ledger. The unique index would reject the third.
    fixtures.collection("payments").drop_index("invoiceId_1").await.unwrap();
    fixtures.set("retainers", fixtures.retainers[0], doc! {"currentBalance": -1_i64}).await;
    fixtures.set("bankAccounts", fixtures.accounts[0], doc! {"availableBalance": -5_i64}).await;
    fixtures.set("payments", fixtures.payments[2], doc! {"status": "completed"}).await;
    fixtures.set("retainers", fixtures.retainers[1], doc! {"currentBalance": 4_001_i64}).await;
    let credit = doc! {"movementId": fixtures.payments[1], "credit": {"$gt": 0}};
    let cent = doc! {"$inc": {"credit": 1_i64}};
    fixtures.collection("generalLedger").update_one(credit, cent).await.unwrap();

    let [spent, drifted] = fixtures.retainers.map(Bson::ObjectId);
    let [_, off, twice] = fixtures.payments.map(Bson::ObjectId);
    let account = Bson::ObjectId(fixtures.accounts[0]);
    let unrepairable = [
        ("payment_completed_twice", Bson::from("invoice-1")),
        ("payment_not_posted_once", twice.clone()),
        ("payment_not_posted_once", off.clone()),
        ("payment_completion_undated", twice),
        ("general_ledger_movement_unbalanced", off),
        ("general_ledger_unbalanced", "USD".into()),
    ];
    let mut wrong = unrepairable.to_vec();
    wrong.extend([
        ("retainer_balance_negative", spent.clone()),
        ("retainer_balance_drift", spent.clone()),
        ("retainer_balance_drift", drifted.clone()),
        ("retainer_not_in_general_ledger", spent),
        ("retainer_not_in_general_ledger", drifted),
        ("bank_account_overdrawn", account.clone()),
        ("bank_account_balance_drift", account),
        ("bank_accounts_total", "EUR".into()),
    ]);
    let (wrong, unrepairable) = (found(&wrong), found(&unrepairable));
    assert_eq!(audit(&fixtures.client).await, wrong);
    page_shows(&sidecar, &wrong).await;

    let repairer =
        Repairer::connect(&fixtures.client, "ledger", "txnscopeRepairs", "ann@test").await.unwrap();
    let mut made = Vec::new();
    for name in ["retainer_balance_drift", "bank_account_balance_drift"] {
        let checks = checks();
        let check = checks.find(name).unwrap();
        for step in plan(&fixtures.client, check, &[], 10).await.unwrap().steps {
            match repairer.repair(check, &step).await.unwrap() {
                RepairOutcome::Done(record) => made.push(record),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(made.len(), 3);
    assert_eq!(audit(&fixtures.client).await, unrepairable, "unrepairable violations remain");
    page_shows(&sidecar, &unrepairable).await;

    for record in made.iter().rev() {
        let checks = checks();
        let check = checks.find(&record.check).unwrap();
        assert!(matches!(undo(&repairer, check, record).await.unwrap(), RepairOutcome::Done(_)));
    }
    assert_eq!(audit(&fixtures.client).await, wrong);
    page_shows(&sidecar, &wrong).await;
    sidecar.shutdown().await;
}
