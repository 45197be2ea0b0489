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
use txnscope_sidecar::live::LiveMonitor;

use super::app::App;
use super::draw::draw;
use crate::args::exit_status::ExitStatus;
use crate::runtime::signals::ShutdownSignals;

/// How long the view waits for a key before it looks for a new report.
const TICK: Duration = Duration::from_millis(200);

/// Shows the view until a key or a signal ends it.
///
/// # Errors
///
/// If the terminal cannot be used. It is restored in any case.
pub(super) fn show(runtime: &Runtime, monitor: &LiveMonitor) -> Result<ExitStatus> {
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
    let mut terminal = RestoredTerminal::open().context("cannot set up the terminal")?;
    while !app.quit && !stop.load(Ordering::Relaxed) {
        app.update(monitor.report());
        terminal.0.draw(|frame| draw(frame, &app)).context("cannot draw on the terminal")?;
        read_events(&mut app).context("cannot read from the terminal")?;
    }
    Ok(ExitStatus::Success)
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
