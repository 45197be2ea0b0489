//! The sidecar compared with other clients of the same server: `ping`, the whole `serverStatus`, and Percona's
//! exporter if it is available. They alternate, so that all of them run under the same conditions.
//!
//! The server's cost is its CPU time, including ended threads; its traffic is its own counter, because a proxy would
//! only see the connections through it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use end_to_end::measure::{self, quantile};
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use testkit::{Port, Process, Signal};
use tokio::time::{Instant, sleep};

use crate::sidecar::Sidecar;
use crate::{Environment, Work};

/// The pause between two polls: long enough that mongod sleeps in between, as with any realistic interval.
const INTERVAL: Duration = Duration::from_millis(200);

const ROUNDS: u64 = 5;

/// The exporter's collectors: its defaults, about the same as the sidecar's, and all.
const EXPORTER: [(&str, &[&str]); 3] = [
    ("by default", &[]),
    (
        "with diagnosticdata, replicasetstatus, currentopmetrics",
        &["--collector.diagnosticdata", "--collector.replicasetstatus", "--collector.currentopmetrics"],
    ),
    ("with `--collect-all`", &["--collect-all"]),
];

/// One of the clients.
enum Contender {
    Command(Document),
    /// A process that polls by itself, and is paused (SIGSTOP) while the others are measured.
    Sidecar(Sidecar),
    Exporter {
        process: Process,
        url: String,
        _port: Port,
        _folder: TempDir,
    },
}

/// The server's cost of one poll, command or scrape, in one round.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// CPU milliseconds.
    mongod: f64,
    bytes: f64,
    connections: f64,
}

struct Row {
    name: String,
    contender: Contender,
    costs: Vec<Cost>,
    /// Response times in seconds, for commands that are sent from here.
    latencies: Vec<f64>,
}

pub(crate) async fn report(env: &Environment<'_>, exporter: Option<&Path>, work: Work) -> Result<()> {
    let uri = format!("mongodb://{}/?directConnection=true", env.address());
    let sidecar = Sidecar::start(&uri, 1, INTERVAL, &[]).await?;
    sidecar.process.signal(Signal::STOP)?;
    let mut rows = vec![
        Row::new(OURS, Contender::Sidecar(sidecar)),
        Row::new("`ping`, by a client that is connected", Contender::Command(doc! {"ping": 1})),
        Row::new(
            "`serverStatus` with nothing left out, by a client that is connected",
            Contender::Command(doc! {"serverStatus": 1}),
        ),
    ];
    if let Some(program) = exporter {
        for (name, arguments) in EXPORTER {
            let contender = exporter_at_work(env, program, arguments).await?;
            rows.push(Row::new(&format!("a scrape of mongodb_exporter {name}"), contender));
        }
    }
    let times = work.polls / ROUNDS;
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.round(env, times).await?;
        }
    }
    print(&mut rows, times)
}

async fn exporter_at_work(env: &Environment<'_>, program: &Path, arguments: &[&str]) -> Result<Contender> {
    let (folder, port) = (TempDir::new()?, Port::reserve()?);
    let fixed = [
        format!("--mongodb.uri=mongodb://{}/", env.address()),
        format!("--web.listen-address={}", port.address()),
    ];
    let arguments: Vec<_> = fixed.into_iter().chain(arguments.iter().map(|one| (*one).to_owned())).collect();
    let mut process = Process::spawn(program, &arguments, folder.path().join("log")).await?;
    process.wait_ready(port.number(), "/metrics").await?;
    let url = format!("http://{}/metrics", port.address());
    Ok(Contender::Exporter { process, url, _port: port, _folder: folder })
}

impl Row {
    fn new(name: &str, contender: Contender) -> Self {
        Self { name: name.to_owned(), contender, costs: Vec::new(), latencies: Vec::new() }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts, far below 2^53")]
    async fn round(&mut self, env: &Environment<'_>, times: u64) -> Result<()> {
        // mongod's own background work, per second, is subtracted.
        let (begin, before) = (Instant::now(), measure::on_processor(env.pid())?);
        sleep(INTERVAL * 10).await;
        let idle = (measure::on_processor(env.pid())? - before) / begin.elapsed().as_secs_f64();
        if let Contender::Sidecar(sidecar) = &self.contender {
            sidecar.process.signal(Signal::CONT)?;
            sleep(INTERVAL * 5).await;
        }
        let sent = sent(env).await?;
        let (begin, before) = (Instant::now(), measure::on_processor(env.pid())?);
        for _ in 0..times {
            self.once(env).await?;
            sleep(INTERVAL).await;
        }
        let (took, spent) = (begin.elapsed().as_secs_f64(), measure::on_processor(env.pid())? - before);
        let sent = sent.until(env).await?;
        // The exporter determines its poll interval itself.
        let times = match &self.contender {
            Contender::Sidecar(_) => took / INTERVAL.as_secs_f64(),
            _ => times as f64,
        };
        if let Contender::Sidecar(sidecar) = &self.contender {
            sidecar.process.signal(Signal::STOP)?;
        }
        self.costs.push(Cost {
            mongod: (spent - idle * took) / times,
            bytes: sent.bytes as f64 / times,
            connections: sent.connections as f64 / times,
        });
        Ok(())
    }

    async fn once(&mut self, env: &Environment<'_>) -> Result<()> {
        let begin = Instant::now();
        match &self.contender {
            Contender::Sidecar(_) => return Ok(()),
            Contender::Command(command) => {
                env.client.database("admin").run_command(command.clone()).await?;
            }
            Contender::Exporter { url, .. } => {
                reqwest::get(url).await?.error_for_status()?.bytes().await?;
            }
        }
        self.latencies.push(begin.elapsed().as_secs_f64());
        Ok(())
    }

    fn resident(&self) -> Result<Option<f64>> {
        Ok(match &self.contender {
            Contender::Command(_) => None,
            Contender::Sidecar(sidecar) => Some(measure::resident(sidecar.process.pid())?),
            Contender::Exporter { process, .. } => Some(measure::resident(process.pid())?),
        })
    }
}

/// The bytes that the server has sent in total, and the connections that it has accepted.
#[derive(Debug, Clone, Copy)]
struct Sent {
    bytes: i64,
    connections: i64,
    /// The size of the reply to this command.
    own: i64,
}

async fn sent(env: &Environment<'_>) -> Result<Sent> {
    let first = Sent::ask(env).await?;
    let second = Sent::ask(env).await?;
    Ok(Sent { own: second.bytes - first.bytes, ..second })
}

impl Sent {
    async fn ask(env: &Environment<'_>) -> Result<Self> {
        let status = env.client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
        let number = |section: &str, field: &str| {
            let value = status.get_document(section).ok().and_then(|section| section.get(field));
            let number = value.and_then(|value| value.as_i64().or(value.as_i32().map(i64::from)));
            number.with_context(|| format!("serverStatus has no {section}.{field}"))
        };
        let (bytes, connections) = (number("network", "bytesOut")?, number("connections", "totalCreated")?);
        Ok(Self { bytes, connections, own: 0 })
    }

    /// The difference since the last call, without our own commands.
    async fn until(self, env: &Environment<'_>) -> Result<Self> {
        let now = Self::ask(env).await?;
        let (bytes, connections) = (now.bytes - self.bytes - self.own, now.connections - self.connections);
        Ok(Self { bytes, connections, own: 0 })
    }
}

const OURS: &str = "**a poll of txnscope**, all default sources";

#[allow(clippy::print_stdout, reason = "a report is what it makes")]
fn print(rows: &mut [Row], times: u64) -> Result<()> {
    println!("### Beside it\n");
    println!(
        "On the same server, with no transaction open, {ROUNDS} rounds of {times} of each, in turns, {} ms apart; the \
         median of the rounds, and the least and the most. mongod's time is that of its whole process, without what it \
         does by itself; what it sends and how many connections it takes is its own count.\n",
        INTERVAL.as_millis()
    );
    println!(
        "| | mongod, each | against ours | bytes from mongod, each | connections, each | p50 | p99 | resident |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let ours: Vec<f64> = rows[0].costs.iter().map(|cost| cost.mongod).collect();
    for row in rows {
        let of = |field: fn(&Cost) -> f64| sorted(row.costs.iter().map(field));
        let (mongod, bytes, connections) =
            (of(|cost| cost.mongod), of(|cost| cost.bytes), of(|cost| cost.connections));
        let ratios = sorted(row.costs.iter().zip(&ours).map(|(cost, ours)| cost.mongod / ours));
        row.latencies.sort_by(f64::total_cmp);
        let latency = |part| match row.latencies.as_slice() {
            [] => String::new(),
            seconds => format!("{:.1} ms", quantile(seconds, part) * 1e3),
        };
        println!(
            "| {} | {:.2} ms ({:.2} to {:.2}) | {:.2} × | {:.0} | {:.1} | {} | {} | {} |",
            row.name,
            quantile(&mongod, 0.5),
            quantile(&mongod, 0.0),
            quantile(&mongod, 1.0),
            quantile(&ratios, 0.5),
            quantile(&bytes, 0.5),
            quantile(&connections, 0.5).max(0.0),
            latency(0.5),
            latency(0.99),
            row.resident()?.map(|megabytes| format!("{megabytes:.1} MB")).unwrap_or_default()
        );
    }
    println!();
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
