//! The screen: header, members, rates, problems, lists and keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use txnscope_sidecar::live::{MemberReport, MemberStatus};

use super::app::{App, Focus, Popup};
use super::backend_text;
use super::kill_popup::draw_kill;
use super::once::{problems, status};
use super::panes::{details, help, transactions, tree};
use super::text::{counted, plain, rate};

/// From this height on, both lists are on the screen.
const BOTH_LISTS: u16 = 36;
/// From this width on, the details are beside the lists and not in front of them.
const DETAILS_BESIDE: u16 = 140;
/// From this width on, the history is beside the rates.
const HISTORY_BESIDE: u16 = 120;
/// The most lines about problems.
const MAX_PROBLEMS: usize = 4;

/// The styles, with colors only where they may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    color: bool,
}

impl Theme {
    fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn title(self) -> Style {
        self.of(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn warn(self) -> Style {
        self.of(Color::Yellow)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let theme = Theme { color: app.color };
    let lines = problem_lines(app, theme);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [head, members, rates, problems, main, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(height),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header(app, theme)), head);
    frame.render_widget(Paragraph::new(tabs(app, theme)), members);
    draw_rates(frame, app, theme, rates);
    frame.render_widget(Paragraph::new(lines), problems);
    draw_main(frame, app, theme, main);
    frame.render_widget(Paragraph::new(footer(app)), foot);
}

fn draw_main(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let beside = app.popup == Popup::Details && area.width >= DETAILS_BESIDE;
    let lists = if beside {
        let [lists, pane] = Layout::horizontal([Constraint::Fill(2), Constraint::Length(56)]).areas(area);
        details(frame, app, theme, pane);
        lists
    } else {
        area
    };
    if area.height >= BOTH_LISTS {
        let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(lists);
        transactions(frame, app, theme, above);
        tree(frame, app, theme, below);
    } else if app.focus == Focus::Transactions {
        transactions(frame, app, theme, lists);
    } else {
        tree(frame, app, theme, lists);
    }
    if let Some(popup) = &app.kill {
        draw_kill(frame, popup, theme, area);
        return;
    }
    match app.popup {
        Popup::Details if !beside => details(frame, app, theme, inner(area)),
        Popup::Help => help(frame, theme, inner(area)),
        Popup::Details | Popup::None => {}
    }
}

/// A popup leaves a part of the lists around it, if there is space.
fn inner(area: Rect) -> Rect {
    let (x, y) = (area.width / 12, area.height / 12);
    Rect { x: area.x + x, y: area.y + y, width: area.width - 2 * x, height: area.height - 2 * y }
}

fn header(app: &App, theme: Theme) -> Line<'static> {
    let set = app.report.replica_set.as_deref().map_or_else(String::new, |rs| format!(" {}", plain(rs)));
    let counts = format!(
        "  {}, {}",
        counted(app.report.transactions.len(), "open transaction"),
        counted(app.report.waiting.len(), "waiting operation")
    );
    let mut spans = vec![Span::styled(format!("txnscope top{set}"), theme.title()), Span::raw(counts)];
    if app.paused {
        spans.push(Span::styled("  PAUSED", theme.warn().add_modifier(Modifier::BOLD)));
    }
    Line::from(spans)
}

fn tabs(app: &App, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    let mut tab = |index: usize, text: String, style: Style| {
        let style = if index == app.tab { style.patch(theme.selected()) } else { style };
        spans.extend([Span::styled(format!(" {text} "), style), Span::raw(" ")]);
    };
    tab(0, "all members".to_owned(), Style::new());
    for (index, member) in app.report.members.iter().enumerate() {
        let (what, style) = match member.state {
            MemberStatus::Answers => (member.role.unwrap_or("other"), Style::new()),
            MemberStatus::Fails => ("does not answer", theme.bad()),
            MemberStatus::Connecting => (status(member), theme.warn()),
        };
        tab(index + 1, format!("{} {what}", plain(&member.member)), style);
    }
    Line::from(spans)
}

/// The members of the tab.
fn shown(app: &App) -> impl Iterator<Item = &MemberReport> {
    let only = app.member();
    app.report.members.iter().filter(move |member| only.is_none_or(|only| only == member.member))
}

fn problem_lines(app: &App, theme: Theme) -> Vec<Line<'static>> {
    let mut all: Vec<_> = shown(app).flat_map(|member| problems(&app.report, member)).collect();
    all.extend(backend_text::waits(&app.report));
    let more = all.len().saturating_sub(MAX_PROBLEMS);
    let mut lines: Vec<_> = all
        .into_iter()
        .take(MAX_PROBLEMS)
        .map(|text| Line::styled(format!("! {text}"), theme.bad()))
        .collect();
    if more > 0 {
        lines.push(Line::styled(format!("! {more} more: show one member with Tab"), theme.bad()));
    }
    lines
}

fn draw_rates(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let mut sums = [None; 4];
    for rates in shown(app).filter_map(|member| member.rates) {
        let of = [rates.commits, rates.aborts, rates.write_conflicts, rates.lock_waits];
        for (sum, rate) in sums.iter_mut().zip(of) {
            *sum = rate.map_or(*sum, |rate| Some(sum.unwrap_or(0.0) + rate));
        }
    }
    let [commits, aborts, conflicts, waits] = sums.map(rate);
    let text = format!(
        "per second: commits {commits}  aborts {aborts}  write conflicts {conflicts}  lock waits {waits}"
    );
    let history = history(app);
    if area.width < HISTORY_BESIDE || history.is_empty() {
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [left, label, right] =
        Layout::horizontal([Constraint::Length(78), Constraint::Length(18), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Paragraph::new(text), left);
    frame.render_widget(Paragraph::new("waiting, last 15m"), label);
    let last = history.len().saturating_sub(usize::from(right.width));
    frame.render_widget(Sparkline::default().data(&history[last..]).style(theme.warn()), right);
}

/// The waiting operations of the members of the tab, poll by poll, the newest last.
fn history(app: &App) -> Vec<u64> {
    let mut sums: Vec<u64> = Vec::new();
    for member in shown(app) {
        for (index, point) in member.history.points().rev().enumerate() {
            match sums.get_mut(index) {
                Some(sum) => *sum += point.waiting as u64,
                None => sums.push(point.waiting as u64),
            }
        }
    }
    sums.reverse();
    sums
}

fn footer(app: &App) -> String {
    if let Some(notice) = &app.notice {
        return plain(notice);
    }
    if app.is_typing_filter {
        return format!("filter: {}_   Enter apply  Esc clear", plain(&app.filter));
    }
    let filter = match app.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {}", plain(filter)),
    };
    let other = match app.focus {
        Focus::Transactions => "who waits",
        Focus::Tree => "transactions",
    };
    format!(
        "? help  q quit  Tab member  b {other}  Enter details  s sort: {}  / filter  p pause{filter}",
        app.sort.as_str()
    )
}
