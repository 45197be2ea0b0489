//! The load, and its results.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::measure::{on_processor, quantile};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backend::{Backend, RETAINERS, Variant};

/// The measurements of one variant in one round.
pub(crate) struct Round {
    /// Seconds from the due time of each request to its response.
    latencies: Vec<f64>,
    took: Duration,
    /// CPU milliseconds per request.
    backend: f64,
    mongod: f64,
}

impl Round {
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    pub(crate) async fn run(backend: &Backend, mongod: u32, rate: u32, round: Duration) -> Result<Self> {
        let (http, mut callers) = (reqwest::Client::new(), JoinSet::new());
        let spent = || Ok::<_, anyhow::Error>((on_processor(backend.process.pid())?, on_processor(mongod)?));
        let (begin, before) = (Instant::now(), spent()?);
        let arrivals = (round.as_secs_f64() * f64::from(rate)).round();
        let mut arrival = 0_i32;
        while f64::from(arrival) < arrivals {
            let due = begin + Duration::from_secs(1) * u32::try_from(arrival)? / rate;
            sleep_until(due).await;
            // All retainers in turn, with a stride, so that concurrent requests use different ones.
            let id = i32::try_from(i64::from(arrival) * 7_919 % i64::from(RETAINERS))?;
            let request = http.post(format!("http://{}/api/retainers/{id}/consume", backend.address));
            callers.spawn(async move {
                let status = request.send().await?.status();
                ensure!(status.is_success(), "the backend answered {status}");
                Ok(due.elapsed().as_secs_f64())
            });
            arrival += 1;
        }
        let mut latencies = Vec::new();
        while let Some(ended) = callers.join_next().await {
            latencies.push(ended??);
        }
        let (took, after) = (begin.elapsed(), spent()?);
        let requests = latencies.len() as f64;
        let (backend, mongod) = ((after.0 - before.0) / requests, (after.1 - before.1) / requests);
        Ok(Self { latencies, took, backend, mongod })
    }
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn report(variants: &[(Variant, &[Round])]) {
    println!(
        "| | answered, each second | p50 | p99 | p99.9 | backend on the processor, each request | against the bare one | mongod |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut bare = f64::NAN;
    for (variant, rounds) in variants {
        let mut latencies: Vec<_> = rounds.iter().flat_map(|round| round.latencies.iter().copied()).collect();
        latencies.sort_by(f64::total_cmp);
        let took: f64 = rounds.iter().map(|round| round.took.as_secs_f64()).sum();
        // The minimum, because disturbances only add time.
        let least = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
        let (backend, mongod) = (least(|round| round.backend), least(|round| round.mongod));
        if *variant == Variant::Bare {
            bare = backend;
        }
        println!(
            "| {} | {:.0} | {:.2} ms | {:.2} ms | {:.2} ms | {:.3} ms | {:+.1} % | {:.2} ms |",
            variant.name(),
            latencies.len() as f64 / took,
            quantile(&latencies, 0.5) * 1e3,
            quantile(&latencies, 0.99) * 1e3,
            quantile(&latencies, 0.999) * 1e3,
            backend,
            (backend / bare - 1.0) * 100.0,
            mongod
        );
    }
}
