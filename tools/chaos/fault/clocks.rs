//! Wall clocks of our own programs that jump by hours, forward and back. Ages, intervals and deadlines use a
//! monotonic clock, which is not affected.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongodb::bson::{DateTime, Document, doc};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use testkit::{ProxyMode, Scrape, Signal, wait};
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{FaultRun, callers, members, wait_for_operations};
use crate::clock;
use crate::environment::{Environment, POLL_INTERVAL};
use crate::expectations;

const HOUR: i64 = 3_600;
/// A jump is far longer than any real duration.
const SLOW: f64 = 1_800.0;
/// The number of intervals that the sidecar runs before the next change.
const INTERVALS: u32 = 4;
/// The number of its collectors that read `serverStatus`.
const SOURCES: f64 = 3.0;

/// The offsets, one after the other. The last one is the right time.
fn turns(rng: &mut StdRng) -> [i64; 3] {
    let mut turns = [rng.random_range(1..12) * HOUR, -rng.random_range(1..12) * HOUR];
    turns.shuffle(rng);
    [turns[0], turns[1], 0]
}

fn remark([one, other, _]: [i64; 3]) -> String {
    format!("; {:+} h, then {:+} h", one / HOUR, other / HOUR)
}

/// Changes the sidecar's clock.
pub(super) async fn sidecar(env: &Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let turns = turns(rng);
    let other = (env.primary().await? + rng.random_range(1..env.each.len())) % env.each.len();
    let all_shown = || {
        wait::until("the sidecar to show all members", async || {
            verify_all_exported(env, &env.sidecar_page().await?)
        })
    };
    all_shown().await?;
    // Slow enough that a transaction is always open.
    let slowed = callers::slowed(env, Duration::from_millis(20)).await?;
    let first = env.sidecar_page().await?;
    let broken = Instant::now();
    for turn in &turns[..2] {
        env.sidecar.turn(*turn)?;
        goes_on(env, &first, *turn).await?;
    }
    // Timeouts must not depend on the wall clock.
    env.set.proxies()[other].set_for("txnscope", ProxyMode::HoldAll);
    members::down(env, other).await?;
    env.set.proxies()[other].set(ProxyMode::Forward);
    all_shown().await?;
    env.sidecar.turn(0)?;
    goes_on(env, &first, 0).await?;
    slowed.off().await?;
    Ok(FaultRun { remark: remark(turns), ..FaultRun::since(broken) })
}

/// Waits until the sidecar uses the changed clock and has run for some intervals. No page in the meantime may be
/// affected otherwise.
async fn goes_on(env: &Environment, first: &Scrape, wrong: i64) -> Result<()> {
    let (turned, before) = (Instant::now(), asked(env).await?);
    let mut open = false;
    wait::until("the sidecar to go on with polls and checks", async || {
        let began = Instant::now();
        let page = env.sidecar_page().await?;
        if let Err(untrue) = untouched(env, &page, first) {
            return Ok(Err(untrue));
        }
        open |= page.sum(catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN.name, &[]) > 0.0;
        for check in env.checks.iter() {
            let of = [("check", check.name.as_str())];
            verify_time(&page, catalog::MONGODB_CONSISTENCY_LAST_SUCCESS.name, &of, wrong)?;
        }
        ensure!(open, "no page has shown an open transaction");
        expectations::verify_polled_since(
            &page,
            &env.set.addresses(),
            began,
            turned + INTERVALS * POLL_INTERVAL,
        )?;
        verify_all_exported(env, &page)?;
        Ok(Ok(()))
    })
    .await??;
    let due = turned.elapsed().as_secs_f64() / POLL_INTERVAL.as_secs_f64() + 2.0;
    for (before, now) in before.iter().zip(asked(env).await?) {
        let polls = now - before;
        ensure!(polls <= SOURCES * due, "the sidecar has asked a member {polls} times in {due:.1} intervals");
    }
    // Not earlier: a reload might restart what the change has stopped.
    env.sidecar.signal(Signal::HUP)?;
    wait::until("the sidecar to note a reload", async || {
        let page = env.sidecar_page().await?;
        if let Err(untrue) = untouched(env, &page, first) {
            return Ok(Err(untrue));
        }
        verify_time(&page, catalog::TXNSCOPE_CONFIG_RELOAD_TIMESTAMP.name, &[], wrong)?;
        Ok(Ok(()))
    })
    .await?
}

/// Whether a time is a moment ago, by a clock with that offset.
fn verify_time(page: &Scrape, metric: &str, labels: &[(&str, &str)], wrong: i64) -> Result<()> {
    let at = page.value(metric, labels).with_context(|| format!("no {metric}{labels:?}"))?;
    let now = clock::now(wrong)?;
    ensure!((now - at).abs() < wait::LIMIT.as_secs_f64(), "{metric}{labels:?} is {at}, and it is {now}");
    Ok(())
}

/// Whether a page is unaffected by the clock, except for timestamps.
fn untouched(env: &Environment, page: &Scrape, first: &Scrape) -> Result<()> {
    expectations::nothing_stale(page, &env.set.addresses())?;
    expectations::nothing_missing(page, &env.set.addresses())?;
    no_jump(page, first)
}

/// Whether all durations and ages are valid, and none has grown by anything like an hour.
fn no_jump(page: &Scrape, first: &Scrape) -> Result<()> {
    for series in page.families().iter().flat_map(|family| &family.series) {
        let name = series.name.as_str();
        let time = ["_seconds", "_seconds_total", "_seconds_sum"].iter().any(|unit| name.ends_with(unit));
        if !time || name.contains("timestamp") {
            continue;
        }
        let before = first.matching(name, &[]).map(|series| series.value).fold(0.0, f64::max);
        let value = series.value;
        ensure!((0.0..before + SLOW).contains(&value), "{name}{:?} is {value}", series.labels);
    }
    Ok(())
}

/// Whether the sidecar exports every member, and a result of every check.
fn verify_all_exported(env: &Environment, page: &Scrape) -> Result<()> {
    let up = page.matching(catalog::MONGODB_UP.name, &[]).filter(|up| up.value == 1.0).count();
    ensure!(up == env.each.len(), "{up} members are up");
    let results = page.matching(catalog::MONGODB_CONSISTENCY_VIOLATIONS.name, &[]).count();
    ensure!(results == env.checks.iter().count(), "{results} checks have a result");
    Ok(())
}

/// The number of `serverStatus` commands that each member has received.
async fn asked(env: &Environment) -> Result<Vec<f64>> {
    let mut asked = Vec::new();
    for index in 0..env.each.len() {
        let status = env.member(index, doc! {"serverStatus": 1, "wiredTiger": 0, "tcmalloc": 0}).await?;
        let commands = status.get_document("metrics")?.get_document("commands")?;
        asked.push(crate::environment::number(commands.get_document("serverStatus")?, "total"));
    }
    Ok(asked)
}

/// Changes the ledger's clock.
pub(super) async fn backend(env: &Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let turns = turns(rng);
    let first = env.ledger_page().await?;
    let broken = Instant::now();
    for turn in turns {
        env.backend.turn(turn)?;
        wait::until("a movement of money at that time of the day", async || {
            let (now, at) = (clock::now(turn)?, newest(env).await?);
            ensure!((now - at).abs() < wait::LIMIT.as_secs_f64(), "the newest is at {at}, and it is {now}");
            Ok(())
        })
        .await?;
        wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 20.0).await?;
        no_jump(&env.ledger_page().await?, &first)?;
    }
    Ok(FaultRun { remark: remark(turns), ..FaultRun::since(broken) })
}

/// The time of the latest movement, by the ledger's clock, in seconds since 1970.
async fn newest(env: &Environment) -> Result<f64> {
    let lines = env.whole.database("ledger").collection::<Document>("generalLedger");
    let line = lines.find_one(doc! {}).sort(doc! {"$natural": -1}).await?.context("no movement yet")?;
    let at: &DateTime = line.get_datetime("at")?;
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    Ok(at.timestamp_millis() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_jump_is_detected_in_durations_only() {
        let page = |age: &str, total: &str, at: &str| {
            let family = |name: &str, kind: &str, value: &str| {
                format!("# HELP {name} -\n# TYPE {name} {kind}\n{name} {value}\n")
            };
            let families = [
                family("age_seconds", "gauge", age),
                family("wasted_seconds_total", "counter", total),
                family("at_timestamp_seconds", "gauge", at),
            ];
            Scrape::parse(&families.concat()).unwrap()
        };
        let first = page("0.4", "90000", "1700000000");
        for (now, jumped) in [
            (page("0.1", "90001", "1700000001"), false),
            (page("0.1", "90001", "1700007201"), false),
            (page("3600.4", "90001", "1700000001"), true),
            (page("-3599.6", "90001", "1700000001"), true),
            (page("0.1", "93600", "1700000001"), true),
        ] {
            assert_eq!(no_jump(&now, &first).is_err(), jumped, "{now:?}");
        }
    }
}
