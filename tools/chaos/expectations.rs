//! Verifies that the metrics of the sidecar and Prometheus match the servers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use testkit::{Scrape, wait};
use tokio::time::Instant;
use txnscope_catalog as catalog;

use crate::counters::{Counters, Server};
use crate::environment::{Environment, POLL_INTERVAL, number};

/// Waits until the sidecar has polled each member since this call, and compares the first such poll with the members:
/// no value may be missing or stale. Returns how long the polls took.
pub(crate) async fn sidecar(
    env: &Environment,
    counters: &Counters,
    complaints: &mut Vec<String>,
) -> Result<Duration> {
    let since = Instant::now();
    let (page, states) =
        wait::until("the sidecar to have looked at each member between elections", async || {
            let before = member_states(env).await?;
            let page = page_polled_from_now(env).await?;
            ensure!(
                member_states(env).await? == before,
                "the state of a member changed meanwhile: {before:?}"
            );
            Ok((page, before))
        })
        .await?;
    for (index, member) in env.set.addresses().iter().enumerate() {
        complaints.extend(untrue(&page, member, counters.servers[index], states[index].0));
    }
    Ok(since.elapsed())
}

/// A page whose values were all polled after this call.
async fn page_polled_from_now(env: &Environment) -> Result<Scrape> {
    let since = Instant::now();
    wait::until("the sidecar to have looked at each member", async || {
        let began = Instant::now();
        let page = env.sidecar_page().await?;
        verify_polled_since(&page, &env.set.addresses(), began, since)?;
        Ok(page)
    })
    .await
}

/// The state of each member and its term. A member that changes its state and comes back to it is in another term.
async fn member_states(env: &Environment) -> Result<Vec<(&'static str, i64)>> {
    let mut states = Vec::new();
    for index in 0..env.each.len() {
        let status = env.member(index, mongodb::bson::doc! {"replSetGetStatus": 1}).await?;
        let state = number(&status, "myState");
        let mut named = catalog::MEMBER_STATE_NUMBERS.iter().zip(catalog::MEMBER_STATES);
        let (_, name) =
            named.find(|(number, _)| f64::from(**number) == state).context("an unknown state of a member")?;
        states.push((*name, status.get_i64("term")?));
    }
    Ok(states)
}

/// The differences between the page and the member.
pub(crate) fn untrue(page: &Scrape, member: &str, server: Server, state: &str) -> Vec<String> {
    let of = [("member", member)];
    let state_of = [of[0], ("state", state)];
    [
        (catalog::MONGODB_UP, &of[..], 1, 1.0),
        (catalog::MONGODB_TRANSACTIONS_STARTED, &of, 1, server.started),
        (catalog::MONGODB_TRANSACTIONS_COMMITTED, &of, 1, server.committed),
        (catalog::MONGODB_TRANSACTIONS_ABORTED, &of, 1, server.aborted),
        // Active and inactive ones.
        (catalog::MONGODB_TRANSACTIONS_OPEN, &of, 2, server.open),
        (catalog::MONGODB_REPLICATION_MEMBER_STATE, &state_of, 1, 1.0),
    ]
    .into_iter()
    .filter_map(|(metric, labels, series, is)| {
        let found: Vec<_> = page.matching(metric.name, labels).map(|series| series.value).collect();
        let right = found.len() == series && found.iter().sum::<f64>() == is;
        (!right).then(|| format!("the sidecar shows {}{labels:?} as {found:?}, it is {is}", metric.name))
    })
    .collect()
}

/// Whether the page, requested at `began`, contains polls of each member that started after `since`.
pub(crate) fn verify_polled_since(
    page: &Scrape,
    members: &[String],
    began: Instant,
    since: Instant,
) -> Result<()> {
    for member in members {
        for source in ["server_status", "replication"] {
            let labels = [("member", member.as_str()), ("collector", source)];
            let age = page.value(catalog::TXNSCOPE_POLL_AGE.name, &labels);
            let age = age.with_context(|| format!("no age of {source} of {member}"))?;
            let took = page.value(catalog::TXNSCOPE_POLL_DURATION.name, &labels).unwrap_or(0.0);
            let begun = age + took;
            ensure!(begun < (began - since).as_secs_f64(), "{source} of {member} is {age} s old");
            let success = page.value(catalog::TXNSCOPE_POLL_SUCCESS.name, &labels);
            ensure!(success == Some(1.0), "{source} of {member}: success {success:?}");
        }
    }
    Ok(())
}

/// Runs the ledger's checks, and waits until the sidecar has run them as well; neither may find a violation.
pub(crate) async fn checks(env: &Environment, complaints: &mut Vec<String>) -> Result<()> {
    use txnscope_checks::{CheckResult, SampleOptions, run};
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    for check in env.checks.iter() {
        match run(&env.whole, check, SampleOptions { limit: 3, full_documents: false }).await.result {
            CheckResult::Clean { .. } => {}
            CheckResult::Violated { count, sample, .. } => {
                complaints.push(format!("{}: {count} violations, such as {sample:?}", check.name));
            }
            CheckResult::Failed(failure) => complaints.push(format!("{} did not run: {failure}", check.name)),
        }
    }
    let page = wait::until("the sidecar to have run its checks", async || {
        let page = env.sidecar_page().await?;
        for check in env.checks.iter() {
            let of = [("check", check.name.as_str())];
            let at = page.value(catalog::MONGODB_CONSISTENCY_LAST_SUCCESS.name, &of).unwrap_or(0.0);
            ensure!(at > since, "{} was run at {at}, before {since}", check.name);
        }
        Ok(page)
    })
    .await?;
    let violations = page.sum(catalog::MONGODB_CONSISTENCY_VIOLATIONS.name, &[]);
    if violations != 0.0 {
        complaints.push(format!("the sidecar shows {violations} violations"));
    }
    Ok(())
}

/// Whether the page contains no value of a member that is older than three intervals.
pub(crate) fn nothing_stale(page: &Scrape, members: &[String]) -> Result<()> {
    for member in members {
        let of = [("member", member.as_str())];
        let status = [of[0], ("collector", "server_status")];
        let age = page.value(catalog::TXNSCOPE_POLL_AGE.name, &status);
        let shown = page.matching(catalog::MONGODB_TRANSACTIONS_STARTED.name, &of).count() > 0;
        let old = age.is_none_or(|age| age > 3.0 * POLL_INTERVAL.as_secs_f64());
        ensure!(!(shown && old), "the sidecar shows numbers of {member} that are {age:?} s old");
        let up = page.value(catalog::MONGODB_UP.name, &of);
        ensure!(!(up == Some(1.0) && old), "the sidecar shows {member} up, last seen {age:?} s ago");
    }
    Ok(())
}

/// Whether the page contains all values of each member whose last poll succeeded and is at most three intervals old.
pub(crate) fn nothing_missing(page: &Scrape, members: &[String]) -> Result<()> {
    for member in members {
        let of = [("member", member.as_str())];
        let status = [of[0], ("collector", "server_status")];
        let age = page.value(catalog::TXNSCOPE_POLL_AGE.name, &status);
        let success = page.value(catalog::TXNSCOPE_POLL_SUCCESS.name, &status);
        if success == Some(1.0) && age.is_some_and(|age| age < 3.0 * POLL_INTERVAL.as_secs_f64()) {
            let up = page.value(catalog::MONGODB_UP.name, &of);
            ensure!(up == Some(1.0), "the sidecar shows {member} as {up:?}, seen {age:?} s ago");
            let shown = page.matching(catalog::MONGODB_TRANSACTIONS_STARTED.name, &of).count();
            ensure!(shown > 0, "the sidecar shows no numbers of {member}, seen {age:?} s ago");
        }
    }
    Ok(())
}

/// Waits until Prometheus has the same counters.
pub(crate) async fn prometheus(env: &Environment, counters: &Counters) -> Result<()> {
    let attempts = counters.sum(&catalog::TRANSACTION_ATTEMPTS, &[]);
    let query = format!("sum({})", catalog::TRANSACTION_ATTEMPTS.name);
    wait::until("Prometheus to have it all", async || {
        let has = env.prometheus.value(&query).await?;
        ensure!(has == attempts, "it has {has} attempts of {attempts}");
        let up = env.prometheus.value("sum(mongodb_up)").await?;
        ensure!(up == 3.0, "mongodb_up is {up} in all");
        Ok(())
    })
    .await
}
