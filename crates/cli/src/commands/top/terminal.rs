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
use txnscope_sidecar::live::{Ending, LiveMonitor};

use super::app::App;
use super::draw::draw;
use super::kill::{Killer, message};
use crate::args::exit_status::ExitStatus;
use crate::runtime::signals::ShutdownSignals;

/// How long the view waits for a key before it looks for a new report.
const TICK: Duration = Duration::from_millis(200);

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
    while !app.quit && !stop.load(Ordering::Relaxed) {
        app.update(monitor.report());
        terminal.0.draw(|frame| draw(frame, &app)).context("cannot draw on the terminal")?;
        read_events(&mut app).context("cannot read from the terminal")?;
        requests.go_on(&mut app);
    }
    drop(terminal);
    drop(requests);
    Ok(ExitStatus::Success)
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

    /// Starts what the user has confirmed, and shows the result of what has ended.
    fn go_on(&mut self, app: &mut App) {
        if let Some(killer) = self.killer
            && let Some(transaction) = app.to_end.take()
        {
            let killer = killer.clone();
            self.running = Some(self.runtime.spawn(async move { killer.end(&transaction).await }));
        }
        if let Some(ended) = self.running.take_if(|running| running.is_finished()) {
            let ending = self.runtime.block_on(ended);
            app.show_ended(
                ending.map_or_else(|_| "the request failed".to_owned(), |ending| message(&ending)),
            );
        }
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

/// Waits for a key for one tick, and applies all that have been pressed.
fn read_events(app: &mut App) -> io::Result<()> {
    let mut wait = TICK;
    while event::poll(wait)? {
        if let Event::Key(key) = event::read()? {
            app.press(key);
        }
        wait = Duration::ZERO;
    }
    Ok(())
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
