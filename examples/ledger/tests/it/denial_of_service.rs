//! Malicious clients: they hold connections, fill the database, forge log lines, and repeat a payment under another
//! encoding of the same path.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use mongodb::bson::doc;
use serde_json::{Value, json};
use testkit::Signal;
use testkit::wait::{LIMIT, until};

use crate::environment::{Answer, block_on, shared, with_ledger};
use crate::process::{Running, TOKEN};

/// A ledger with a limit of open files and a log format.
async fn with_files(
    files: usize,
    database: &str,
    test: impl AsyncFnOnce(&mut Running) -> Result<()>,
) -> Result<()> {
    let replica_set = shared().await?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_ledger")]);
    command.args([
        "--log.format=json",
        "--web.listen-address=127.0.0.1:0",
        &format!("--mongodb.database={database}"),
        &format!("--mongodb.uri={}", replica_set.uri()),
    ]);
    command.env("LEDGER_TOKEN", TOKEN.1).env("NO_COLOR", "1").stdin(Stdio::null());
    let mut running = Running::spawn(&mut command)?;
    test(&mut running).await?;
    Ok(replica_set.client().await?.database(database).drop().await?)
}

fn connect(running: &Running, says: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(&running.address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(says.as_bytes())?;
    Ok(stream)
}

#[test]
fn idle_connections_beyond_file_limit_do_not_block_new_ones() -> Result<()> {
    block_on(with_files(256, "ledger_files", async |running| {
        let mut idle = Vec::new();
        for index in 0..400 {
            // Some send nothing, some half a head, and some stay after a response.
            let says = [
                "",
                "POST /api/retainers HTTP/1.1\r\nhost: x\r\n",
                "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n",
            ];
            idle.push(connect(running, says[index % 3])?);
            if index % 100 == 99 {
                let mut asks =
                    connect(running, "GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
                let mut answer = String::new();
                asks.read_to_string(&mut answer)?;
                ensure!(answer.ends_with("ledger is ready\n"), "beside {index} others: {answer:?}");
            }
        }
        running.signal(Signal::TERM)?;
        running.end()?;
        Ok(())
    }))
}

#[test]
fn incomplete_head_does_not_block_shutdown() -> Result<()> {
    block_on(with_files(256, "ledger_half_a_head", async |running| {
        let mut half = connect(running, "POST /api/retainers HTTP/1.1\r\nhost: x\r\nx-")?;
        let mut kept = connect(running, "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n")?;
        kept.read_exact(&mut [0])?;
        running.signal(Signal::TERM)?;
        let log = running.end()?;
        ensure!(log.contains("ledger has stopped"), "{log}");
        let mut rest = Vec::new();
        // Closed or reset, without a response to an incomplete request.
        let _ = half.read_to_end(&mut rest);
        ensure!(rest.is_empty(), "{rest:?}");
        Ok(())
    }))
}

/// No work was started for an incomplete body: it is answered with an error and not awaited.
#[test]
fn incomplete_body_does_not_block_shutdown() -> Result<()> {
    block_on(with_files(256, "ledger_half_a_body", async |running| {
        let mut half = connect(
            running,
            &format!(
                "POST /api/retainers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
                 content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
                TOKEN.1
            ),
        )?;
        let page = format!("http://{}/metrics", running.address);
        until("it is being read", async || {
            let page = reqwest::get(&page).await?.text().await?;
            let line = r#"concurrent_operations{operation="POST /api/retainers"} 1"#;
            ensure!(page.contains(line), "{page}");
            Ok(())
        })
        .await?;
        running.signal(Signal::TERM)?;
        running.end()?;
        let mut answer = String::new();
        half.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not arrive in time"), "{answer}");
        Ok(())
    }))
}

/// The record of each request must not contain the whole history: three hundred of them would take 5.7 MB.
#[test]
fn idempotency_record_size_is_independent_of_history() -> Result<()> {
    const MOST: usize = 3_000;
    with_ledger(async |bench| {
        let body =
            json!({ "clientId": "c".repeat(200), "retainerType": "t".repeat(200), "initialAmount": 1000 });
        let id = bench.post_with_key("/api/retainers", &"k".repeat(255), body).await?.created("retainer")?;
        let body = json!({ "amount": 0.01, "description": "\u{1F600}".repeat(200) });
        for call in 0..30 {
            let action = if call % 2 == 0 { "consume" } else { "replenish" };
            let (path, key) =
                (format!("/api/retainers/{id}/{action}"), format!("{call}-{}", "k".repeat(250)));
            let first = bench.post_with_key(&path, &key, body.clone()).await?.expect(200)?;
            let again = bench.post_with_key(&path, &key, body.clone()).await?.expect(200)?;
            ensure!(again.text == first.text && again.header("idempotency-replayed") == Some("true"));
        }
        let records = bench.database().collection::<mongodb::bson::RawDocumentBuf>("idempotencyKeys");
        let mut all = records.find(doc! {}).await?;
        let mut sizes = Vec::new();
        while all.advance().await? {
            sizes.push(all.current().as_bytes().len());
        }
        ensure!(sizes.len() == 31 && sizes.iter().all(|size| *size < MOST), "{sizes:?} bytes");
        bench.assert_counters_reconcile().await
    })
}

/// The path of one retainer has many encodings: each accepted one takes effect once per key.
#[test]
fn percent_encoded_path_shares_idempotency_key() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let paths = [
            format!("/api/retainers/{id}/consume"),
            format!("/api/retainers/{}/consume", encoded(&id)),
            format!("/api/retainers/{}{}/consume", encoded(&id[..1]), &id[1..]),
            format!("/api/retainers/{}{}/consume", encoded(&id[..1]).to_uppercase(), &id[1..]),
            format!("/api/retainers/{}/consume", id.to_uppercase()),
            format!("/api/{}/{id}/consume", encoded("retainers")),
            format!("/api/retainers/{id}/{}", encoded("consume")),
            format!("/{}/retainers/{id}/consume", encoded("api")),
            format!("//api/retainers/{id}/consume"),
            format!("/api//retainers/{id}/consume"),
            format!("/api/retainers/{id}/consume/"),
            format!("/api/retainers/../retainers/{id}/consume"),
            format!("/api/retainers/{id}/consume?again=1"),
            format!("/api/retainers/{id}/consume?"),
        ];
        for path in &paths {
            let answer = raw_post(bench, path, "one", r#"{"amount":1}"#).await?;
            ensure!(["200", "400", "404"].contains(&&answer[9..12]), "{path}: {answer}");
        }
        ensure!(bench.retainer_balance(&id).await? == 999, "it took effect more than once");
        // The same for routes that create entities.
        let body = r#"{"clientId":"c","retainerType":"t","initialAmount":1}"#;
        for path in
            ["/api/retainers", "/api/%72etainers", "/%61pi/retainers", "/api/retainers?a", "/api/retainers/"]
        {
            raw_post(bench, path, "two", body).await?;
        }
        ensure!(bench.count("retainers", doc! { "clientId": "c" }).await? == 1);
        bench.assert_counters_reconcile().await
    })
}

/// Sends a request whose path is not normalized by a client library.
async fn raw_post(bench: &crate::environment::Bench, path: &str, key: &str, body: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let url = bench.url("");
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        TOKEN.1,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn error_responses_do_not_repeat_path_or_query() -> Result<()> {
    with_ledger(async |bench| {
        for path in [
            "/nope/s3cretpath?s3cretquery=s3cret",
            "/api/nope/s3cretpath?s3cretquery=s3cret",
            "/api/retainers/s3cret?s3cret=1",
            "/-/healthy?s3cret=1",
            "/metrics?s3cret=1",
            "/-/transactions?s3cret=1",
        ] {
            for (method, token) in
                [("GET", TOKEN.1), ("POST", TOKEN.1), ("DELETE", TOKEN.1), ("GET", "wrong")]
            {
                let request = bench.http.request(method.parse()?, bench.url(path)).bearer_auth(token);
                let answer = Answer::to(request).await?;
                let shown = format!("{:?} {}", answer.headers, answer.text);
                ensure!(
                    !shown.to_lowercase().contains("s3cretquery") && !shown.contains("s3cretpath"),
                    "{path}: {shown}"
                );
                ensure!(!shown.contains("s3cret="), "{path}: {shown}");
            }
        }
        Ok(())
    })
}

const STEERING: &str = "\u{1b}[2J\u{1b}[31m\nlevel=INFO forged=true\r\u{9b}31m\u{202e}\u{2028}s3nt";

/// Invalid input is repeated to the client and not logged, in either format.
#[test]
fn client_input_is_not_logged() -> Result<()> {
    block_on(async {
        let replica_set = shared().await?;
        for format in ["text", "json"] {
            let folder = tempfile::tempdir()?;
            let log = folder.path().join("log");
            let port = testkit::Port::reserve()?;
            let arguments = [
                format!("--log.format={format}"),
                "--log.level=trace".to_owned(),
                format!("--web.listen-address=127.0.0.1:{}", port.number()),
                "--mongodb.database=ledger_log".to_owned(),
                format!("--mongodb.uri={}", replica_set.uri()),
            ];
            let program = std::path::Path::new(env!("CARGO_BIN_EXE_ledger"));
            let mut process = testkit::Process::spawn_with(program, &arguments, log, |command| {
                command.env("LEDGER_TOKEN", TOKEN.1).env("NO_COLOR", "1");
            })
            .await?;
            process.wait_ready(port.number(), "/-/ready").await?;
            let url = |path: &str| format!("http://127.0.0.1:{}{path}", port.number());
            let http = reqwest::Client::new();
            let bodies = [
                json!({ "clientId": STEERING, "retainerType": "t", "initialAmount": 1 }),
                json!({ "clientId": "c", "retainerType": STEERING, "initialAmount": 1 }),
                json!({ "clientId": "c", "retainerType": "t", "initialAmount": STEERING }),
                json!({ "clientId": "c", "retainerType": "t", STEERING: 1 }),
                json!(STEERING),
                json!({ "clientId": { STEERING: STEERING } }),
            ];
            for body in &bodies {
                let post = http.post(url("/api/retainers")).bearer_auth(TOKEN.1).json(body);
                Answer::to(post).await?.expect(400)?;
            }
            let payment =
                json!({ "customerId": "c", "amount": 1, "paymentMethod": STEERING, "status": STEERING });
            Answer::to(http.post(url("/api/payments")).bearer_auth(TOKEN.1).json(&payment))
                .await?
                .expect(400)?;
            until("all of them are logged", async || {
                let logged = process.log().matches("operation rejected").count();
                ensure!(logged > bodies.len(), "{logged}");
                Ok(())
            })
            .await?;
            let log = process.log();
            ensure!(!log.contains("s3nt") && !log.contains("forged"), "{format}: {log}");
            ensure!(log.chars().all(|c| c == '\n' || !c.is_control()), "{format}: {log:?}");
            if format == "json" {
                ensure!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
            }
        }
        Ok(replica_set.client().await?.database("ledger_log").drop().await?)
    })
}
