//! Snapshots of the screen, and what the keys change.
//!
//! After a change of the layout, `TXNSCOPE_WRITE_SNAPSHOTS=1 cargo test -p txnscope-cli --lib top::` writes them again.

use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use txnscope_sidecar::live::{
    HeldLock, LiveReport, MemberReport, MemberStatus, MissingPart, Part, Rates, Reference, Transaction,
    TransactionState, WaitingOperation, WaitsFor,
};

use super::app::{App, Focus, Popup, Sort};
use super::draw::draw;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn transaction(member: &str, operation: Option<&str>, age: u64, idle: Option<u64>) -> Transaction {
    Transaction {
        member: member.to_owned(),
        operation: operation.map(str::to_owned),
        application: Some("shop".to_owned()),
        client: Some("10.0.0.7:50694".to_owned()),
        driver: Some("mongo-rust-driver 3.9.1".to_owned()),
        session: format!("6e01e4f2-0000-4000-8000-0000000000{age:02}"),
        txn_number: 7,
        started_at: None,
        state: if idle.is_some() { TransactionState::Idle } else { TransactionState::Active },
        age: seconds(age),
        idle: idle.map(seconds),
        active: Duration::from_millis(12),
        expires_in: Some(seconds(60_u64.saturating_sub(age))),
        read_concern: Some("snapshot".to_owned()),
        command: idle.is_none().then(|| "update".to_owned()),
        namespaces: vec!["shop.orders".to_owned()],
        locks: vec![HeldLock {
            resource: "collection".to_owned(),
            name: "shop.orders".to_owned(),
            mode: "IX".to_owned(),
        }],
    }
}

fn waiting(index: usize, command: &str, blocker: Reference) -> WaitingOperation {
    WaitingOperation {
        member: "db1:27017".to_owned(),
        opid: 100 + i64::try_from(index).unwrap(),
        command: command.to_owned(),
        namespace: Some("shop.orders".to_owned()),
        application: Some("shop".to_owned()),
        client: Some("10.0.0.8:40112".to_owned()),
        driver: None,
        transaction: None,
        waits_for: WaitsFor::Lock {
            resource: Some("collection".to_owned()),
            name: Some("shop.orders".to_owned()),
            mode: Some(if command == "update" { "IX" } else { "X" }.to_owned()),
        },
        waiting: seconds(12),
        running: seconds(13),
        write_conflicts: 0,
        blocked_by: vec![blocker],
        candidates: Vec::new(),
        more_blockers: 0,
    }
}

/// An idle transaction, an index build behind it, thirty writers behind that; one retried writer elsewhere; a member
/// that hangs, and one without a privilege.
fn report() -> LiveReport {
    let member = |name: &str, role, state| MemberReport {
        member: name.to_owned(),
        role,
        state,
        ..MemberReport::default()
    };
    let rates = Rates {
        starts: Some(41.0),
        commits: Some(40.25),
        aborts: Some(0.5),
        write_conflicts: Some(7.0),
        lock_waits: Some(31.0),
    };
    let mut waits = vec![waiting(0, "createIndexes", Reference::Transaction(0))];
    waits.extend((1..31).map(|index| waiting(index, "update", Reference::Waiting(0))));
    waits.push(WaitingOperation {
        namespace: Some("shop.stock".to_owned()),
        waits_for: WaitsFor::Document,
        write_conflicts: 4_003,
        blocked_by: Vec::new(),
        candidates: vec![Reference::Transaction(1), Reference::Transaction(2)],
        ..waiting(31, "update", Reference::Waiting(0))
    });
    LiveReport {
        replica_set: Some("rs0".to_owned()),
        members: vec![
            MemberReport {
                rates: Some(rates),
                open_transactions: Some(3),
                missing: vec![MissingPart {
                    part: Part::OperationNames,
                    message: "no answer within 500ms".to_owned(),
                }],
                ..member("db1:27017", Some("primary"), MemberStatus::Answers)
            },
            MemberReport {
                error: Some("it did not answer within 3s: check whether it hangs".to_owned()),
                answered_ago: Some(seconds(9)),
                ..member("db2:27017", Some("secondary"), MemberStatus::Fails)
            },
            member("db3:27017", None, MemberStatus::Connecting),
        ],
        transactions: vec![
            transaction("db1:27017", Some("POST /orders"), 24, Some(24)),
            transaction("db1:27017", None, 3, None),
            transaction("db1:27017", Some("nightly\u{1b}[2Jjob"), 1, Some(0)),
        ],
        waiting: waits,
        ..LiveReport::default()
    }
}

#[test]
fn conflicts_with_an_idle_transaction_are_a_problem_with_its_name() {
    let mut report = report();
    report.members[0].conflict_candidates = vec![Reference::Transaction(0), Reference::Transaction(2)];
    let problems = super::once::problems(&report, &report.members[0]);
    let expected = "db1:27017: 7.0 write conflicts per second abort transactions, probably because of POST /orders (shop) \
                    (transaction 0, idle for 24 s) or another one";
    assert!(problems.contains(&expected.to_owned()), "{problems:#?}");
}

#[test]
fn operations_of_an_arbiter_alone_leave_open_transactions_unknown() {
    let member = |role, missing| MemberReport {
        role: Some(role),
        state: MemberStatus::Answers,
        missing,
        ..MemberReport::default()
    };
    let denied = || vec![MissingPart { part: Part::Operations, message: "not allowed".to_owned() }];
    let of = |members| {
        let report = LiveReport { members, ..LiveReport::default() };
        (super::once::shows_operations(&report), super::once::render(super::args::Format::Table, &report))
    };
    let (shown, text) = of(vec![member("primary", denied()), member("arbiter", Vec::new())]);
    assert!(!shown && text.contains("is unknown"), "{text}");
    let (shown, text) = of(vec![member("primary", Vec::new()), member("arbiter", denied())]);
    assert!(shown && text.ends_with("\nNo transaction is open, and no operation waits.\n"), "{text}");
    let (shown, text) = of(vec![member("primary", Vec::new()), member("secondary", denied())]);
    assert!(shown && text.ends_with("on the members that show their operations.\n"), "{text}");
}

fn app() -> App {
    let mut app = App::new(true);
    app.update(report());
    app
}

fn press(app: &mut App, codes: &[KeyCode]) {
    for code in codes {
        app.press(KeyEvent::new(*code, KeyModifiers::NONE));
    }
}

fn drawn(app: &App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let terminal = drawn(app, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn assert_snapshot(name: &str, app: &App, width: u16, height: u16) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/commands/top/snapshots/{name}.txt"));
    let now = screen(app, width, height);
    if std::env::var_os("TXNSCOPE_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(now, expected, "{} differs; the screen is now\n{now}", path.display());
}

#[test]
fn narrow_screen_shows_one_list() {
    let mut app = app();
    assert_snapshot("transactions-80x24", &app, 80, 24);
    press(&mut app, &[KeyCode::Char('b')]);
    assert_snapshot("tree-80x24", &app, 80, 24);
}

#[test]
fn wide_screen_shows_both_lists_and_details_beside() {
    let mut app = app();
    assert_snapshot("both-200x50", &app, 200, 50);
    press(&mut app, &[KeyCode::Enter]);
    assert_snapshot("details-200x50", &app, 200, 50);
}

/// The row of a screen that is selected, and the number of transactions on it.
fn selected_row(app: &App) -> (String, usize) {
    let (width, height) = (80, 24);
    let terminal = drawn(app, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let is_selected = |y: &u16| buffer[(1, *y)].modifier.contains(ratatui::style::Modifier::REVERSED);
    let rows = (0..height).map(line).filter(|line| line.contains("POST /")).count();
    ((5..height).find(is_selected).map(line).expect("a row is selected"), rows)
}

#[test]
fn long_list_shows_the_selected_row() {
    let mut app = app();
    let mut report = report();
    report.transactions = (0..1_000)
        .map(|index| transaction("db1:27017", Some(&format!("POST /{index:04}")), 9_000 - index, None))
        .collect();
    app.update(report);
    let all = selected_row(&app).1;
    for (keys, expected) in [
        (vec![KeyCode::Home], "POST /0000"),
        (vec![KeyCode::Down; 30], "POST /0030"),
        (vec![KeyCode::End], "POST /0999"),
        (vec![KeyCode::Up], "POST /0998"),
        (vec![KeyCode::PageUp; 90], "POST /0098"),
    ] {
        press(&mut app, &keys);
        let (row, rows) = selected_row(&app);
        assert!(row.contains(expected), "{row}");
        assert!(rows == all && rows > 10, "{rows} rows and before {all}");
    }
}

#[test]
fn help_and_details_are_in_front_of_the_lists() {
    let mut app = app();
    press(&mut app, &[KeyCode::Enter]);
    assert_snapshot("details-80x24", &app, 80, 24);
    press(&mut app, &[KeyCode::Char('?')]);
    assert_snapshot("help-80x24", &app, 80, 24);
    press(&mut app, &[KeyCode::Esc]);
    assert_eq!(app.popup, Popup::None);
}

#[test]
fn tiny_screens_do_not_panic() {
    let mut app = app();
    for (width, height) in [(1, 1), (3, 2), (10, 4), (20, 7), (200, 3)] {
        for key in ['b', '?', 'b'] {
            press(&mut app, &[KeyCode::Char(key)]);
            screen(&app, width, height);
        }
    }
}

#[test]
fn screen_has_no_color_if_none_may_be_used() {
    let colors = |color| {
        let mut app = app();
        app.color = color;
        let terminal = drawn(&app, 200, 50);
        terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(colors(true) && !colors(false));
}

#[test]
fn server_text_is_escaped() {
    let text = screen(&app(), 200, 50);
    assert!(text.contains("nightly\\u001b[2Jjob") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn filter_is_typed_and_cleared() {
    let mut app = app();
    press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Backspace]);
    assert!(!app.quit && app.is_typing_filter, "a letter of the filter is no command");
    press(&mut app, &"NIGHTLY".chars().map(KeyCode::Char).collect::<Vec<_>>());
    press(&mut app, &[KeyCode::Enter]);
    assert_eq!(app.rows().len(), 1);
    assert_eq!(app.selected_entry(), Some(Reference::Transaction(2)));
    press(&mut app, &[KeyCode::Char('b')]);
    assert_eq!(app.rows().len(), 0, "no tree has it");
    press(&mut app, &[KeyCode::Esc, KeyCode::Char('q')]);
    assert!(app.filter.is_empty() && app.quit);
}

#[test]
fn order_of_transactions_is_chosen() {
    let mut app = app();
    let order = |app: &App| app.rows().iter().filter_map(super::rows::Row::entry).collect::<Vec<_>>();
    let of = |indices: [usize; 3]| indices.map(Reference::Transaction).to_vec();
    assert_eq!((app.sort, order(&app)), (Sort::Age, of([0, 1, 2])));
    press(&mut app, &[KeyCode::Char('s')]);
    assert_eq!((app.sort, order(&app)), (Sort::Idle, of([0, 1, 2])));
    press(&mut app, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!((app.sort, order(&app)), (Sort::Operation, of([0, 2, 1])));
}

#[test]
fn members_are_tabs() {
    let mut app = app();
    press(&mut app, &[KeyCode::Tab]);
    assert_eq!((app.member(), app.rows().len()), (Some("db1:27017"), 3));
    press(&mut app, &[KeyCode::Tab]);
    assert_eq!((app.member(), app.rows().len()), (Some("db2:27017"), 0));
    press(&mut app, &[KeyCode::Tab, KeyCode::Tab]);
    assert_eq!(app.member(), None);
    press(&mut app, &[KeyCode::BackTab]);
    assert_eq!(app.member(), Some("db3:27017"));
    let mut fewer = report();
    fewer.members.truncate(1);
    app.update(fewer);
    assert_eq!(app.member(), Some("db1:27017"), "the member has left");
}

#[test]
fn selection_stays_on_its_transaction_and_pause_keeps_the_report() {
    let mut app = app();
    press(&mut app, &[KeyCode::Down]);
    assert_eq!(app.selected_entry(), Some(Reference::Transaction(1)));
    let mut later = report();
    later.transactions.remove(0);
    later.waiting.clear();
    app.update(later.clone());
    assert_eq!((app.selected, app.selected_entry()), (0, Some(Reference::Transaction(0))));
    press(&mut app, &[KeyCode::Char('p')]);
    app.update(report());
    assert_eq!(app.report, later);
    press(&mut app, &[KeyCode::Char(' '), KeyCode::Char('b')]);
    app.update(report());
    assert_eq!((app.focus, app.rows().len()), (Focus::Tree, 4));
}

fn type_text(app: &mut App, text: &str) {
    press(app, &text.chars().map(KeyCode::Char).collect::<Vec<_>>());
}

#[test]
fn key_to_end_is_off_unless_allowed() {
    let mut app = app();
    press(&mut app, &[KeyCode::Char('K')]);
    assert!(app.kill.is_none() && screen(&app, 200, 50).contains("start `txnscope top --allow-kill`"));
    press(&mut app, &[KeyCode::Down]);
    assert_eq!(app.notice, None, "the next key takes the message away");
}

#[test]
fn transaction_is_ended_only_after_the_word_is_typed() {
    let mut app = app();
    app.allow_kill = true;
    press(&mut app, &[KeyCode::Char('K')]);
    assert_snapshot("kill-80x24", &app, 80, 24);
    type_text(&mut app, "yes");
    press(&mut app, &[KeyCode::Enter]);
    assert_eq!(app.to_end, None, "another word is no confirmation");
    press(&mut app, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Backspace]);
    // A report that comes meanwhile does not change what was chosen.
    let mut later = report();
    later.transactions.remove(0);
    app.update(later);
    type_text(&mut app, "end");
    assert_eq!(app.to_end, None);
    press(&mut app, &[KeyCode::Enter]);
    assert_eq!(app.to_end.take(), Some(report().transactions[0].clone()));
    type_text(&mut app, "q");
    press(&mut app, &[KeyCode::Esc, KeyCode::Enter]);
    assert!(app.kill.is_some() && !app.quit && app.to_end.is_none(), "it waits for the answer");
    app.show_ended("it is over".to_owned());
    assert!(screen(&app, 80, 24).contains("it is over. Esc closes"));
    press(&mut app, &[KeyCode::Esc]);
    assert!(app.kill.is_none());
}

#[test]
fn question_can_be_cancelled_and_is_only_asked_about_transactions() {
    let mut app = app();
    app.allow_kill = true;
    press(&mut app, &[KeyCode::Char('K'), KeyCode::Char('e'), KeyCode::Esc]);
    assert!(app.kill.is_none() && app.to_end.is_none());
    press(&mut app, &[KeyCode::Char('b'), KeyCode::Down, KeyCode::Char('K')]);
    assert!(app.kill.is_none() && app.notice.as_deref().unwrap().contains("select a transaction"));
    let mut prepared = report();
    prepared.transactions[0].state = TransactionState::Prepared;
    app.update(prepared);
    press(&mut app, &[KeyCode::Up, KeyCode::Char('K')]);
    assert!(app.kill.is_none() && app.notice.as_deref().unwrap().contains("is prepared"));
}
