//! Graceful shutdown: requests in flight are answered, and new ones are not accepted.

use anyhow::{Result, ensure};
use mongodb::bson::doc;
use serde_json::json;
use testkit::wait::until;

use crate::environment::{Answer, Bench, block_on, shared};

#[test]
fn shutdown_finishes_requests_in_flight() -> Result<()> {
    block_on(async {
        let bench = Bench::start(shared().await?, ledger::Settings::DEADLINE, "").await?;
        let id = bench.retainer(json!(1000)).await?;
        let block =
            doc! { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 1000 };
        let slow = bench.fail(Some(1), block).await?;
        let request = bench
            .request(reqwest::Method::POST, &format!("/api/retainers/{id}/consume"))
            .json(&json!({ "amount": 800, "description": "" }));
        let answer = tokio::spawn(Answer::to(request));
        until("the request is in flight", async || {
            let page = bench.metrics.render();
            let line = r#"concurrent_operations{operation="POST /api/retainers/{id}/consume"} 1"#;
            ensure!(page.contains(line), "{page}");
            Ok(())
        })
        .await?;
        let (http, url, database) = (bench.http.clone(), bench.url("/-/healthy"), bench.database());
        let _alive = bench.replica_set.clone();
        bench.shutdown().await?;
        answer.await??.expect(200)?;
        ensure!(http.get(url).send().await.is_err(), "it still listens");
        slow.off().await?;
        let retainer = database.collection::<mongodb::bson::Document>("retainers").find_one(doc! {}).await?;
        ensure!(retainer.is_some_and(|retainer| retainer.get_i64("currentBalance").ok() == Some(20_000)));
        Ok(database.drop().await?)
    })
}

#[test]
fn idle_connection_does_not_block_shutdown() -> Result<()> {
    block_on(async {
        let bench = Bench::start(shared().await?, ledger::Settings::DEADLINE, "").await?;
        bench.retainer(json!(1)).await?;
        let database = bench.database();
        // The replica set must outlive the bench, because this may be the last test that uses it.
        let _alive = bench.replica_set.clone();
        // The client's connection is kept alive; `shutdown` would fail if it waited for it.
        let _client = bench.http.clone();
        bench.shutdown().await?;
        Ok(database.drop().await?)
    })
}
