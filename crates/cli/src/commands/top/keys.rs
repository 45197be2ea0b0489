//! What the keys change.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::{App, Focus, Popup};

/// How far a page key moves.
const PAGE: usize = 10;

/// The keys with their effect, for the help.
pub(super) const KEYS: [(&str, &str); 11] = [
    ("Up, Down, k, j, PageUp, PageDown", "select a row"),
    ("Left, Right, Shift+Tab, Tab", "show another member, or all"),
    ("b", "switch between transactions and who waits for whom"),
    ("Enter", "details of the selected row"),
    ("s", "sort transactions by age, idle time, what they block, or operation"),
    ("/", "filter by operation, application, namespace, client or state; Enter applies, Esc clears"),
    ("p, Space", "pause, and go on"),
    ("K", "end the selected transaction, with --allow-kill; asks before"),
    ("?", "this help"),
    ("Esc", "close the details or the help, clear the filter"),
    ("q, Ctrl+C", "quit"),
];

impl App {
    /// Applies a key.
    pub(super) fn press(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.quit |= matches!(key.code, KeyCode::Char('c' | 'd'));
            return;
        }
        self.notice = None;
        if self.kill.is_some() {
            self.press_in_kill(key.code);
            return;
        }
        if self.is_typing_filter {
            self.type_filter(key.code);
            return;
        }
        match key.code {
            KeyCode::Char('q') => self.quit = true,
            KeyCode::Esc if self.popup != Popup::None => self.popup = Popup::None,
            KeyCode::Esc => self.set_filter(String::new()),
            KeyCode::Char('?' | 'h') => self.toggle(Popup::Help),
            KeyCode::Enter => self.toggle(Popup::Details),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('K') => self.ask_to_end(),
            KeyCode::Char('/') => (self.is_typing_filter, self.popup) = (true, Popup::None),
            KeyCode::Char('s') => (self.sort, self.selected) = (self.sort.next(), 0),
            KeyCode::Char('b') => {
                self.focus = match self.focus {
                    Focus::Transactions => Focus::Tree,
                    Focus::Tree => Focus::Transactions,
                };
                self.selected = 0;
            }
            KeyCode::Tab | KeyCode::Right => self.show_tab(1),
            KeyCode::BackTab | KeyCode::Left => self.show_tab(self.report.members.len()),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::PageDown => self.select(self.selected.saturating_add(PAGE)),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(PAGE)),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            _ => {}
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing_filter = false,
            KeyCode::Esc => {
                self.is_typing_filter = false;
                self.set_filter(String::new());
            }
            KeyCode::Backspace => {
                let mut filter = self.filter.clone();
                filter.pop();
                self.set_filter(filter);
            }
            KeyCode::Char(c) => self.set_filter(format!("{}{c}", self.filter)),
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        (self.filter, self.selected) = (filter, 0);
    }

    fn toggle(&mut self, popup: Popup) {
        self.popup = if self.popup == popup { Popup::None } else { popup };
    }

    /// Moves by this many tabs to the right; the last is followed by the first.
    fn show_tab(&mut self, by: usize) {
        self.tab = (self.tab + by) % (self.report.members.len() + 1);
        self.selected = 0;
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.rows().len().saturating_sub(1));
    }
}
