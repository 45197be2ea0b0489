//! The sidecar with a given number of open transactions.

use std::time::Duration;

use anyhow::Result;
use end_to_end::measure;
use tokio::time::{Instant, sleep};

use crate::sidecar::Sidecar;
use crate::wire::{Traffic, Wire};
use crate::{Environment, Work, scrapes};

/// The shortest possible interval: an hour of polls takes half a minute.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// The measurements.
pub(crate) struct Level {
    open: usize,
    /// CPU milliseconds per poll of all collectors, of mongod and of the sidecar.
    poll: Spent,
    /// The same without `$currentOp`.
    without: Spent,
    /// CPU milliseconds of mongod for one `$currentOp`; `None` if it was not run.
    current_op: Option<f64>,
    /// The traffic during the polls.
    traffic: Traffic,
    /// The connections that were opened after the first poll.
    connections: u64,
    /// Resident memory in MB after an hour of polls, and after the scrapes.
    resident: (f64, f64),
    scrapes: scrapes::Scrapes,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    mongod: f64,
    sidecar: f64,
}

/// A sidecar that is connected to mongod through the counting proxy.
struct Wired {
    sidecar: Sidecar,
    wire: Wire,
}

impl Wired {
    async fn start(env: &Environment<'_>, interval: Duration, more: &[&str]) -> Result<Self> {
        let wire = Wire::to(env.address()).await?;
        let uri = format!("mongodb://{}/?directConnection=true", wire.address);
        Ok(Self { sidecar: Sidecar::start(&uri, 1, interval, more).await?, wire })
    }

    /// Waits for a number of status polls, and returns their average cost and the traffic.
    async fn polls(&self, env: &Environment<'_>, polls: u64) -> Result<(Spent, Traffic)> {
        // The setup of the first polls is not measured.
        sleep(INTERVAL * 20).await;
        self.wire.take();
        let before = self.spent(env)?;
        let mut traffic = Traffic::default();
        while asked(&traffic, STATUS) < polls {
            sleep(INTERVAL).await;
            add(&mut traffic, self.wire.take());
        }
        let after = self.spent(env)?;
        #[allow(clippy::cast_precision_loss, reason = "some hundred polls")]
        let polls = asked(&traffic, STATUS) as f64;
        let each = |before, after| (after - before) / polls;
        let (mongod, sidecar) = (each(before.mongod, after.mongod), each(before.sidecar, after.sidecar));
        Ok((Spent { mongod, sidecar }, traffic))
    }

    fn spent(&self, env: &Environment<'_>) -> Result<Spent> {
        let (mongod, sidecar) =
            (measure::on_processor(env.pid())?, measure::on_processor(self.sidecar.process.pid())?);
        Ok(Spent { mongod, sidecar })
    }
}

const STATUS: &str = "`serverStatus`, transactions and waits";
const CURRENT_OP: &str = "`aggregate`";

fn asked(traffic: &Traffic, name: &str) -> u64 {
    traffic.replies.get(name).map_or(0, |(replies, _)| *replies)
}

fn add(traffic: &mut Traffic, more: Traffic) {
    traffic.connections += more.connections;
    for (name, (replies, bytes)) in more.replies {
        let known = traffic.replies.entry(name).or_default();
        known.0 += replies;
        known.1 += bytes;
    }
}

impl Level {
    pub(crate) async fn measure(env: &Environment<'_>, open: usize, work: Work) -> Result<Self> {
        // mongod's own background work, per millisecond, is subtracted.
        let idle = {
            let (begin, before) = (Instant::now(), measure::on_processor(env.pid())?);
            sleep(INTERVAL * u32::try_from(work.polls)?).await;
            (measure::on_processor(env.pid())? - before) / (begin.elapsed().as_secs_f64() * 1e3)
        };
        let own = |spent: Spent, took: Duration, polls: f64| Spent {
            mongod: spent.mongod - idle * took.as_secs_f64() * 1e3 / polls,
            ..spent
        };
        let off = ["--collector.current-op.enabled=false"];
        let sidecar = Wired::start(env, INTERVAL, &off).await?;
        let begin = Instant::now();
        let (without, traffic) = sidecar.polls(env, work.polls).await?;
        let without = own(without, begin.elapsed() - INTERVAL * 20, polls_of(&traffic));
        drop(sidecar);

        let sidecar = Wired::start(env, INTERVAL, &[]).await?;
        let begin = Instant::now();
        let (poll, traffic) = sidecar.polls(env, work.hour).await?;
        let polls = polls_of(&traffic);
        let poll = own(poll, begin.elapsed() - INTERVAL * 20, polls);
        let after_polls = measure::resident(sidecar.sidecar.process.pid())?;
        let connections = traffic.connections;
        #[allow(clippy::cast_precision_loss, reason = "some hundred polls")]
        let asked = asked(&traffic, CURRENT_OP) as f64;
        let current_op = (asked > 0.0).then(|| (poll.mongod - without.mongod) * polls / asked);
        drop(sidecar);

        // At the default interval, so that few polls interfere.
        let Wired { sidecar, wire: _wire } = Wired::start(env, Duration::from_secs(5), &[]).await?;
        let pid = sidecar.process.pid();
        let scrapes = scrapes::scrape(&sidecar.address, pid, work.scrapes).await?;
        let resident = (after_polls, measure::resident(pid)?);
        Ok(Self { open, poll, without, current_op, traffic, connections, resident, scrapes })
    }

    /// The cost of one poll of all collectors on mongod if `$currentOp` is due at each, as it is every five seconds.
    fn at_default_pace(&self) -> f64 {
        self.without.mongod + self.current_op.unwrap_or(0.0)
    }
}

#[allow(clippy::cast_precision_loss, reason = "some hundred polls")]
fn polls_of(traffic: &Traffic) -> f64 {
    asked(traffic, STATUS) as f64
}

#[allow(clippy::cast_precision_loss, reason = "numbers that are printed")]
pub(crate) fn report(levels: &[Level], work: Work) {
    println!("### Polls\n");
    println!(
        "All default sources of one member, polled every {} ms {} times (and {} times without `$currentOp`); the \
         mean. What mongod does by itself meanwhile is taken off.\n",
        INTERVAL.as_millis(),
        work.hour,
        work.polls
    );
    println!(
        "| open transactions | mongod, one poll without `$currentOp` | mongod, one `$currentOp` | mongod, one poll at \
         the default pace | sidecar, one poll | bytes from mongod, one poll | connections after the first poll | \
         resident after {} polls |",
        work.hour
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for level in levels {
        let bytes: u64 = level.traffic.replies.values().map(|(_, bytes)| bytes).sum();
        println!(
            "| {} | {:.2} ms | {} | {:.2} ms | {:.2} ms | {:.0} | {} | {:.1} MB |",
            level.open,
            level.without.mongod,
            level.current_op.map_or("not asked".to_owned(), |spent| format!("{spent:.1} ms")),
            level.at_default_pace(),
            level.poll.sidecar,
            bytes as f64 / polls_of(&level.traffic),
            level.connections,
            level.resident.0
        );
    }
    let Some(last) = levels.last() else { return };
    println!("\nWhat mongod sends, with {} open:\n", last.open);
    println!("| reply | bytes | in {} polls |\n| --- | ---: | ---: |", polls_of(&last.traffic));
    for (name, (replies, bytes)) in &last.traffic.replies {
        println!("| {name} | {:.0} | {replies} |", *bytes as f64 / *replies as f64);
    }
    println!("\n### Scrapes\n");
    println!("{} scrapes, one after the other on one connection, of a page in plain text.\n", work.scrapes);
    println!("| open transactions | page | p50 | p99 | sidecar on the processor | resident afterwards |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for level in levels {
        let scrapes = &level.scrapes;
        println!(
            "| {} | {:.0} kB | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} MB |",
            level.open,
            scrapes.bytes as f64 / 1e3,
            scrapes.p50 * 1e3,
            scrapes.p99 * 1e3,
            scrapes.on_processor,
            level.resident.1
        );
    }
    println!();
}
