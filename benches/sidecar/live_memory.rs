//! The memory of `txnscope top`, of a sidecar, and of ten live pages in Chromium over a long time, while transactions begin
//! and end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::measure::resident;
use mongodb::bson::doc;
use serde::Deserialize;
use testkit::browser_script;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::Environment;
use crate::sidecar::Sidecar;
use crate::top::Top;

/// Transactions that stay open: so few that `top` and the pages are polled for each second.
const OPEN: usize = 50;
const PAGES: usize = 10;
/// The number of parts of the time, after each of which the memory is read.
const PARTS: u32 = 12;
/// How often another transaction begins. Each is open for two seconds, so that every poll finds some.
const EVERY: Duration = Duration::from_millis(250);
const OPEN_FOR: Duration = Duration::from_secs(2);
/// For the browser's collection of garbage in ten pages.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// Live pages in one browser, each in a session of its own.
struct Pages {
    _browser: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What all pages hold after a collection of garbage.
#[derive(Debug, Deserialize)]
struct InPages {
    heap_bytes: f64,
    nodes: u64,
    /// The fewest reports that a page has got.
    reports: u64,
    complaints: Vec<String>,
}

impl Pages {
    fn open(url: &str) -> Result<Self> {
        let mut script = browser_script("live-memory.js")?;
        script.arg(format!("--url={url}")).arg(format!("--pages={PAGES}"));
        let mut browser = Command::from(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the browser")?;
        let requests = browser.stdin.take().context("the input is piped")?;
        let answers = browser.stdout.take().context("the output is piped")?;
        Ok(Self { _browser: browser, requests, answers: BufReader::new(answers).lines() })
    }

    async fn read(&mut self) -> Result<InPages> {
        self.requests.write_all(b"\n").await.context("the browser has ended")?;
        let line =
            timeout(ANSWERED_WITHIN, self.answers.next_line()).await.context("the browser hangs")??;
        let found: InPages = serde_json::from_str(&line.context("the browser has ended")?)?;
        ensure!(found.complaints.is_empty(), "the pages complain: {}", found.complaints.join("; "));
        Ok(found)
    }
}

pub(crate) async fn report(env: &Environment<'_>, time: Duration) -> Result<()> {
    let mut open = Vec::new();
    env.open(&mut open, OPEN).await?;
    let sidecar = Sidecar::start(&env.set.uri(), 1, Duration::from_secs(5), &[]).await?;
    let mut pages = Pages::open(&format!("http://{}/live", sidecar.address))?;
    let top = Top::start(env).await?;
    // Once all pages are there.
    pages.read().await?;

    println!(
        "One `txnscope top`, and a sidecar with {PAGES} live pages in Chromium, with {OPEN} open transactions and {} more at any time that \
         begin and are committed. The heap of the pages is read after a collection of garbage.\n",
        OPEN_FOR.as_millis() / EVERY.as_millis()
    );
    println!(
        "| after | committed | `top`, resident | sidecar, resident | JavaScript heap of all pages | nodes of all documents | reports on each \
         page |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let (began, mut committed) = (Instant::now(), 0);
    for part in 1..=PARTS {
        committed += transact(env, began + time * part / PARTS).await?;
        let pages = pages.read().await?;
        let (top, sidecar) = (resident(top.process.pid())?, resident(sidecar.process.pid())?);
        println!(
            "| {:.0} min | {committed} | {top:.1} MB | {sidecar:.1} MB | {:.1} MB | {} | {} |",
            began.elapsed().as_secs_f64() / 60.0,
            pages.heap_bytes / 1e6,
            pages.nodes,
            pages.reports
        );
    }
    for mut session in open {
        session.abort_transaction().await?;
    }
    Ok(())
}

/// Begins transactions and commits them until that moment, and returns their number.
async fn transact(env: &Environment<'_>, end: Instant) -> Result<usize> {
    let items = env.client.database("bench").collection("items");
    let (mut next, mut begun) = (interval(EVERY), JoinSet::new());
    while Instant::now() < end {
        next.tick().await;
        let (client, items) = (env.client.clone(), items.clone());
        begun.spawn(async move {
            let mut session = client.start_session().await?;
            session.start_transaction().await?;
            items.insert_one(doc! {"n": 0}).session(&mut session).await?;
            sleep(OPEN_FOR).await;
            session.commit_transaction().await
        });
    }
    let committed = begun.len();
    for ended in begun.join_all().await {
        ended?;
    }
    Ok(committed)
}
