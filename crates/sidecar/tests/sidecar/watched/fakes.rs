//! Fake members, and helpers to read their metrics.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use testkit::fake_member::{error_reply, hello_reply, is_hello};
use testkit::{FakeMember, Scrape};

pub(crate) const STATE: &str = "mongodb_replication_member_state";
pub(crate) const ERRORS: &str = "txnscope_poll_errors_total";
pub(crate) const SUCCESS: &str = "txnscope_poll_success";
pub(crate) const MISMATCH: (&str, &str) = ("reason", "identity_mismatch");

/// The `hello` reply of a member of the set `rs0`, with a role.
pub(crate) fn member(me: &str, hosts: &[&str], role: &str) -> Document {
    member_of("rs0", me, hosts, role)
}

pub(crate) fn member_of(set: &str, me: &str, hosts: &[&str], role: &str) -> Document {
    let process = ObjectId::new();
    doc! {
        "setName": set, "setVersion": 1, "me": me, "hosts": hosts.to_vec(),
        "isWritablePrimary": role == "primary", "ismaster": role == "primary", "secondary": role == "secondary",
        "topologyVersion": {"processId": process, "counter": 1_i64},
    }
}

/// The replies of a healthy member with this `hello` reply and state.
pub(crate) fn healthy(
    who: Document,
    state: i32,
) -> impl Fn(&str, &Document) -> Option<Document> + Clone + Send + Sync {
    move |command, _| {
        let mut repl = who.clone();
        repl.insert("rbid", 1);
        let me = who.get_str("me").unwrap_or_default();
        Some(match command {
            command if is_hello(command) => hello_reply(who.clone()),
            "serverStatus" => doc! {
                "ok": 1.0, "version": "6.0.5", "process": "mongod", "uptimeMillis": 1_000_i64, "repl": repl,
                "transactions": {
                    "totalStarted": 7_i64, "totalCommitted": 6_i64, "totalAborted": 1_i64,
                    "currentActive": 0_i64, "currentInactive": 0_i64, "currentOpen": 0_i64,
                },
                "electionMetrics": {"numStepDownsCausedByHigherTerm": 3_i64},
            },
            "replSetGetStatus" => doc! {
                "ok": 1.0, "set": "rs0", "myState": state, "term": 1_i64,
                "members": [{"name": me, "health": 1.0, "state": state, "self": true}],
            },
            "aggregate" => {
                doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": "admin.$cmd.aggregate", "firstBatch": []}}
            }
            "getParameter" => doc! {"ok": 1.0, "transactionLifetimeLimitSeconds": 60},
            "endSessions" => doc! {"ok": 1.0},
            other => error_reply(59, "CommandNotFound", &format!("no such command: '{other}'")),
        })
    }
}

/// A fake member that is the only one of the set `rs0`, and its primary.
pub(crate) async fn primary() -> (FakeMember, Document) {
    let fake = FakeMember::start().await.unwrap();
    let address = fake.address();
    let who = member(&address, &[&address], "primary");
    fake.answer(healthy(who.clone(), 1));
    (fake, who)
}

/// The states that the page has for the member.
pub(crate) fn states(page: &Scrape, member: &str) -> Vec<String> {
    let of = [("member", member)];
    let shown = page.matching(STATE, &of).filter(|series| series.value == 1.0);
    shown.map(|series| series.labels["state"].clone()).collect()
}

/// Whether the page shows the member as up; `None` if it is missing.
pub(crate) fn up(page: &Scrape, member: &str) -> Option<f64> {
    page.value("mongodb_up", &[("member", member)])
}

/// The number of collectors of the member whose last poll succeeded.
pub(crate) fn succeed(page: &Scrape, member: &str) -> f64 {
    page.sum(SUCCESS, &[("member", member)])
}

/// Whether the page has any number from the member itself.
pub(crate) fn has_numbers(page: &Scrape, member: &str) -> bool {
    let of = [("member", member)];
    [
        "mongodb_info",
        "mongodb_transactions_started_total",
        STATE,
        "mongodb_transaction_lifetime_limit_seconds",
    ]
    .iter()
    .any(|name| page.matching(name, &of).next().is_some())
}
