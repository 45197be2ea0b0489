//! `txnscope repair`: recomputes derived fields, and undoes repairs.

mod args;

use std::fmt::Write as _;

use anyhow::bail;
use clap::ArgMatches;
use mongodb::Client;
use mongodb::bson::{Bson, doc};
use txnscope_catalog::{Line, escape_line};
use txnscope_checks::repair::{
    PlanOptions, Repair, RepairOutcome, RepairPlan, RepairRecord, Repairer, Step, StoredRecord, UndoOptions,
    UndoSelector, UnknownId, plan_with, records, undo_with,
};
use txnscope_checks::{Check, Checks, Failure, Reason, Rule, extended_json};

pub(crate) use self::args::RepairArgs;
use crate::args::checks::privilege_hint;
use crate::args::exit_status::ExitStatus;
use crate::client::mongodb::connect_with_checks;
use crate::config::checks::AUDIT_COLLECTION;
use crate::output::{confirm, print, report_result};
use crate::runtime::{block_on, user_at_host};

pub(crate) fn run(args: &RepairArgs, matches: &ArgMatches) -> ExitStatus {
    report_result(block_on(repair_or_undo(args, matches)))
}

async fn repair_or_undo(args: &RepairArgs, matches: &ArgMatches) -> anyhow::Result<ExitStatus> {
    let (client, checks) = connect_with_checks(&args.checks, matches).await?;
    let derived: Vec<_> = checks.iter().filter(|check| matches!(check.rule, Rule::Derived(_))).collect();
    if derived.is_empty() {
        bail!("none of these checks has a derived field, and nothing else can be recomputed");
    }
    match args.undo.map(UndoSelector::Record).or(args.run.map(UndoSelector::Run)) {
        Some(which) => undo(args, &client, &checks, which).await,
        None => repair(args, &client, &derived).await,
    }
}

/// The author for the repair records: `ann@host`.
fn author(args: &RepairArgs) -> String {
    args.author.clone().unwrap_or_else(user_at_host)
}

// ===== Repair =====

async fn repair(args: &RepairArgs, client: &Client, checks: &[&Check]) -> anyhow::Result<ExitStatus> {
    let options = PlanOptions::new(args.limit).ids(&args.id).empty_inputs(args.allow_empty_inputs);
    let mut plans = Vec::new();
    for check in checks {
        let plan =
            plan_with(client, check, &options).await.map_err(|failure| check_error(check, &failure))?;
        print(&render_plan(check, &plan))?;
        plans.push((*check, plan));
    }
    reject_unknown_ids(&plans)?;
    let possible = |(_, plan): &(&Check, RepairPlan)| {
        plan.steps.iter().filter(|step| matches!(step.repair, Repair::Set(_))).count()
    };
    let (steps, possible): (usize, usize) =
        (plans.iter().map(|(_, plan)| plan.steps.len()).sum(), plans.iter().map(possible).sum());
    if steps == 0 {
        print("nothing to repair\n")?;
        return Ok(ExitStatus::Success);
    }
    if !args.apply {
        print(&format!(
            "{possible} of {steps} can be repaired; nothing was changed: --apply applies the repairs\n"
        ))?;
        return Ok(ExitStatus::Failure);
    }
    if possible == 0 || !confirm(&format!("Set {possible} fields as shown?"), args.yes)? {
        print("nothing was changed\n")?;
        return Ok(ExitStatus::Failure);
    }
    apply(args, client, &plans).await
}

/// Rejects an id that no document of any of the collections has: a misspelled id would go unnoticed.
fn reject_unknown_ids(plans: &[(&Check, RepairPlan)]) -> anyhow::Result<()> {
    let Some((check, first)) = plans.first() else { return Ok(()) };
    let is_unknown_everywhere = |unknown: &&UnknownId| {
        plans.iter().all(|(_, plan)| plan.unknown.iter().any(|other| other.id == unknown.id))
    };
    let Some(unknown) = first.unknown.iter().find(is_unknown_everywhere) else { return Ok(()) };
    let collections = match plans.len() {
        1 => format!("no document of {}", check.collection),
        _ => "no document of the collections of these checks".to_owned(),
    };
    let meant = plans.iter().flat_map(|(_, plan)| &plan.unknown);
    let meant = meant.filter(|other| other.id == unknown.id).find_map(|other| other.suggestion.as_ref());
    let hint = match meant {
        Some(meant) => format!("did you mean --id='{}'?", value(Some(meant))),
        None => "give a string in double quotes, and any other id as Extended JSON".to_owned(),
    };
    bail!("{collections} has the _id {}: {hint}", value(Some(&unknown.id)))
}

async fn apply(
    args: &RepairArgs,
    client: &Client,
    plans: &[(&Check, RepairPlan)],
) -> anyhow::Result<ExitStatus> {
    let (author, mut made, mut left) = (author(args), 0, 0);
    for (check, plan) in plans.iter().filter(|(_, plan)| !plan.steps.is_empty()) {
        let repairer = Repairer::connect(client, &check.database, &args.audit_collection, &author).await;
        let repairer = repairer.map_err(|failure| check_error(check, &failure))?;
        for step in &plan.steps {
            let id = value(Some(&step.id));
            let message = match repairer.repair(check, step).await {
                Ok(RepairOutcome::Done(record)) => {
                    made += 1;
                    format!("{} {id}: set, record {}\n", check.name, record.id)
                }
                Ok(RepairOutcome::Changed) => {
                    left += 1;
                    format!("{} {id}: left alone, it has changed since it was read; run again\n", check.name)
                }
                Ok(RepairOutcome::Refused(why)) => {
                    left += 1;
                    format!("{} {id}: left alone: {why}\n", check.name)
                }
                Err(failure) => {
                    print(&format!(
                        "{made} were set before the failure; to undo them: {}\n",
                        undo_command(args, &repairer)
                    ))?;
                    return Err(check_error(check, &failure));
                }
            };
            print(&message)?;
        }
        left += usize::from(plan.more);
        print(&format!(
            "recorded in {}.{}; to undo all of it: {}\n",
            check.database,
            args.audit_collection,
            undo_command(args, &repairer)
        ))?;
    }
    print(&format!("{made} set, {left} left alone\n"))?;
    Ok(if left == 0 { ExitStatus::Success } else { ExitStatus::Failure })
}

/// The command that undoes a run, with the files that it needs.
fn undo_command(args: &RepairArgs, repairer: &Repairer) -> String {
    let mut command = format!("txnscope repair{}", args.checks.flags_again());
    if args.audit_collection != AUDIT_COLLECTION {
        command += &format!(" --audit-collection='{}'", escape_line(&args.audit_collection));
    }
    format!("{command} --run={}", repairer.run())
}

fn check_error(check: &Check, failure: &Failure) -> anyhow::Error {
    let hint = privilege_hint(failure.reason, true);
    anyhow::anyhow!("{}: {} ({}){hint}", check.name, failure, failure.reason.as_str())
}

fn value(value: Option<&Bson>) -> String {
    value.map_or_else(|| "(missing)".to_owned(), extended_json)
}

/// The maximum length of a value of a plan or a record, in characters; `--output` of an audit prints whole values.
const MAX_VALUE_LENGTH: usize = 400;

fn render_plan(check: &Check, plan: &RepairPlan) -> String {
    let Rule::Derived(derived) = &check.rule else { return String::new() };
    let mut text = String::new();
    for Step { id, actual, inputs, repair, .. } in &plan.steps {
        let _ = writeln!(text, "{} {}", check.name, value(Some(id)));
        let _ = writeln!(text, "  {}: {}", derived.field, value(actual.as_ref()));
        match repair {
            Repair::Set(set) => _ = writeln!(text, "  should be: {}", value(Some(set))),
            Repair::Impossible(why) => _ = writeln!(text, "  cannot be recomputed: {why}"),
        }
        for trace in inputs {
            let _ = writeln!(text, "  from {}: {}", escape_line(&trace.path), short(trace.value.as_ref()));
        }
    }
    if plan.more {
        let _ = writeln!(text, "{}: there are more; raise --limit to repair more at once", check.name);
    }
    text
}

// ===== Undo =====

/// A record that agrees with its check, so that it can be undone.
struct Undoable<'a> {
    repairer: Repairer,
    check: &'a Check,
    record: Box<RepairRecord>,
}

async fn undo(
    args: &RepairArgs,
    client: &Client,
    checks: &Checks,
    which: UndoSelector,
) -> anyhow::Result<ExitStatus> {
    let mut databases: Vec<_> = checks.iter().map(|check| check.database.clone()).collect();
    databases.sort_unstable();
    databases.dedup();
    let (author, mut undoable, mut refused) = (author(args), Vec::new(), 0_usize);
    let options = UndoOptions::new().any_value(args.allow_any_value);
    for database in databases {
        let repairer = Repairer::connect(client, &database, &args.audit_collection, &author).await?;
        for stored in records(&repairer, which).await? {
            let (text, undo) = match stored {
                StoredRecord::Readable(record) => {
                    let text = render_record(&record);
                    let check = repairer.check_of(checks, &record, options);
                    (text, check.map(|check| Undoable { repairer: repairer.clone(), check, record }))
                }
                StoredRecord::Malformed { id, why, .. } => (format!("{}\n", short(Some(&id))), Err(why)),
                _ => continue,
            };
            print(&text)?;
            match undo {
                Ok(record) => undoable.push(record),
                Err(why) => {
                    refused += 1;
                    print(&format!("  refused, this record is not trusted: {why}\n"))?;
                }
            }
        }
    }
    if undoable.is_empty() && refused == 0 {
        bail!(
            "there is no record of this repair in the databases of these checks, in the collection {}",
            escape_line(&args.audit_collection)
        );
    }
    if undoable.is_empty() {
        bail!("nothing was changed: these records contradict the checks. Find out what wrote them");
    }
    if !confirm(&format!("Restore {} fields as shown?", undoable.len()), args.yes)? {
        print("nothing was changed\n")?;
        return Ok(ExitStatus::Failure);
    }
    let mut left = refused;
    for Undoable { repairer, check, record } in &undoable {
        let document = short(Some(&record.document));
        let reason = match undo_with(repairer, check, record, options).await {
            Ok(RepairOutcome::Done(undoing)) => {
                print(&format!("{document}: restored, record {}\n", undoing.id))?;
                continue;
            }
            Ok(RepairOutcome::Changed) => "it has changed since the repair".to_owned(),
            Ok(RepairOutcome::Refused(why)) => why,
            Err(failure) if affects_all_records(failure.reason) => return Err(check_error(check, &failure)),
            // The server rejected this record only; the others may still be restored.
            Err(failure) => failure.to_string(),
        };
        left += 1;
        print(&format!("{document}: left alone: {}\n", escape_line(&reason)))?;
    }
    Ok(if left == 0 { ExitStatus::Success } else { ExitStatus::Failure })
}

/// Whether the next undo would fail in the same way.
fn affects_all_records(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Network | Reason::ServerSelection | Reason::Authentication | Reason::PermissionDenied
    )
}

/// Renders a record, whose contents are not trusted: every part is escaped and cut.
fn render_record(record: &RepairRecord) -> String {
    let at = record.at.try_to_rfc3339_string().unwrap_or_default();
    let part = |text: &str| Line::new(text, MAX_VALUE_LENGTH).to_string();
    format!(
        "{}: check {}: {} of {} was set by {} at {at}\n  is: {}\n  was: {}\n",
        record.id,
        part(&record.check),
        part(&record.field),
        short(Some(&doc! {"collection": &record.collection, "_id": &record.document}.into())),
        part(&record.author.name),
        short(record.after.as_ref()),
        short(record.before.as_ref()),
    )
}

/// A value on one line, cut to the maximum length.
fn short(of: Option<&Bson>) -> String {
    let text = value(of);
    if text.chars().count() > MAX_VALUE_LENGTH {
        text.chars().take(MAX_VALUE_LENGTH).chain([' ', '…']).collect()
    } else {
        text
    }
}
