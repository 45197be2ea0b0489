//! The question before a transaction is ended, and the result.

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use txnscope_sidecar::live::{Reference, Transaction};

use super::app::App;
use super::draw::Theme;
use super::kill::{description, refused};
use super::text::plain;

/// What is typed to confirm.
const WORD: &str = "end";
/// The longest text that is kept of what is typed.
const MAX_TYPED: usize = 16;

/// What the view says if transactions may not be ended.
const OFF: &str =
    "ending transactions is off: start `txnscope top --allow-kill`, as a user with that privilege";

/// The question about one transaction. It stays the one that was selected, whatever the next report has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KillPopup {
    pub(super) transaction: Transaction,
    lines: Vec<(&'static str, String)>,
    typed: String,
    step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The user is asked.
    Question,
    /// The server is asked.
    Asked,
    /// The result.
    Done(String),
}

impl App {
    /// Asks about the selected transaction, or says why it cannot be ended.
    pub(super) fn ask_to_end(&mut self) {
        if !self.allow_kill {
            self.notice = Some(OFF.to_owned());
            return;
        }
        let Some(Reference::Transaction(index)) = self.selected_entry() else {
            self.notice = Some("select a transaction: only transactions can be ended here".to_owned());
            return;
        };
        let Some(transaction) = self.report.transactions.get(index) else { return };
        if let Some(refused) = refused(transaction) {
            self.notice = Some(refused.message());
            return;
        }
        self.kill = Some(KillPopup {
            transaction: transaction.clone(),
            lines: description(&self.report, index),
            typed: String::new(),
            step: Step::Question,
        });
    }

    /// Applies a key while the question or the result is shown.
    pub(super) fn press_in_kill(&mut self, code: KeyCode) {
        let Some(popup) = &mut self.kill else { return };
        match (&popup.step, code) {
            (Step::Question, KeyCode::Enter) if popup.typed == WORD => {
                popup.step = Step::Asked;
                self.to_end = Some(popup.transaction.clone());
            }
            (Step::Question, KeyCode::Char(c)) if popup.typed.len() < MAX_TYPED => popup.typed.push(c),
            (Step::Question, KeyCode::Backspace) => drop(popup.typed.pop()),
            (Step::Question | Step::Done(_), KeyCode::Esc) | (Step::Done(_), KeyCode::Enter) => {
                self.kill = None
            }
            _ => {}
        }
    }

    /// Shows the result of a request.
    pub(super) fn show_ended(&mut self, message: String) {
        match &mut self.kill {
            Some(popup) => popup.step = Step::Done(message),
            None => self.notice = Some(message),
        }
    }
}

/// Draws the question over the lists.
pub(super) fn draw_kill(frame: &mut Frame<'_>, popup: &KillPopup, theme: Theme, area: Rect) {
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" End this transaction? ").border_style(theme.bad());
    let [above, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(block.inner(area));
    frame.render_widget(block, area);
    let lines: Vec<_> =
        popup.lines.iter().map(|(name, value)| Line::raw(format!("{name:<14} {value}"))).collect();
    frame.render_widget(Paragraph::new(lines), above);
    let (text, style) = match &popup.step {
        Step::Question => (
            format!(
                "The server aborts this transaction, and nothing else. Type {WORD} and Enter; Esc cancels: {}_",
                plain(&popup.typed)
            ),
            theme.bad(),
        ),
        Step::Asked => ("The server is asked to end it.".to_owned(), theme.warn()),
        Step::Done(message) => (format!("{message}. Esc closes"), theme.title()),
    };
    frame.render_widget(Paragraph::new(Line::styled(text, style)).wrap(Wrap { trim: true }), below);
}
