//! Mutation tests of the audit: every counter of a consistent set is changed by one, and the audit must report it.

mod case;
mod page;
mod rows;

use txnscope_catalog as catalog;

use self::case::{CONSUME, Case};
use self::page::Page;
use self::rows::ROWS;
use crate::counters::{Server, at_rest};
use crate::expectations::{nothing_missing, nothing_stale, untrue};

const MEMBER: &str = "127.0.0.1:27017";

/// The counters of a member that are compared with others.
const FIELDS: [fn(&mut Server) -> &mut f64; 3] =
    [|server| &mut server.started, |server| &mut server.committed, |server| &mut server.aborted];

#[test]
fn audit_detects_every_counter_off_by_one() {
    assert!(Case::right().audit().is_empty(), "{:#?}", Case::right().audit());
    let numbers = Case::right().page.numbers().count();
    for by in [1.0, -1.0] {
        let made_wrong = |change: &dyn Fn(&mut Case)| {
            let mut case = Case::right();
            change(&mut case);
            case.audit()
        };
        for index in 0..numbers {
            let complaints = made_wrong(&|case| *case.page.numbers().nth(index).unwrap() += by);
            assert!(!complaints.is_empty(), "number {index} of the page, by {by}");
        }
        for server in 0..2 {
            for field in FIELDS {
                let complaints = made_wrong(&|case| *field(&mut case.servers[server]) += by);
                assert!(!complaints.is_empty(), "server {server}, by {by}");
            }
        }
        assert!(!made_wrong(&|case| case.movements += by).is_empty(), "movements, by {by}");
    }
    for answer in Case::right().answers.keys() {
        let mut case = Case::right();
        *case.answers.get_mut(answer).unwrap() -= 1;
        assert!(!case.audit().is_empty(), "{answer:?}");
    }
}

#[test]
fn audit_reports_exactly_the_wrong_counter() {
    for (what, change, wanted) in ROWS {
        let mut case = Case::right();
        change(&mut case);
        let complaints = case.audit();
        match wanted {
            Some(wanted) => {
                assert!(complaints.iter().any(|line| line.contains(wanted)), "{what}: {complaints:#?}");
            }
            None => assert!(complaints.is_empty(), "{what}: {complaints:#?}"),
        }
    }
}

#[test]
fn audit_detects_operations_in_flight() {
    let right = Case::right();
    at_rest(&right.page.read(), &right.servers).unwrap();
    for gauge in [
        catalog::CONCURRENT_OPERATIONS,
        catalog::CLIENT_TRANSACTIONS_OPEN,
        catalog::CLIENT_TRANSACTION_QUEUED,
    ] {
        let mut case = Case::right();
        case.counted(gauge, &[("operation", CONSUME)], 1.0);
        let left = at_rest(&case.page.read(), &case.servers).unwrap_err();
        assert_eq!(left.to_string(), format!("{} is 1", gauge.name));
    }
    let mut case = Case::right();
    case.servers[1].open = 1.0;
    let left = at_rest(&case.page.read(), &case.servers).unwrap_err();
    assert_eq!(left.to_string(), "1 transactions are open on the server");
}

/// A correct page of the sidecar, and the member that it describes.
fn sidecar() -> (Page, Server) {
    let server = Server { started: 7.0, committed: 4.0, aborted: 3.0, open: 0.0 };
    let mut page = Page::default();
    let of = ("member", MEMBER);
    page.add(catalog::MONGODB_UP, &[of], 1.0);
    page.add(catalog::MONGODB_TRANSACTIONS_STARTED, &[of], server.started);
    page.add(catalog::MONGODB_TRANSACTIONS_COMMITTED, &[of], server.committed);
    page.add(catalog::MONGODB_TRANSACTIONS_ABORTED, &[of], server.aborted);
    for state in ["active", "inactive"] {
        page.add(catalog::MONGODB_TRANSACTIONS_OPEN, &[of, ("state", state)], 0.0);
    }
    page.add(catalog::MONGODB_REPLICATION_MEMBER_STATE, &[of, ("state", "primary")], 1.0);
    (page, server)
}

#[test]
fn audit_detects_wrong_or_missing_sidecar_values() {
    let (page, server) = sidecar();
    let untrue = |page: &Page| untrue(&page.read(), MEMBER, server, "primary");
    assert!(untrue(&page).is_empty());
    for (name, (_, series)) in &page.0 {
        for labels in series.keys() {
            for by in [1.0, -1.0] {
                let mut wrong = page.clone();
                *wrong.0.get_mut(name).unwrap().1.get_mut(labels).unwrap() += by;
                assert!(untrue(&wrong).iter().any(|line| line.contains(name)), "{name}{labels} by {by}");
            }
        }
        let mut lacking = page.clone();
        lacking.0.remove(name);
        assert!(untrue(&lacking).iter().any(|line| line.contains(name)), "no {name}");
    }
}

#[test]
fn audit_detects_stale_and_missing_values() {
    let members = [MEMBER.to_owned()];
    let of = [("member", MEMBER), ("collector", "server_status")];
    for (age, stale) in [(0.4, false), (1.6, true), (7_200.0, true)] {
        let (mut page, _) = sidecar();
        page.add(catalog::TXNSCOPE_POLL_AGE, &of, age);
        page.add(catalog::TXNSCOPE_POLL_SUCCESS, &of, 1.0);
        assert_eq!(nothing_stale(&page.read(), &members).is_err(), stale, "{age}");
        nothing_missing(&page.read(), &members).unwrap();
        for lacking in [catalog::MONGODB_UP, catalog::MONGODB_TRANSACTIONS_STARTED] {
            let mut page = page.clone();
            page.0.remove(lacking.name);
            assert_eq!(nothing_missing(&page.read(), &members).is_err(), !stale, "{age}, {}", lacking.name);
            // The remaining value is reported as unexpected.
            assert_eq!(nothing_stale(&page.read(), &members).is_err(), stale, "{age}, {}", lacking.name);
        }
    }
}
