//! How time is taken: many short samples, the contenders in turns, and of each the median.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use cost::{ROUTES, Requests, Worker};
use metrics_exporter_prometheus::PrometheusHandle;
use quanta::Instant;

use crate::peers::Field;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) samples: usize,
    /// Requests of each thread in a sample.
    pub(crate) requests: u32,
}

/// The routes that each thread asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) threads: usize,
    pub(crate) same_route: bool,
}

impl Scene {
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
    /// What it is more than that of the first contender, which had its sample next to this one's: what changes the
    /// speed of the machine changes both.
    pub(crate) added: f64,
}

/// What a request costs with each contender.
pub(crate) fn measure(
    field: &Field,
    scene: Scene,
    effort: Effort,
    exporter: &PrometheusHandle,
) -> Result<Vec<Cost>> {
    let line = Line { arrived: AtomicUsize::new(0), threads: scene.threads };
    let measured: Vec<Vec<Vec<f64>>> = thread::scope(|threads| {
        let spawned: Vec<_> = (0..scene.threads)
            .map(|thread| {
                let line = &line;
                threads.spawn(move || run(field, scene.routes(thread), thread, line, effort, exporter))
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
    Ok((0..field.contenders.len()).map(cost).collect())
}

/// One thread's samples of each contender.
fn run(
    field: &Field,
    routes: Range<usize>,
    thread: usize,
    line: &Line,
    effort: Effort,
    exporter: &PrometheusHandle,
) -> Result<Vec<Vec<f64>>> {
    let mut requests =
        if field.below_router { Requests::below_router(routes)? } else { Requests::to_router(routes) };
    let mut workers: Vec<Worker> = field.contenders.iter().map(cost::Contender::worker).collect();
    let mut samples = vec![Vec::new(); workers.len()];
    for sample in 0..=effort.samples {
        // What a scrape would do. The histograms of the peers' recorder keep each value until somebody drains them.
        if thread == 0 {
            exporter.run_upkeep();
        }
        for (worker, samples) in workers.iter_mut().zip(&mut samples) {
            // Caches and predictors have seen the others meanwhile.
            worker(&mut requests, effort.requests / 10);
            line.wait();
            let begin = Instant::now();
            worker(&mut requests, effort.requests);
            let elapsed = begin.elapsed();
            // The first sample is for warming up.
            if sample > 0 {
                samples.push(elapsed.as_secs_f64() * 1e9 / f64::from(effort.requests));
            }
        }
    }
    Ok(samples)
}

/// Where threads wait for one another, so that they run together from the first request on.
struct Line {
    arrived: AtomicUsize,
    threads: usize,
}

impl Line {
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
