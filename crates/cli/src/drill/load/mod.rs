//! `txnscope drill load`: requests at a fixed rate, and how long each takes from when it was to be sent.

mod arrivals;
mod books;
mod progress;
mod report;
mod world;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::drill::backend::{Answer, Backend};
use crate::drill::flags::LoadFlags;
use crate::drill::load::arrivals::{Event, Plan};
use crate::drill::load::books::{Books, Outcome};
use crate::drill::load::progress::Progress;
use crate::drill::load::world::World;
use crate::drill::stop::Signals;
use crate::drill::{BROKEN, PROVEN, UNKNOWN};
use crate::print;

/// What a load has shown.
#[derive(Debug)]
struct Outcomes {
    books: Books,
    /// From the first arrival to the last answer.
    took: Duration,
    arrived: u64,
    interrupted: bool,
    mark: String,
}

/// Puts the load on the backend, prints what was measured, and returns the exit status.
///
/// # Errors
///
/// If there is no such backend, it does not take our token, or what the load needs cannot be made.
pub(crate) async fn load(flags: &LoadFlags) -> Result<u8> {
    let mut signals = Signals::listen()?;
    let backend = Backend::new(&flags.backend)?;
    let plan = plan(flags)?;
    let size = World::size(plan.arrivals, flags.entities)?;
    let result = flags.result_file.as_deref().map(report::create).transpose()?;
    backend.greet().await?;
    let mark = format!("txnscope-drill-{:08x}", rand::rng().random::<u32>());
    let mut progress = Progress::on_terminal();
    let made = World::make(&backend, &mark, size, flags.seed, |made| progress.prepared(made));
    let world = tokio::select! {
        world = made => Arc::new(world.context("cannot make what the load is put on")?),
        () = signals.next() => anyhow::bail!("interrupted before the load began"),
    };
    let outcomes = drive(plan, world, &mut signals, progress, mark).await?;
    let report = report::json(flags, &outcomes)?;
    if let Some(file) = result {
        report::write(file, &report).context("--result-file: cannot write the result")?;
    }
    print(&report::render(flags, &outcomes, &report)?)?;
    let books = &outcomes.books;
    let all_is_well = [Outcome::Failed, Outcome::Unanswered, Outcome::Dropped]
        .iter()
        .all(|outcome| books.total(*outcome) == 0);
    Ok(match (all_is_well, outcomes.interrupted) {
        (false, _) => BROKEN,
        (true, true) => UNKNOWN,
        (true, false) => PROVEN,
    })
}

fn plan(flags: &LoadFlags) -> Result<Plan> {
    let arrivals = u128::from(flags.rate) * flags.duration.as_millis() / 1_000;
    Ok(Plan {
        rate: flags.rate,
        arrivals: u64::try_from(arrivals)?.max(1),
        max_in_flight: flags.max_in_flight,
        // Whatever is sent last has its own time to be answered.
        patience: flags.backend.timeout + Duration::from_secs(1),
    })
}

async fn drive(
    plan: Plan,
    world: Arc<World>,
    signals: &mut Signals,
    mut progress: Progress,
    mark: String,
) -> Result<Outcomes> {
    let (sender, mut events) = mpsc::unbounded_channel::<(u64, Event<Answer>)>();
    let mut books = Books::new()?;
    let mut interrupted = false;
    let began = Instant::now();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let driven = tokio::spawn(async move {
        let send = move |arrival| Arc::clone(&world).send(arrival);
        // The sender is kept until the end, when there is nothing to stop any more.
        plan.run(send, sender, async { drop(stopped.await) }).await
    });
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some((arrival, event)) => books.note(arrival, &event, plan.patience),
                None => break,
            },
            _ = tick.tick() => progress.show(&books, plan, began.elapsed()),
            () = signals.next() => {
                if interrupted {
                    // The second time it is meant at once.
                    driven.abort();
                }
                interrupted = true;
                stop.take();
            }
        }
    }
    progress.clear();
    let arrived = driven.await.unwrap_or_else(|_| books.arrivals());
    Ok(Outcomes { took: began.elapsed(), arrived, interrupted, mark, books })
}
