//! One iteration: load, a fault during it, and the audit after both.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::load::{Load, Responses, Targets};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::wait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::audit::{Response, audit, number};
use crate::counters::Counters;
use crate::environment::Environment;
use crate::expectations;
use crate::fault::{Fault, FaultRun};
use crate::resource_limits::ResourceUsage;

/// The result of an iteration.
pub(crate) struct IterationResult {
    pub(crate) fault: Fault,
    /// From the beginning of the fault to its end.
    pub(crate) held: Duration,
    /// From the end of the fault until callers succeeded again.
    pub(crate) served: Duration,
    /// From the end of the load until no operation was in flight.
    pub(crate) quiet: Duration,
    /// From then until the sidecar had polled each member.
    pub(crate) verified: Duration,
    /// The responses during the fault: succeeded, rejected, failed, without response.
    pub(crate) during: [f64; 4],
    pub(crate) bounds: String,
    pub(crate) remark: String,
    pub(crate) complaints: Vec<String>,
}

impl IterationResult {
    pub(crate) fn line(&self) -> String {
        let [succeeded, rejected, failed, unanswered] = self.during;
        let mark = if self.complaints.is_empty() { '✓' } else { '✗' };
        format!(
            "{mark} {}: held {:.1?}; {succeeded} succeeded, {rejected} rejected, {failed} failed, {unanswered} unanswered; \
             served again after {:.1?}, quiet after {:.1?}, sidecar true after {:.1?}; {}{}",
            self.fault.name(),
            self.held,
            self.served,
            self.quiet,
            self.verified,
            self.bounds,
            self.remark,
        )
    }
}

/// The number of successes before a fault begins, and after it has ended.
const SERVED: f64 = 20.0;

/// Runs an iteration.
pub(crate) async fn run(
    env: &mut Environment,
    fault: Fault,
    rate: u32,
    seed: u64,
) -> Result<IterationResult> {
    let mut rng = StdRng::seed_from_u64(seed);
    env.clocks(fault).await?;
    let client = env.client();
    let targets = Targets::open(&client).await?;
    env.other_responses.clear();
    let before = Counters::quiet(env).await?;
    let load = Load::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    let load_seed = rng.random();
    let faulty = async {
        let result = load_with_fault(env, fault, &load, &mut rng).await;
        drop(stop);
        result
    };
    let (result, ()) = tokio::join!(faulty, load.run(&client, &targets, rate, until, load_seed));
    let (fault_run, served, during) = result?;

    let ended = Instant::now();
    let after = Counters::quiet(env).await?;
    let quiet = ended.elapsed();
    let mut answers = load.responses();
    for (answer, times) in &env.other_responses {
        *answers.entry(answer.clone()).or_default() += times;
    }
    let mut complaints = audit(&before, &after, &answers, &fault_run);
    let verified = expectations::sidecar(env, &after, &mut complaints).await?;
    expectations::checks(env, &mut complaints).await?;
    expectations::prometheus(env, &after).await?;
    // Together with the connections that it kept open.
    drop(client);
    let held = ResourceUsage::read(env).await?;
    let first = *env.first.get_or_insert(held);
    complaints.extend(held.excess(&first, env).await?);
    Ok(IterationResult {
        fault,
        held: fault_run.held,
        served,
        quiet,
        verified,
        during,
        bounds: held.line(),
        remark: fault_run.remark,
        complaints,
    })
}

/// Waits for successes, injects the fault, and waits for successes again.
async fn load_with_fault(
    env: &mut Environment,
    fault: Fault,
    load: &Load,
    rng: &mut StdRng,
) -> Result<(FaultRun, Duration, [f64; 4])> {
    served(load, "callers to be served").await?;
    let before = responses_by_result(&load.responses());
    let fault_run = fault.inject(env, rng).await?;
    let fixed = Instant::now();
    served(load, "callers to be served again").await?;
    let after = responses_by_result(&load.responses());
    Ok((fault_run, fixed.elapsed(), std::array::from_fn(|kind| after[kind] - before[kind])))
}

/// Waits for this many additional successes.
async fn served(load: &Load, what: &str) -> Result<()> {
    let before = responses_by_result(&load.responses())[0];
    wait::until(what, async || {
        let now = responses_by_result(&load.responses())[0] - before;
        ensure!(now >= SERVED, "{now} succeeded");
        Ok(())
    })
    .await
}

/// The number of responses by result.
fn responses_by_result(responses: &Responses) -> [f64; 4] {
    [Response::Succeeded, Response::Rejected, Response::Failed, Response::Unanswered].map(|kind| {
        let of_kind = responses.iter().filter(|((_, answer), _)| Response::of(answer) == kind);
        of_kind.map(|(_, times)| number(*times)).sum()
    })
}
