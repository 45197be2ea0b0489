//! One iteration: load, a fault during it, and the audit after both.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::load::{Load, Responses, Targets};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::wait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::audit::{Answer, audit, number};
use crate::counters::Counters;
use crate::environment::Environment;
use crate::expectations;
use crate::fault::{Fault, FaultRun};
use crate::resource_limits::Held;

/// The result of an iteration.
pub(crate) struct Told {
    pub(crate) fault: Fault,
    /// From the beginning of the fault to its end.
    pub(crate) held: Duration,
    /// From the end of the fault until callers succeeded again.
    pub(crate) served: Duration,
    /// From the end of the load until no operation was in flight.
    pub(crate) quiet: Duration,
    /// From then until the sidecar had polled each member.
    pub(crate) truth: Duration,
    /// The responses during the fault: succeeded, rejected, failed, without response.
    pub(crate) during: [f64; 4],
    pub(crate) bounds: String,
    pub(crate) remark: String,
    pub(crate) complaints: Vec<String>,
}

impl Told {
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
            self.truth,
            self.bounds,
            self.remark,
        )
    }
}

/// The number of successes before a fault begins, and after it has ended.
const SERVED: f64 = 20.0;

/// Runs an iteration.
pub(crate) async fn play(env: &mut Environment, fault: Fault, rate: u32, seed: u64) -> Result<Told> {
    let mut rng = StdRng::seed_from_u64(seed);
    env.clocks(fault).await?;
    let client = env.client();
    let targets = Targets::open(&client).await?;
    env.beside.clear();
    let before = Counters::quiet(env).await?;
    let load = Load::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    let load_seed = rng.random();
    let scene = async {
        let scene = scene(env, fault, &load, &mut rng).await;
        drop(stop);
        scene
    };
    let (scene, ()) = tokio::join!(scene, load.run(&client, &targets, rate, until, load_seed));
    let (fault_run, served, during) = scene?;

    let ended = Instant::now();
    let after = Counters::quiet(env).await?;
    let quiet = ended.elapsed();
    let mut answers = load.responses();
    for (answer, times) in &env.beside {
        *answers.entry(answer.clone()).or_default() += times;
    }
    let mut complaints = audit(&before, &after, &answers, &fault_run);
    let truth = expectations::sidecar(env, &after, &mut complaints).await?;
    expectations::checks(env, &mut complaints).await?;
    expectations::prometheus(env, &after).await?;
    // Together with the connections that it kept open.
    drop(client);
    let held = Held::read(env).await?;
    let first = *env.first.get_or_insert(held);
    complaints.extend(held.excess(&first, env).await?);
    Ok(Told {
        fault,
        held: fault_run.held,
        served,
        quiet,
        truth,
        during,
        bounds: held.line(),
        remark: fault_run.remark,
        complaints,
    })
}

/// Waits for successes, injects the fault, and waits for successes again.
async fn scene(
    env: &mut Environment,
    fault: Fault,
    load: &Load,
    rng: &mut StdRng,
) -> Result<(FaultRun, Duration, [f64; 4])> {
    served(load, "callers to be served").await?;
    let before = seen(&load.responses());
    let fault_run = fault.play(env, rng).await?;
    let mended = Instant::now();
    served(load, "callers to be served again").await?;
    let after = seen(&load.responses());
    Ok((fault_run, mended.elapsed(), std::array::from_fn(|kind| after[kind] - before[kind])))
}

/// Waits for this many additional successes.
async fn served(load: &Load, what: &str) -> Result<()> {
    let before = seen(&load.responses())[0];
    wait::until(what, async || {
        let now = seen(&load.responses())[0] - before;
        ensure!(now >= SERVED, "{now} succeeded");
        Ok(())
    })
    .await
}

/// The number of responses by result.
fn seen(responses: &Responses) -> [f64; 4] {
    [Answer::Succeeded, Answer::Rejected, Answer::Failed, Answer::Unanswered].map(|kind| {
        let of_kind = responses.iter().filter(|((_, answer), _)| Answer::of(answer) == kind);
        of_kind.map(|(_, times)| number(*times)).sum()
    })
}
