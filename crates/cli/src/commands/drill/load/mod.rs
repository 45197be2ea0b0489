//! `txnscope drill load`: requests at a fixed rate, with the latency of each measured from its scheduled time.

mod arrivals;
mod fixtures;
mod progress;
mod report;
mod schedule;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::exit_status::ExitStatus;
use crate::commands::drill::args::LoadArgs;
use crate::commands::drill::backend::{Backend, Reply};
use crate::commands::drill::load::arrivals::{ArrivalPlan, Event};
use crate::commands::drill::load::fixtures::{FixturePlan, Fixtures};
use crate::commands::drill::load::progress::Progress;
use crate::commands::drill::load::stats::{LoadStats, Outcome};
use crate::commands::drill::scenario::file::ScenarioFile;
use crate::output::print;
use crate::runtime::signals::ShutdownSignals;

/// The measurements of a load test.
#[derive(Debug)]
struct LoadResult {
    stats: LoadStats,
    /// Time from the first arrival to the last response.
    took: Duration,
    arrived: u64,
    interrupted: bool,
    mark: String,
}

/// Runs the load test, prints the report, and returns the exit status.
///
/// # Errors
///
/// If the backend cannot be reached, rejects the token, or cannot create the fixtures.
pub(crate) async fn load(args: &LoadArgs) -> Result<ExitStatus> {
    let mut signals = ShutdownSignals::listen()?;
    let backend = Backend::new(&args.backend)?;
    let plan = plan(args)?;
    let ScenarioFile { backend: settings, load, .. } = ScenarioFile::load(args.scenarios.file.as_deref())?;
    let load = load.context("the scenario file has no [load]: add it, as docs/drill.md describes")?;
    let load = Arc::new(load);
    let fixture_plan = FixturePlan::new(&load, plan.arrivals, args.entities)?;
    let result = args.result_file.as_deref().map(report::create).transpose()?;
    backend.check_access(settings.probe.get_ref(), &settings.probe_status).await?;
    let mark = format!("txnscope-drill-{:08x}", rand::rng().random::<u32>());
    let mut progress = Progress::on_terminal();
    let target = (&backend, settings.error.0.as_str());
    let on_progress = |count| progress.prepared(count);
    let created = Fixtures::create(target, Arc::clone(&load), &mark, fixture_plan, args.seed, on_progress);
    let fixtures = tokio::select! {
        fixtures = created => Arc::new(fixtures.context("cannot create the fixtures")?),
        _ = signals.next() => anyhow::bail!("interrupted before the load began"),
    };
    let stats = LoadStats::new(load)?;
    let measured = drive(plan, fixtures, stats, &mut signals, progress, mark).await?;
    let report = report::json(args, &measured)?;
    if let Some(file) = result {
        report::write(file, &report).context("--result-file: cannot write the result")?;
    }
    print(&report::render(args, &measured, &report)?)?;
    let stats = &measured.stats;
    let no_failures = [Outcome::Failed, Outcome::Unanswered, Outcome::Dropped]
        .iter()
        .all(|outcome| stats.total(*outcome) == 0);
    Ok(match (no_failures, measured.interrupted) {
        (false, _) => ExitStatus::Failure,
        (true, true) => ExitStatus::Error,
        (true, false) => ExitStatus::Success,
    })
}

fn plan(args: &LoadArgs) -> Result<ArrivalPlan> {
    let arrivals = u128::from(args.rate) * args.duration.as_millis() / 1_000;
    Ok(ArrivalPlan {
        rate: args.rate,
        arrivals: u64::try_from(arrivals)?.max(1),
        max_in_flight: args.max_in_flight,
        // The last request may take its full timeout.
        drain_timeout: args.backend.timeout + Duration::from_secs(1),
    })
}

async fn drive(
    plan: ArrivalPlan,
    fixtures: Arc<Fixtures>,
    mut stats: LoadStats,
    signals: &mut ShutdownSignals,
    mut progress: Progress,
    mark: String,
) -> Result<LoadResult> {
    let (sender, mut events) = mpsc::unbounded_channel::<(u64, Event<Reply>)>();
    let mut interrupted = false;
    let began = Instant::now();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let driven = tokio::spawn(async move {
        let send = move |arrival| Arc::clone(&fixtures).send(arrival);
        // Dropping the sender of `stop` stops the arrivals, so it is kept until the end.
        plan.run(send, sender, async { drop(stopped.await) }).await
    });
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some((arrival, event)) => stats.record(arrival, &event, plan.drain_timeout),
                None => break,
            },
            _ = tick.tick() => progress.show(&stats, plan, began.elapsed()),
            _ = signals.next() => {
                if interrupted {
                    // The second signal stops immediately.
                    driven.abort();
                }
                interrupted = true;
                stop.take();
            }
        }
    }
    progress.clear();
    let arrived = driven.await.unwrap_or_else(|_| stats.arrivals());
    Ok(LoadResult { took: began.elapsed(), arrived, interrupted, mark, stats })
}
