//! The history of a retainer: documents of their own, which are read in pages.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc, serialize_to_vec};
use serde_json::{Value, json};

use crate::environment::{Answer, Bench, with_ledger};

async fn move_money(bench: &Bench, id: &str, action: &str, amount: i64) -> Result<Answer> {
    let body = json!({ "amount": amount, "description": "x".repeat(200) });
    bench.post(&format!("/api/retainers/{id}/{action}"), body).await?.expect(200)
}

/// The size of the stored retainer.
async fn size(bench: &Bench, id: &str) -> Result<usize> {
    let retainers = bench.database().collection::<Document>("retainers");
    let stored = retainers.find_one(doc! { "_id": ObjectId::parse_str(id)? }).await?;
    Ok(serialize_to_vec(&stored.context("the retainer")?)?.len())
}

fn ids(page: &Value) -> Vec<String> {
    let movements = page["movements"].as_array().into_iter().flatten();
    movements.filter_map(|movement| movement["_id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn retainer_document_size_is_bounded() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(9000)).await?;
        let first = move_money(bench, &id, "consume", 1).await?;
        let before = size(bench, &id).await?;
        let read = bench.get(&format!("/api/retainers/{id}")).await?.expect(200)?;
        // A long history, written directly: a deposit for each consumption, so that the balance is that of all.
        let retainer = ObjectId::parse_str(&id)?;
        let movements = (0..10_000).map(|number| {
            doc! {
                "retainerId": retainer,
                "kind": if number % 2 == 0 { "deposit" } else { "consumption" },
                "amount": 100_i64, "description": "x".repeat(200), "at": DateTime::now(),
            }
        });
        bench.database().collection::<Document>("retainerMovements").insert_many(movements).await?;
        for _ in 0..10 {
            let last = move_money(bench, &id, "consume", 1).await?;
            ensure!(last.text.len() == first.text.len(), "{} became {}", first.text, last.text);
        }
        move_money(bench, &id, "replenish", 1).await?;
        ensure!(size(bench, &id).await? == before, "{before} bytes became {}", size(bench, &id).await?);
        let again = bench.get(&format!("/api/retainers/{id}")).await?.expect(200)?;
        ensure!(again.text.len() == read.text.len(), "{} became {}", read.text, again.text);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn movements_are_paged() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let other = bench.retainer(json!(0)).await?;
        ensure!(bench.movements(&other, "").await? == json!({ "movements": [], "next": null }));
        for action in ["consume", "consume", "replenish", "consume"] {
            move_money(bench, &id, action, 5).await?;
        }
        move_money(bench, &other, "replenish", 7).await?;

        // Newest first, without the movements of other retainers.
        let all = bench.movements(&id, "").await?;
        let mut sorted = ids(&all);
        sorted.sort_by(|a, b| b.cmp(a));
        ensure!(ids(&all) == sorted && sorted.len() == 5 && all["next"].is_null(), "{all}");
        ensure!(all["movements"][4]["description"] == "Initial amount", "{all}");

        // The pages together are the history, also if money moves while a client reads them.
        let (mut seen, mut query, mut pages) = (Vec::new(), "?limit=2".to_owned(), 0);
        loop {
            let page = bench.movements(&id, &query).await?;
            seen.extend(ids(&page));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            ensure!(seen.last().map(String::as_str) == Some(next), "{page}");
            query = format!("?limit=2&after={next}");
            move_money(bench, &id, "consume", 1).await?;
        }
        ensure!(seen == sorted && pages == 3, "{pages} pages: {seen:?}");
        // A last page that is full has no next page.
        let whole = bench.movements(&id, "?limit=7").await?;
        ensure!(ids(&whole).len() == 7 && whole["next"].is_null(), "{whole}");

        let path = |query: &str| format!("/api/retainers/{id}/movements{query}");
        for (query, error) in [
            ("?limit=0", "limit must be a whole number from 1 to 100"),
            ("?limit=101", "limit must be a whole number from 1 to 100"),
            ("?limit=two", "limit must be a whole number from 1 to 100"),
            ("?after=7", "Malformed after: it must be 24 hexadecimal digits"),
        ] {
            bench.get(&path(query)).await?.expect_error(400, error)?;
        }
        bench.get("/api/retainers/xyz/movements").await?.expect_error_about(400, "Malformed id")?;
        let unknown = bench.get("/api/retainers/0123456789abcdef01234567/movements").await?;
        unknown.expect_error(404, "Retainer not found")?;
        bench.assert_counters_reconcile().await
    })
}

/// The movements that exist when the first page is read are on the pages exactly once, whatever is written meanwhile.
#[test]
fn pages_are_stable_under_concurrent_inserts() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        for _ in 0..20 {
            move_money(bench, &id, "consume", 1).await?;
        }
        let existing = ids(&bench.movements(&id, "").await?);
        ensure!(existing.len() == 21, "{existing:?}");
        let (done, limit) = (AtomicBool::new(false), 3);
        let pages = async {
            let (mut seen, mut query) = (Vec::new(), format!("?limit={limit}"));
            loop {
                let page = bench.movements(&id, &query).await?;
                seen.extend(ids(&page));
                let Some(next) = page["next"].as_str() else { return anyhow::Ok(seen) };
                query = format!("?limit={limit}&after={next}");
            }
        };
        let read = async {
            let seen = pages.await;
            done.store(true, Relaxed);
            seen
        };
        let write = async {
            while !done.load(Relaxed) {
                tokio::try_join!(
                    move_money(bench, &id, "consume", 1),
                    move_money(bench, &id, "replenish", 1)
                )?;
            }
            anyhow::Ok(())
        };
        let (seen, ()) = tokio::try_join!(read, write)?;
        ensure!(seen.is_sorted_by(|one, next| one > next), "not in order, or twice: {seen:?}");
        let found: Vec<_> = seen.into_iter().filter(|id| existing.contains(id)).collect();
        ensure!(found == existing, "{found:?} instead of {existing:?}");
        bench.assert_counters_reconcile().await
    })
}

/// The server reads as many documents as the page has, and one more, from the index that the ledger creates.
#[test]
fn index_serves_each_page() -> Result<()> {
    with_ledger(async |bench| {
        // Retainers whose movements are older and newer than those of the one that is read.
        let retainers = [(); 3].map(|()| ObjectId::new());
        let movements = retainers.iter().flat_map(|retainer| {
            (0..500).map(move |_| {
                doc! {
                    "retainerId": retainer, "kind": "deposit", "amount": 1_i64, "description": "", "at": DateTime::now(),
                }
            })
        });
        let database = bench.database();
        database.collection::<Document>("retainerMovements").insert_many(movements).await?;
        for id in retainers {
            let now = DateTime::now();
            let retainer = doc! {
                "_id": id, "clientId": "c", "retainerType": "hourly", "currentBalance": 500_i64,
                "createdAt": now, "updatedAt": now,
            };
            database.collection("retainers").insert_one(retainer).await?;
        }
        database.run_command(doc! { "profile": 2 }).await?;
        for id in retainers {
            let mut query = "?limit=20".to_owned();
            for _ in 0..3 {
                let page = bench.movements(&id.to_hex(), &query).await?;
                ensure!(ids(&page).len() == 20, "{page}");
                query = format!("?limit=20&after={}", page["next"].as_str().context("a next page")?);
            }
        }
        database.run_command(doc! { "profile": 0 }).await?;
        let finds = doc! { "op": "query", "command.find": "retainerMovements" };
        let mut profiled = database.collection::<Document>("system.profile").find(finds).await?;
        let mut count = 0;
        while profiled.advance().await? {
            let find = profiled.deserialize_current()?;
            ensure!(find.get_str("planSummary")? == "IXSCAN { retainerId: 1, _id: 1 }", "{find}");
            let examined = find
                .get_i32("docsExamined")
                .map_or_else(|_| find.get_i64("docsExamined"), |n| Ok(n.into()))?;
            ensure!(examined == 21 && !find.contains_key("hasSortStage"), "{find}");
            count += 1;
        }
        ensure!(count == 9, "{count} pages were read");
        Ok(())
    })
}

#[test]
fn rejected_consumption_writes_no_movement() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(10)).await?;
        let body = json!({ "amount": 11, "description": "" });
        let answer = bench.post(&format!("/api/retainers/{id}/consume"), body).await?;
        answer.expect_error(400, "Insufficient balance")?;
        ensure!(ids(&bench.movements(&id, "").await?).len() == 1);
        ensure!(bench.count("generalLedger", doc! {}).await? == 2);
        bench.assert_counters_reconcile().await
    })
}
