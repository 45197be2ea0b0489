//! Identifiers that clients choose: look-alikes are equal, and invisible characters are rejected.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use ledger::{Ledger, Settings, Token};
use mongodb::bson::{Bson, Document, doc};
use serde_json::json;

use crate::environment::{Answer, TOKEN, with_ledger};

const ALREADY_PAID: &str = "Invoice already paid";

/// Spellings of `INV-1` that look the same to a person.
const SAME: &[&str] = &[
    "INV-1",
    " INV-1",
    "INV-1 ",
    "INV-1\n",
    "\u{a0}INV-1\u{3000}",
    "inv-1",
    "Inv-1",
    "INV\u{2010}1",
    "INV\u{2011}1",
    "INV\u{2013}1",
    "INV\u{2212}1",
    "INV\u{ff0d}1",
    "ＩＮＶ－１",
    "INV-①",
    "INV-\u{661}",
    "\u{406}NV-1",
];

/// The same with invisible characters.
const HIDDEN: &[&str] = &[
    "INV-1\u{200b}",
    "\u{feff}INV-1",
    "INV\u{200d}-1",
    "INV\u{ad}-1",
    "\u{202e}INV-1",
    "INV-1\u{2066}",
    "INV-1\0",
    "INV\t-1",
    "INV-1\u{fe0f}",
    "INV-1\u{e0020}",
];

#[test]
fn invoice_is_paid_once_across_spellings() -> Result<()> {
    with_ledger(async |bench| {
        bench.payment("completed", Some("INV-1")).await?.expect(201)?;
        for number in SAME {
            bench.payment("completed", Some(number)).await?.expect_error(400, ALREADY_PAID)?;
            let pending = bench.payment("pending", Some(number)).await?.created("payment")?;
            let complete = bench.post(&format!("/api/payments/{pending}/complete"), json!({})).await?;
            complete.expect_error(400, ALREADY_PAID)?;
        }
        for number in HIDDEN {
            for status in ["completed", "pending"] {
                let answer = bench.payment(status, Some(number)).await?;
                answer.expect_error_about(400, "invoiceId must not contain the invisible character U+")?;
            }
        }
        for nothing in ["", " ", "\u{2003}\n"] {
            let answer = bench.payment("completed", Some(nothing)).await?;
            answer.expect_error(400, "invoiceId must not be empty")?;
        }
        ensure!(bench.count("payments", doc! { "status": "completed" }).await? == 1);
        // A number that looks different is another invoice.
        for other in ["INV-2", "INV1", "INV-11", "INV 1", "Rechnung Ä-1", "счёт 1"] {
            bench.payment("completed", Some(other)).await?.expect(201)?;
        }
        bench.payment("completed", Some("RECHNUNG A\u{308}-1")).await?.expect_error(400, ALREADY_PAID)?;
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn concurrent_payments_with_spelling_variants_pay_once() -> Result<()> {
    with_ledger(async |bench| {
        for round in 0..10 {
            let numbers: Vec<_> = SAME
                .iter()
                .filter(|number| number.contains('1'))
                .map(|number| number.replace('1', &format!("1{round}")))
                .collect();
            // Half of the payments are completed at creation, half later.
            let later = try_join_all(
                numbers
                    .iter()
                    .map(async |number| bench.payment("pending", Some(number)).await?.created("payment")),
            )
            .await?;
            let at_once = try_join_all(numbers.iter().map(|number| bench.payment("completed", Some(number))));
            let completed = try_join_all(
                later
                    .iter()
                    .map(async |id| bench.post(&format!("/api/payments/{id}/complete"), json!({})).await),
            );
            let (mut answers, completed) = futures_util::future::try_join(at_once, completed).await?;
            answers.extend(completed);
            let paid = |answer: &&Answer| matches!(answer.status, 200 | 201);
            ensure!(answers.iter().filter(paid).count() == 1, "{round}: {answers:?}");
            for answer in answers.into_iter().filter(|answer| !paid(&answer)) {
                answer.expect_error(400, ALREADY_PAID)?;
            }
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn names_are_trimmed_and_have_no_invisible_characters() -> Result<()> {
    with_ledger(async |bench| {
        let retainer =
            |client: &str| json!({ "clientId": client, "retainerType": "hourly", "initialAmount": 1 });
        let payment =
            |customer: &str| json!({ "customerId": customer, "amount": 1, "paymentMethod": "card" });
        let account = |number: &str| json!({ "name": "n", "accountNumber": number, "bankName": "b", "currency": "EUR", "balance": 1 });
        for (path, body, field, entity) in [
            ("/api/retainers", &retainer as &dyn Fn(&str) -> serde_json::Value, "clientId", "retainer"),
            ("/api/payments", &payment, "customerId", "payment"),
            ("/api/bank-accounts", &account, "accountNumber", "account"),
        ] {
            let made = bench.post(path, body("\u{a0}c-1 \n")).await?.expect(201)?;
            ensure!(made.json[entity][field] == "c-1", "{}", made.text);
            for hidden in ["c\u{200b}-1", "c-1\u{202e}", "c\0"] {
                let about = format!("{field} must not contain the invisible character U+");
                bench.post(path, body(hidden)).await?.expect_error_about(400, &about)?;
            }
            bench.post(path, body(" \u{2003}")).await?.expect_error_about(400, "must not be empty")?;
        }
        // A description may contain such characters, but not consist of them.
        let mut body = account("1");
        body["name"] = "\u{200b} \u{2060}".into();
        bench.post("/api/bank-accounts", body).await?.expect_error(400, "name must not be empty")?;
        Ok(())
    })
}

#[test]
fn payments_without_invoice_key_are_counted() -> Result<()> {
    with_ledger(async |bench| {
        let payments = bench.database().collection::<Document>("payments");
        let old = |number: &str, status: &str| {
            doc! {
                "customerId": "c", "amount": 100_i64, "paymentMethod": "card", "status": status, "invoiceId": number,
                "createdAt": Bson::DateTime(mongodb::bson::DateTime::now()),
                "updatedAt": Bson::DateTime(mongodb::bson::DateTime::now()),
            }
        };
        let mut many: Vec<_> = (0..1_200).map(|at| old(&format!("OLD\u{2013}{at}"), "completed")).collect();
        // One invoice was paid twice, and one never.
        many.extend([
            old("old-7", "completed"),
            old("Twice-1", "completed"),
            old("twice-1 ", "completed"),
            old("OPEN-1", "pending"),
        ]);
        payments.insert_many(many).await?;
        // Before the next start, only the verbatim number is stored.
        bench.payment("completed", Some("OLD\u{2013}8")).await?.expect_error(400, ALREADY_PAID)?;

        let client = ledger::connect(&bench.replica_set.uri()).await?;
        let mut settings = Settings::new(Token::new(TOKEN)?);
        settings.database.clone_from(&bench.name);
        Ledger::open(client, settings).await?;
        let keyless = payments
            .count_documents(doc! { "status": "completed", "invoiceKey": { "$exists": false } })
            .await?;
        ensure!(keyless == 2, "{keyless} payments have no key, and two have paid what was paid");
        for number in ["old-0", "Old-7", "OLD-1199", "TWICE-1"] {
            bench.payment("completed", Some(number)).await?.expect_error(400, ALREADY_PAID)?;
        }
        bench.payment("completed", Some("open-1")).await?.expect(201)?;
        Ok(())
    })
}

#[test]
fn percent_encoded_id_maps_to_the_same_key() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let body = json!({ "amount": 100, "description": "" });
        bench.post_with_key(&format!("/api/retainers/{id}/consume"), "k", body.clone()).await?.expect(200)?;
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let again = bench.post_with_key(&format!("/api/retainers/{encoded}/consume"), "k", body).await?;
        again.expect_error_about(400, "Malformed id")?;
        ensure!(bench.retainer_balance(&id).await? == 900);
        Ok(())
    })
}
