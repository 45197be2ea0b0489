//! The lists, the details and the help.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{
    Block, Cell, Clear, List, ListItem, ListState, Paragraph, Row as TableRow, Table, TableState, Wrap,
};
use txnscope_sidecar::live::{LiveReport, Reference, Transaction, TransactionState};

use super::app::{App, Focus};
use super::draw::Theme;
use super::keys::KEYS;
use super::rows::{Row, rows};
use super::text::{
    name, namespaces, optional, optional_time, plain, references, state, time, tree_row, waits_for,
};

/// A column of transactions.
struct Column {
    head: &'static str,
    width: Constraint,
    /// The width of the list from which on it is shown.
    from: u16,
    cell: fn(&Transaction, usize) -> String,
}

const fn column(
    head: &'static str,
    width: Constraint,
    from: u16,
    cell: fn(&Transaction, usize) -> String,
) -> Column {
    Column { head, width, from, cell }
}

const COLUMNS: [Column; 11] = [
    column("AGE", Constraint::Length(8), 0, |of, _| time(of.age)),
    column("IDLE", Constraint::Length(8), 0, |of, _| optional_time(of.idle)),
    column("ENDS IN", Constraint::Length(8), 100, |of, _| optional_time(of.expires_in)),
    column("STATE", Constraint::Length(16), 0, |of, _| state(of)),
    column("BLOCKS", Constraint::Length(6), 0, |_, blocks| blocks.to_string()),
    column("OPERATION (APPLICATION)", Constraint::Fill(2), 0, |of, _| name(of)),
    column("NAMESPACES", Constraint::Fill(2), 70, |of, _| namespaces(of)),
    column("COMMAND", Constraint::Length(12), 150, |of, _| optional(of.command.as_deref())),
    column("READ CONCERN", Constraint::Length(12), 170, |of, _| optional(of.read_concern.as_deref())),
    column("CLIENT", Constraint::Length(22), 120, |of, _| optional(of.client.as_deref())),
    column("MEMBER", Constraint::Length(22), 150, |of, _| plain(&of.member)),
];

fn block(title: String, theme: Theme, has_focus: bool) -> Block<'static> {
    let style = if has_focus { theme.title() } else { Style::new() };
    Block::bordered().title(title).border_style(style)
}

/// The rows that are on a screen of that height, and the place of the selected one among them. Only these are formatted: a
/// deployment may have thousands.
fn on_screen(rows: &[Row], selected: Option<usize>, height: u16) -> (&[Row], Option<usize>) {
    let height = usize::from(height).max(1);
    let selected = selected.map(|selected| selected.min(rows.len().saturating_sub(1)));
    let first = selected.map_or(0, |selected| (selected + 1).saturating_sub(height));
    let last = rows.len().min(first + height);
    (&rows[first..last], selected.map(|selected| selected - first))
}

/// The list of transactions.
pub(super) fn transactions(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let has_focus = app.focus == Focus::Transactions;
    let shown = rows(app, Focus::Transactions);
    let title = format!(" Open transactions: {}, by {} ", shown.len(), app.sort.as_str());
    let columns: Vec<_> = COLUMNS.iter().filter(|column| area.width >= column.from).collect();
    // Two lines are the border, one is the head.
    let (rows, selected) =
        on_screen(&shown, has_focus.then_some(app.selected), area.height.saturating_sub(3));
    let table = rows.iter().filter_map(|row| match row {
        Row::Transaction(index, blocks) => app.report.transactions.get(*index).map(|of| (of, *blocks)),
        Row::Tree(_) => None,
    });
    let table = table.map(|(of, blocks)| {
        let style = match of.state {
            _ if blocks > 0 => theme.bad(),
            TransactionState::Active | TransactionState::Idle => Style::new(),
            _ => theme.warn(),
        };
        TableRow::new(columns.iter().map(|column| Cell::from((column.cell)(of, blocks)))).style(style)
    });
    let head = TableRow::new(columns.iter().map(|column| column.head)).style(theme.title());
    let table = Table::new(table, columns.iter().map(|column| column.width))
        .header(head)
        .row_highlight_style(theme.selected())
        .block(block(title, theme, has_focus));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
    if shown.is_empty() {
        empty(frame, app, "No transaction is open.", area, 2);
    }
}

/// Who waits for whom.
pub(super) fn tree(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let has_focus = app.focus == Focus::Tree;
    let shown = rows(app, Focus::Tree);
    let (rows, selected) =
        on_screen(&shown, has_focus.then_some(app.selected), area.height.saturating_sub(2));
    let items = rows.iter().filter_map(|row| match row {
        Row::Tree(row) => Some((tree_row(&app.report, row), row)),
        Row::Transaction(..) => None,
    });
    let items = items.map(|(text, row)| {
        let style = match (row.depth, row.blocks) {
            (0, 1..) => theme.bad(),
            (_, 0) => Style::new(),
            _ => theme.warn(),
        };
        ListItem::new(text).style(style)
    });
    let title = format!(" Who waits for whom: {} waiting ", app.report.waiting.len());
    let list = List::new(items).highlight_style(theme.selected()).block(block(title, theme, has_focus));
    let mut state = ListState::default().with_selected(selected);
    frame.render_stateful_widget(list, area, &mut state);
    if shown.is_empty() {
        empty(frame, app, "No operation waits.", area, 1);
    }
}

/// Says why a list is empty.
fn empty(frame: &mut Frame<'_>, app: &App, text: &str, area: Rect, line: u16) {
    let text = if app.filter.is_empty() { text } else { "Nothing matches the filter." };
    if area.height > line + 1 && area.width > 2 {
        let at = Rect { x: area.x + 1, y: area.y + line, width: area.width - 2, height: 1 };
        frame.render_widget(Paragraph::new(text), at);
    }
}

/// All that is known about the selected row.
pub(super) fn details(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let lines = match app.selected_entry() {
        Some(entry) => entry_details(&app.report, entry),
        None => Vec::new(),
    };
    let lines: Vec<_> =
        lines.into_iter().map(|(name, value)| Line::raw(format!("{name:<14} {value}"))).collect();
    let text = if lines.is_empty() { vec![Line::raw("Nothing is selected.")] } else { lines };
    frame.render_widget(Clear, area);
    let pane = Paragraph::new(text).wrap(Wrap { trim: false });
    frame.render_widget(pane.block(block(" Details ".to_owned(), theme, true)), area);
}

fn entry_details(report: &LiveReport, entry: Reference) -> Vec<(&'static str, String)> {
    match entry {
        Reference::Transaction(index) => report.transactions.get(index).map(|of| {
            let locks: Vec<_> = of
                .locks
                .iter()
                .map(|lock| format!("{} {} {}", lock.mode, lock.resource, lock.name))
                .collect();
            vec![
                ("transaction", index.to_string()),
                ("operation", optional(of.operation.as_deref())),
                ("application", optional(of.application.as_deref())),
                ("state", state(of)),
                ("open for", time(of.age)),
                ("idle for", optional_time(of.idle)),
                ("active for", time(of.active)),
                ("server ends in", optional_time(of.expires_in)),
                ("command", optional(of.command.as_deref())),
                ("read concern", optional(of.read_concern.as_deref())),
                ("client", optional(of.client.as_deref())),
                ("driver", optional(of.driver.as_deref())),
                ("member", plain(&of.member)),
                ("session", plain(&of.session)),
                ("number", of.txn_number.to_string()),
                ("namespaces", namespaces(of)),
                ("locks", if locks.is_empty() { "-".to_owned() } else { plain(&locks.join(", ")) }),
                ("blocks", format!("{} directly", report.blocked_by(entry))),
            ]
        }),
        Reference::Waiting(index) => report.waiting.get(index).map(|of| {
            vec![
                ("waiting", index.to_string()),
                ("command", plain(&of.command)),
                ("namespace", optional(of.namespace.as_deref())),
                ("waits for", waits_for(of)),
                ("waits", time(of.waiting)),
                ("runs for", time(of.running)),
                ("blocked by", references(&of.blocked_by)),
                ("candidates", references(&of.candidates)),
                ("write conflicts", of.write_conflicts.to_string()),
                ("application", optional(of.application.as_deref())),
                ("client", optional(of.client.as_deref())),
                ("driver", optional(of.driver.as_deref())),
                ("member", plain(&of.member)),
                ("opid", of.opid.to_string()),
                ("blocks", format!("{} directly", report.blocked_by(entry))),
            ]
        }),
        Reference::Running(index) => report.running.get(index).map(|of| {
            vec![
                ("running", index.to_string()),
                ("command", plain(&of.command)),
                ("namespace", optional(of.namespace.as_deref())),
                ("runs for", time(of.running)),
                ("application", optional(of.application.as_deref())),
                ("client", optional(of.client.as_deref())),
                ("member", plain(&of.member)),
                ("opid", of.opid.to_string()),
                ("blocks", format!("{} directly", report.blocked_by(entry))),
            ]
        }),
    }
    .unwrap_or_default()
}

/// The keys.
pub(super) fn help(frame: &mut Frame<'_>, theme: Theme, area: Rect) {
    let lines: Vec<_> = KEYS.iter().map(|(keys, effect)| Line::raw(format!("{keys}: {effect}"))).collect();
    frame.render_widget(Clear, area);
    let pane = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(pane.block(block(" Keys ".to_owned(), theme, true)), area);
}
