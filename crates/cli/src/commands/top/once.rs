//! The report as JSON and as tables.

use txnscope_sidecar::live::{LiveReport, MemberReport, MemberStatus, Part, Reference, blocker_tree};

use super::args::Format;
use super::backend_text;
use super::text::{
    name, namespaces, optional, optional_time, plain, rate, references, state, time, tree_row, waits_for,
};
use crate::output::{grouped, table};

pub(super) fn render(format: Format, report: &LiveReport) -> String {
    match format {
        // Names of fields are text, and numbers are finite: nothing can fail.
        Format::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        Format::Table => tables(report),
    }
}

fn tables(report: &LiveReport) -> String {
    let mut text = table(&members(report));
    for member in &report.members {
        for problem in problems(report, member) {
            text.push_str(&format!("! {problem}\n"));
        }
    }
    for wait in backend_text::waits(report) {
        text.push_str(&format!("! {wait}\n"));
    }
    if report.transactions.is_empty() && report.waiting.is_empty() {
        return text + "\n" + nothing_listed(report) + "\n";
    }
    if !report.transactions.is_empty() {
        text.push_str(&format!("\n{}", table(&transactions(report))));
    }
    if !report.waiting.is_empty() {
        text.push_str(&format!("\n{}\nWho waits for whom\n", table(&waiting(report))));
        for row in blocker_tree(report) {
            text.push_str(&format!("{}\n", tree_row(report, &row)));
        }
    }
    text
}

/// Why the lists are empty: a member that does not show its operations may have some.
fn nothing_listed(report: &LiveReport) -> &'static str {
    if !shows_operations(report) {
        return "Whether transactions are open is unknown: no member shows its operations.";
    }
    match members_with_data(report).all(is_shown) {
        true => "No transaction is open, and no operation waits.",
        false => "No transaction is open, and no operation waits, on the members that show their operations.",
    }
}

/// Whether a member shows the operations of all users.
pub(super) fn shows_operations(report: &LiveReport) -> bool {
    members_with_data(report).any(is_shown)
}

/// All members but arbiters, which have no transactions to show.
fn members_with_data(report: &LiveReport) -> impl Iterator<Item = &MemberReport> {
    report.members.iter().filter(|member| member.role != Some("arbiter"))
}

fn is_shown(member: &MemberReport) -> bool {
    member.state == MemberStatus::Answers
        && member.missing.iter().all(|missing| missing.part != Part::Operations)
}

/// What is wrong on a member, each on one line: what it does not report, and conflicts with a probable cause.
pub(super) fn problems(report: &LiveReport, member: &MemberReport) -> Vec<String> {
    let address = plain(&member.member);
    let mut problems = Vec::new();
    if let Some(error) = &member.error {
        let ago = member.answered_ago.map(|ago| format!(" (last answer {} ago)", time(ago)));
        problems.push(format!("{address}: {}{}", plain(error), ago.unwrap_or_default()));
    }
    if member.state == MemberStatus::Answers {
        problems.extend(member.missing.iter().map(|missing| {
            format!("{address}: {}: {}", missing.part.as_str().replace('_', " "), plain(&missing.message))
        }));
        if member.truncated {
            problems.push(format!(
                "{address}: it has more operations than are shown, the oldest and the waiting ones"
            ));
        }
        problems.extend(conflicts(report, member).map(|text| format!("{address}: {text}")));
    }
    problems
}

/// Transactions that abort because of an idle one, whose writers wait for nothing.
fn conflicts(report: &LiveReport, member: &MemberReport) -> Option<String> {
    let (first, others) = member.conflict_candidates.split_first()?;
    let Reference::Transaction(index) = *first else { return None };
    let oldest = report.transactions.get(index)?;
    let others = match others.len() {
        0 => String::new(),
        1 => " or another one".to_owned(),
        others => format!(" or one of {others} others"),
    };
    let conflicts = rate(member.rates?.write_conflicts);
    let idle = optional_time(oldest.idle);
    Some(format!(
        "{conflicts} write conflicts per second abort transactions, probably because of {} (transaction {index}, idle for {idle}){others}",
        name(oldest)
    ))
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn status(member: &MemberReport) -> &'static str {
    match member.state {
        MemberStatus::Answers => "answers",
        MemberStatus::Fails => "fails",
        MemberStatus::Connecting => "connecting",
    }
}

fn members(report: &LiveReport) -> Vec<Vec<String>> {
    let mut rows = vec![head(&[
        "MEMBER",
        "ROLE",
        "STATE",
        "OPEN",
        "COMMITS/S",
        "ABORTS/S",
        "WRITE CONFLICTS/S",
        "LOCK WAITS/S",
    ])];
    for member in &report.members {
        let rates = member.rates.unwrap_or_default();
        rows.push(vec![
            member.member.clone(),
            member.role.unwrap_or("-").to_owned(),
            status(member).to_owned(),
            member.open_transactions.map_or_else(|| "-".to_owned(), grouped),
            rate(rates.commits),
            rate(rates.aborts),
            rate(rates.write_conflicts),
            rate(rates.lock_waits),
        ]);
    }
    rows
}

fn transactions(report: &LiveReport) -> Vec<Vec<String>> {
    let mut rows = vec![head(&[
        "TRANSACTION",
        "AGE",
        "IDLE",
        "ENDS IN",
        "STATE",
        "NAME",
        "NAMESPACES",
        "CLIENT",
        "MEMBER",
    ])];
    for (index, transaction) in report.transactions.iter().enumerate() {
        rows.push(vec![
            index.to_string(),
            time(transaction.age),
            optional_time(transaction.idle),
            optional_time(transaction.expires_in),
            state(transaction),
            name(transaction),
            namespaces(transaction),
            optional(transaction.client.as_deref()),
            transaction.member.clone(),
        ]);
    }
    rows
}

fn waiting(report: &LiveReport) -> Vec<Vec<String>> {
    let mut rows =
        vec![head(&["WAITING", "FOR", "COMMAND", "NAMESPACE", "WAITS FOR", "BLOCKED BY", "CANDIDATES"])];
    for (index, waiting) in report.waiting.iter().enumerate() {
        rows.push(vec![
            index.to_string(),
            time(waiting.waiting),
            waiting.command.clone(),
            optional(waiting.namespace.as_deref()),
            waits_for(waiting),
            references(&waiting.blocked_by),
            references(&waiting.candidates),
        ]);
    }
    rows
}
