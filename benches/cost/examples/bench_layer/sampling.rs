//! Sampling: many short samples, with the contenders in turn, and the median of each.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use cost::{ROUTES, Requests, Worker};
use metrics_exporter_prometheus::PrometheusHandle;
use quanta::Instant;

use crate::peers::ContenderSet;

/// The size of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleSize {
    pub(crate) samples: usize,
    /// Requests of each thread in a sample.
    pub(crate) requests: u32,
}

/// The threads of a measurement, and the routes of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) threads: usize,
    pub(crate) same_route: bool,
}

impl Workload {
    pub(crate) const ALL: [Self; 4] = [
        Self { threads: 1, same_route: true },
        Self { threads: 1, same_route: false },
        Self { threads: 2, same_route: true },
        Self { threads: 2, same_route: false },
    ];

    pub(crate) const fn name(self) -> &'static str {
        match (self.threads, self.same_route) {
            (1, true) => "one thread, one route",
            (1, false) => "one thread, all routes",
            (_, true) => "two threads, one route",
            (_, false) => "two threads, a half each",
        }
    }

    fn routes(self, thread: usize) -> Range<usize> {
        let each = ROUTES / self.threads;
        if self.same_route { 0..1 } else { thread * each..(thread + 1) * each }
    }
}

/// Nanoseconds of one request.
pub(crate) struct Cost {
    pub(crate) all: f64,
    /// The difference to the first contender's adjacent sample: changes of the machine's speed affect both.
    pub(crate) added: f64,
}

/// Measures the cost of a request with each contender.
pub(crate) fn measure(
    set: &ContenderSet,
    workload: Workload,
    size: SampleSize,
    exporter: &PrometheusHandle,
) -> Result<Vec<Cost>> {
    let barrier = SpinBarrier { arrived: AtomicUsize::new(0), threads: workload.threads };
    let measured: Vec<Vec<Vec<f64>>> = thread::scope(|threads| {
        let spawned: Vec<_> = (0..workload.threads)
            .map(|thread| {
                let barrier = &barrier;
                threads.spawn(move || run(set, workload.routes(thread), thread, barrier, size, exporter))
            })
            .collect();
        let joined = spawned.into_iter().map(|thread| thread.join());
        joined
            .map(|ended| ended.map_err(|_| anyhow!("a thread that measured panicked"))?)
            .collect::<Result<_>>()
    })?;
    let pairs = |contender: usize| {
        measured
            .iter()
            .flat_map(move |thread| thread[contender].iter().copied().zip(thread[0].iter().copied()))
    };
    let cost = |contender: usize| Cost {
        all: median(pairs(contender).map(|(one, _)| one).collect()),
        added: median(pairs(contender).map(|(one, without)| one - without).collect()),
    };
    Ok((0..set.contenders.len()).map(cost).collect())
}

/// One thread's samples of each contender.
fn run(
    set: &ContenderSet,
    routes: Range<usize>,
    thread: usize,
    barrier: &SpinBarrier,
    size: SampleSize,
    exporter: &PrometheusHandle,
) -> Result<Vec<Vec<f64>>> {
    let mut requests =
        if set.below_router { Requests::below_router(routes)? } else { Requests::to_router(routes) };
    let mut workers: Vec<Worker> = set.contenders.iter().map(cost::Contender::worker).collect();
    let mut samples = vec![Vec::new(); workers.len()];
    for sample in 0..=size.samples {
        // As a scrape does. The histograms of the peers' recorder buffer each value until they are drained.
        if thread == 0 {
            exporter.run_upkeep();
        }
        for (worker, samples) in workers.iter_mut().zip(&mut samples) {
            // Warm caches and branch predictors, which the other contenders have used.
            worker(&mut requests, size.requests / 10);
            barrier.wait();
            let begin = Instant::now();
            worker(&mut requests, size.requests);
            let elapsed = begin.elapsed();
            // The first sample is a warm-up.
            if sample > 0 {
                samples.push(elapsed.as_secs_f64() * 1e9 / f64::from(size.requests));
            }
        }
    }
    Ok(samples)
}

/// A barrier, so that all threads run from the first request on.
struct SpinBarrier {
    arrived: AtomicUsize,
    threads: usize,
}

impl SpinBarrier {
    fn wait(&self) {
        let mine = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (mine / self.threads + 1) * self.threads;
        while self.arrived.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
