//! The schedule of the checks.

use std::future::pending;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::DriverInfo;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use txnscope_checks::{Check, Checks, Failure, Reason, Report, SampleOptions, run};
use txnscope_mongo::UriError;

use super::results::CheckResults;
use crate::snapshot::Snapshot;
use crate::target::Target;
use crate::uri::APP_NAME;

/// The latest first run, unless the interval is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Intervals vary by this fraction, so that sidecars started together drift apart.
const JITTER: f64 = 0.1;
/// One connection for the run, and one for a run that has timed out.
const MAX_POOL_SIZE: u32 = 2;
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the checks of one deployment. Dropping it stops the schedule.
#[derive(Debug)]
pub(crate) struct CheckRunner {
    checks: Checks,
    results: CheckResults,
    stop: CancellationToken,
}

impl CheckRunner {
    /// Starts running the checks, in a background task. `before` has results to keep.
    pub(crate) fn start(
        checks: &Checks,
        target: Target,
        snapshot: Snapshot,
        before: &CheckResults,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let results = CheckResults::new(checks, before);
        let schedule = Schedule { target, snapshot, results: results.clone(), client: None };
        tasks.spawn(schedule.run(stop.clone()));
        Self { checks: checks.clone(), results, stop }
    }

    pub(crate) fn runs(&self, checks: &Checks) -> bool {
        self.checks == *checks
    }

    pub(crate) fn results(&self) -> &CheckResults {
        &self.results
    }
}

impl Drop for CheckRunner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the checks until it is stopped.
struct Schedule {
    target: Target,
    /// Knows the name of the replica set.
    snapshot: Snapshot,
    results: CheckResults,
    client: Option<Client>,
}

impl Schedule {
    async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
        if let Some(client) = self.client {
            client.shutdown().immediate(true).await;
        }
    }

    async fn follow(&mut self) {
        let results = self.results.clone();
        let start = Instant::now();
        let mut due: Vec<_> = results
            .entries()
            .iter()
            .map(|entry| start + entry.check.interval.min(FIRST_WITHIN).mul_f64(jitter()))
            .collect();
        loop {
            // The check that has been due for the longest time is next: a slow check delays the others and
            // starves none.
            let Some((index, next)) = due.iter().copied().enumerate().min_by_key(|(_, at)| *at) else {
                return pending().await;
            };
            sleep_until(next).await;
            let entry = &results.entries()[index];
            let report = self.check(&entry.check).await;
            entry.record(&self.snapshot.rs(), &report);
            due[index] = Instant::now() + entry.check.interval.mul_f64(1.0 + JITTER * (2.0 * jitter() - 1.0));
        }
    }

    async fn check(&mut self, check: &Check) -> Report {
        let began = Instant::now();
        match self.client().await {
            Ok(client) => run(&client, check, SampleOptions::NONE).await,
            Err(failure) => Report::failed(failure, began.elapsed()),
        }
    }

    /// The client of the deployment, created at the first use: before that, its SRV name may not resolve.
    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let refused = |message: String| Failure::new(Reason::ServerSelection, message);
        let mut options = self.target.options().await.map_err(|error| refused(error.to_string()))?;
        options.app_name = Some(APP_NAME.to_owned());
        options.driver_info =
            Some(DriverInfo::builder().name(APP_NAME).version(env!("CARGO_PKG_VERSION").to_owned()).build());
        options.max_pool_size = Some(MAX_POOL_SIZE);
        options.min_pool_size = Some(0);
        options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout = Some(SERVER_SELECTION_TIMEOUT);
        let client = Client::with_options(options);
        let client = client.map_err(|error| refused(UriError::from_client_error(&error).to_string()))?;
        Ok(self.client.insert(client).clone())
    }
}

/// A random fraction from 0 to 1, good enough to spread start times.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_between_zero_and_one_and_varies() {
        let jitters: Vec<_> = (0..100).map(|_| jitter()).collect();
        assert!(jitters.iter().all(|jitter| (0.0..=1.0).contains(jitter)));
        assert!(jitters.iter().any(|jitter| *jitter < 0.5) && jitters.iter().any(|jitter| *jitter > 0.5));
    }
}
