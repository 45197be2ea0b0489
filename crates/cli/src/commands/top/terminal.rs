//! The terminal: setting up, restoring in any case, and the loop of events.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, enable_raw_mode};
use ratatui::{DefaultTerminal, Terminal};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use txnscope_sidecar::live::{Ending, LiveMonitor, LiveReport, MemberVersion};

use super::app::App;
use super::draw::draw;
use super::kill::{Killer, message};
use crate::args::exit_status::ExitStatus;
use crate::runtime::signals::ShutdownSignals;

/// How long the view waits for a key before it looks for a new report.
const TICK: Duration = Duration::from_millis(200);

/// How often the times that have passed since a member's last answer are updated.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows the view until a key or a signal ends it.
///
/// # Errors
///
/// If the terminal cannot be used. It is restored in any case.
pub(super) fn show(runtime: &Runtime, monitor: &LiveMonitor, killer: Option<&Killer>) -> Result<ExitStatus> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut signals = {
        let _context = runtime.enter();
        ShutdownSignals::listen()?
    };
    runtime.spawn(async move {
        signals.next().await;
        stopped.store(true, Ordering::Relaxed);
    });
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut app = App::new(color);
    app.allow_kill = killer.is_some();
    let mut requests = Requests::new(runtime, killer);
    let mut terminal = RestoredTerminal::open().context("cannot set up the terminal")?;
    let mut shown = Shown::default();
    let mut has_changed = false;
    while !app.quit && !stop.load(Ordering::Relaxed) {
        // With thousands of open transactions, a report and a screen take time that a member in trouble may need.
        if !app.paused
            && let Some(report) = shown.next(monitor)
        {
            app.update(report);
            has_changed = true;
        }
        if has_changed {
            terminal.0.draw(|frame| draw(frame, &app)).context("cannot draw on the terminal")?;
        }
        has_changed = read_events(&mut app).context("cannot read from the terminal")?;
        has_changed |= requests.go_on(&mut app);
    }
    drop(terminal);
    drop(requests);
    Ok(ExitStatus::Success)
}

/// Which report is shown.
#[derive(Default)]
struct Shown {
    version: Vec<MemberVersion>,
    at: Option<Instant>,
}

impl Shown {
    /// The report to show from now on, if the one that is shown is out of date.
    fn next(&mut self, monitor: &LiveMonitor) -> Option<LiveReport> {
        let version = monitor.version();
        if self.at.is_some_and(|at| at.elapsed() < REFRESH) && version == self.version {
            return None;
        }
        *self = Self { version, at: Some(Instant::now()) };
        Some(monitor.report())
    }
}

/// The requests to end transactions, in the background. Dropped, it waits for the one that runs, so that it is recorded,
/// and writes the lines that were held back.
struct Requests<'a> {
    runtime: &'a Runtime,
    killer: Option<&'a Killer>,
    running: Option<JoinHandle<Ending>>,
}

impl<'a> Requests<'a> {
    fn new(runtime: &'a Runtime, killer: Option<&'a Killer>) -> Self {
        if let Some(killer) = killer {
            killer.log().hold();
        }
        Self { runtime, killer, running: None }
    }

    /// Starts what the user has confirmed, and shows the result of what has ended: then the screen has changed.
    fn go_on(&mut self, app: &mut App) -> bool {
        if let Some(killer) = self.killer
            && let Some(transaction) = app.to_end.take()
        {
            let killer = killer.clone();
            self.running = Some(self.runtime.spawn(async move { killer.end(&transaction).await }));
        }
        let Some(ended) = self.running.take_if(|running| running.is_finished()) else { return false };
        let ending = self.runtime.block_on(ended);
        app.show_ended(ending.map_or_else(|_| "the request failed".to_owned(), |ending| message(&ending)));
        true
    }
}

impl Drop for Requests<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = self.runtime.block_on(running);
        }
        if let Some(killer) = self.killer {
            killer.log().release();
        }
    }
}

/// Waits for a key for one tick, and applies all that have been pressed. Whether there was any event, such as a new size.
fn read_events(app: &mut App) -> io::Result<bool> {
    let mut wait = TICK;
    while event::poll(wait)? {
        if let Event::Key(key) = event::read()? {
            app.press(key);
        }
        wait = Duration::ZERO;
    }
    Ok(wait == Duration::ZERO)
}

/// A terminal that is restored when it is dropped, and before the message of a panic is printed.
struct RestoredTerminal(DefaultTerminal);

impl RestoredTerminal {
    fn open() -> io::Result<Self> {
        let view = std::thread::current().id();
        let print_message = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A panic of a poll is a failed poll. Its message must not be printed into the view.
            if std::thread::current().id() == view {
                let _ = ratatui::try_restore();
                print_message(panic);
            }
        }));
        let terminal = Self::set_up();
        if terminal.is_err() {
            let _ = ratatui::try_restore();
        }
        terminal
    }

    /// Not by the function of `ratatui`, whose hook restores the terminal whichever thread panics.
    fn set_up() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(Self(Terminal::new(CrosstermBackend::new(io::stdout()))?))
    }
}

impl Drop for RestoredTerminal {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
        let _ = self.0.show_cursor();
    }
}
