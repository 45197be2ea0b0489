//! Documents written by others: another numeric type is accepted, and unreadable documents are reported.

use anyhow::{Context, Result, ensure};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use serde_json::json;

use crate::environment::{Bench, with_ledger};

async fn set(bench: &Bench, collection: &str, id: &str, change: Document) -> Result<()> {
    let id = ObjectId::parse_str(id)?;
    let of = bench.database().collection::<Document>(collection);
    let result = of.update_one(doc! { "_id": id }, doc! { "$set": change }).await?;
    ensure!(result.modified_count == 1, "nothing was changed");
    Ok(())
}

/// The id of the only movement of a new retainer.
async fn first_movement(bench: &Bench, retainer: &str) -> Result<String> {
    let page = bench.movements(retainer, "").await?;
    Ok(page["movements"][0]["_id"].as_str().context("a movement")?.to_owned())
}

#[test]
fn whole_number_of_another_type_is_read_and_written() -> Result<()> {
    with_ledger(async |bench| {
        let decimal = |text: &str| -> Result<Bson> { Ok(Bson::Decimal128(text.parse()?)) };
        for balance in [Bson::Double(100_000.0), Bson::Int32(100_000), decimal("100000.00")?] {
            let id = bench.retainer(json!(1000)).await?;
            set(bench, "retainers", &id, doc! { "currentBalance": balance.clone() }).await?;
            let deposit = first_movement(bench, &id).await?;
            set(bench, "retainerMovements", &deposit, doc! { "amount": balance.clone() }).await?;
            ensure!(bench.retainer_balance(&id).await? == 1000, "{balance:?}");
            let page = bench.movements(&id, "").await?;
            ensure!(page["movements"][0]["amount"] == 1000, "{balance:?}: {page}");
            let body = json!({ "amount": 0.01, "description": "" });
            bench.post(&format!("/api/retainers/{id}/consume"), body.clone()).await?.expect(200)?;
            ensure!(bench.retainer_balance(&id).await? == 999.99, "{balance:?}");
            bench.post(&format!("/api/retainers/{id}/replenish"), body).await?.expect(200)?;

            let (from, to) =
                (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(0)).await?);
            set(bench, "bankAccounts", &from, doc! { "availableBalance": balance.clone() }).await?;
            let transfer = bench.transfer(&from, &to, json!(0.29)).await?.created("transfer")?;
            ensure!(bench.account_balance(&from).await? == 999.71, "{balance:?}");
            set(bench, "bankTransfers", &transfer, doc! { "amount": 29.0 }).await?;
            bench.post(&format!("/api/bank-transfers/{transfer}/cancel"), json!({})).await?.expect(200)?;
            ensure!(bench.account_balance(&from).await? == 1000, "{balance:?}");

            let payment = bench.payment("pending", None).await?.created("payment")?;
            set(bench, "payments", &payment, doc! { "amount": balance.clone() }).await?;
            let completed =
                bench.post(&format!("/api/payments/{payment}/complete"), json!({})).await?.expect(200)?;
            ensure!(completed.json["payment"]["amount"] == 1000, "{}", completed.text);
        }
        Ok(())
    })
}

#[test]
fn unreadable_document_is_reported_and_unchanged() -> Result<()> {
    with_ledger(async |bench| {
        let body = || json!({ "amount": 1, "description": "" });
        for balance in [Bson::Double(100_000.5), Bson::from("100000"), Bson::Double(f64::NAN), Bson::Null] {
            let id = bench.retainer(json!(1000)).await?;
            set(bench, "retainers", &id, doc! { "currentBalance": balance.clone() }).await?;
            let about = format!(
                "The stored document retainers/{id} cannot be read at currentBalance; nothing was changed"
            );
            bench.get(&format!("/api/retainers/{id}")).await?.expect_error_about(500, &about)?;
            for action in ["consume", "replenish"] {
                let answer = bench.post(&format!("/api/retainers/{id}/{action}"), body()).await?;
                answer.expect_error_about(500, &about)?;
            }
            let retainers = bench.database().collection::<Document>("retainers");
            let after =
                retainers.find_one(doc! { "_id": ObjectId::parse_str(&id)? }).await?.unwrap_or_default();
            let kept = after.get("currentBalance").map(Bson::to_string);
            ensure!(kept == Some(balance.to_string()), "{balance} became {after}");
            let movements = doc! { "retainerId": ObjectId::parse_str(&id)? };
            ensure!(bench.count("retainerMovements", movements).await? == 1, "the first deposit");

            let (from, to) =
                (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(0)).await?);
            set(bench, "bankAccounts", &to, doc! { "availableBalance": balance }).await?;
            let about = format!("The stored document bankAccounts/{to} cannot be read at availableBalance");
            bench.transfer(&from, &to, json!(1)).await?.expect_error_about(500, &about)?;
            ensure!(bench.account_balance(&from).await? == 1000);
        }
        // In a list, and a time.
        let id = bench.retainer(json!(1000)).await?;
        let deposit = first_movement(bench, &id).await?;
        set(bench, "retainerMovements", &deposit, doc! { "amount": "1000" }).await?;
        let answer = bench.get(&format!("/api/retainers/{id}/movements")).await?;
        answer.expect_error_about(500, &format!("retainerMovements/{deposit} cannot be read at amount"))?;
        let payment = bench.payment("pending", None).await?.created("payment")?;
        set(bench, "payments", &payment, doc! { "createdAt": "2024-01-01" }).await?;
        let answer = bench.post(&format!("/api/payments/{payment}/complete"), json!({})).await?;
        answer.expect_error_about(500, &format!("payments/{payment} cannot be read at createdAt"))?;
        bench.no_transaction_is_open().await
    })
}
