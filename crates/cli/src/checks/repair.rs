//! `txnscope repair`: what can be recomputed is set right, or would be.

use std::fmt::Write as _;
use std::process::ExitCode;

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

use crate::checks::confirm::confirm;
use crate::checks::flags::RepairFlags;
use crate::checks::{CLEAN, UNKNOWN, VIOLATED, block_on, prepare};
use crate::{complain, print};

pub(crate) fn repair(flags: &RepairFlags, matches: &ArgMatches) -> ExitCode {
    match block_on(work(flags, matches)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error, UNKNOWN),
    }
}

async fn work(flags: &RepairFlags, matches: &ArgMatches) -> anyhow::Result<u8> {
    let (client, checks) = prepare(&flags.common, matches).await?;
    let derived: Vec<_> = checks.iter().filter(|check| matches!(check.rule, Rule::Derived(_))).collect();
    if derived.is_empty() {
        bail!("none of these checks derives a field, and nothing else can be recomputed");
    }
    match flags.undo.map(UndoSelector::Record).or(flags.run.map(UndoSelector::Run)) {
        Some(selector) => take_back(flags, &client, &checks, selector).await,
        None => set_right(flags, &client, &derived).await,
    }
}

/// `ann@host`
fn by(flags: &RepairFlags) -> String {
    flags.by.clone().unwrap_or_else(|| {
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let host = host.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
        format!("{}@{}", user.unwrap_or_else(|_| "unknown".to_owned()), host.trim())
    })
}

// ===== Repair =====

async fn set_right(flags: &RepairFlags, client: &Client, checks: &[&Check]) -> anyhow::Result<u8> {
    let options = PlanOptions::new(flags.limit).ids(&flags.id).empty_inputs(flags.allow_empty_inputs);
    let mut plans = Vec::new();
    for check in checks {
        let planned = plan_with(client, check, &options).await.map_err(|failure| told(check, &failure))?;
        print(&shown(check, &planned))?;
        plans.push((*check, planned));
    }
    known(&plans)?;
    let possible = |(_, plan): &(&Check, RepairPlan)| {
        plan.steps.iter().filter(|step| matches!(step.repair, Repair::Set(_))).count()
    };
    let (steps, possible): (usize, usize) =
        (plans.iter().map(|(_, plan)| plan.steps.len()).sum(), plans.iter().map(possible).sum());
    if steps == 0 {
        print("nothing to repair\n")?;
        return Ok(CLEAN);
    }
    if !flags.apply {
        print(&format!(
            "{possible} of {steps} can be repaired; nothing was changed: --apply makes the repairs\n"
        ))?;
        return Ok(VIOLATED);
    }
    if possible == 0 || !confirm(&format!("Set {possible} fields as shown?"), flags.yes)? {
        print("nothing was changed\n")?;
        return Ok(VIOLATED);
    }
    apply(flags, client, &plans).await
}

/// An id that no document has, of any of the collections, is mistyped; none of its repairs would ever be made.
fn known(plans: &[(&Check, RepairPlan)]) -> anyhow::Result<()> {
    let Some((check, first)) = plans.first() else { return Ok(()) };
    let nobody_has = |unknown: &&UnknownId| {
        plans.iter().all(|(_, plan)| plan.unknown.iter().any(|other| other.id == unknown.id))
    };
    let Some(unknown) = first.unknown.iter().find(nobody_has) else { return Ok(()) };
    let collections = match plans.len() {
        1 => format!("no document of {}", check.collection),
        _ => "no document of the collections of these checks".to_owned(),
    };
    let suggestion = plans.iter().flat_map(|(_, plan)| &plan.unknown);
    let suggestion =
        suggestion.filter(|other| other.id == unknown.id).find_map(|other| other.suggestion.as_ref());
    let hint = match suggestion {
        Some(suggestion) => format!("did you mean --id='{}'?", value(Some(suggestion))),
        None => "an id that is a text is given in double quotes, any other as Extended JSON".to_owned(),
    };
    bail!("{collections} has the _id {}: {hint}", value(Some(&unknown.id)))
}

async fn apply(flags: &RepairFlags, client: &Client, plans: &[(&Check, RepairPlan)]) -> anyhow::Result<u8> {
    let (name, mut made, mut left) = (by(flags), 0, 0);
    for (check, plan) in plans.iter().filter(|(_, plan)| !plan.steps.is_empty()) {
        let repairer = Repairer::connect(client, &check.database, &flags.records, &name).await;
        let repairer = repairer.map_err(|failure| told(check, &failure))?;
        for step in &plan.steps {
            let id = value(Some(&step.id));
            let said = match repairer.repair(check, step).await {
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
                        "{made} set before the failure; to undo them: --run={}\n",
                        repairer.run()
                    ))?;
                    return Err(told(check, &failure));
                }
            };
            print(&said)?;
        }
        left += usize::from(plan.more);
        print(&format!(
            "recorded in {}.{}; to undo all of it: --run={}\n",
            check.database,
            flags.records,
            repairer.run()
        ))?;
    }
    print(&format!("{made} set, {left} left alone\n"))?;
    Ok(if left == 0 { CLEAN } else { VIOLATED })
}

fn told(check: &Check, failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("{}: {} ({})", check.name, failure, failure.reason.as_str())
}

fn value(value: Option<&Bson>) -> String {
    value.map_or_else(|| "(missing)".to_owned(), extended_json)
}

/// The longest value of a history or of a record on one line; `--output` of an audit has the rest.
const WIDEST: usize = 400;

fn shown(check: &Check, plan: &RepairPlan) -> String {
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
        let _ = writeln!(text, "{}: there are more; --limit takes more at once", check.name);
    }
    text
}

// ===== Undo =====

/// A record that agrees with a check, which is to be undone.
struct Undoable<'a> {
    repairer: Repairer,
    check: &'a Check,
    record: Box<RepairRecord>,
}

async fn take_back(
    flags: &RepairFlags,
    client: &Client,
    checks: &Checks,
    selector: UndoSelector,
) -> anyhow::Result<u8> {
    let mut databases: Vec<_> = checks.iter().map(|check| check.database.clone()).collect();
    databases.sort_unstable();
    databases.dedup();
    let (name, mut undoable, mut refused) = (by(flags), Vec::new(), 0_usize);
    let options = UndoOptions::new().any_value(flags.allow_any_value);
    for database in databases {
        let repairer = Repairer::connect(client, &database, &flags.records, &name).await?;
        for stored in records(&repairer, selector).await? {
            let (told, judged) = match stored {
                StoredRecord::Readable(record) => {
                    let told = before_and_after(&record);
                    let check = repairer.check_of(checks, &record, options);
                    (told, check.map(|check| Undoable { repairer: repairer.clone(), check, record }))
                }
                StoredRecord::Malformed { id, why, .. } => (format!("{}\n", short(Some(&id))), Err(why)),
                _ => continue,
            };
            print(&told)?;
            match judged {
                Ok(one) => undoable.push(one),
                Err(why) => {
                    refused += 1;
                    print(&format!("  refused, this record is not believed: {why}\n"))?;
                }
            }
        }
    }
    if undoable.is_empty() && refused == 0 {
        bail!(
            "there is no record of such a repair in the databases of these checks, in the collection {}",
            escape_line(&flags.records)
        );
    }
    if undoable.is_empty() {
        bail!("nothing was changed: what these records say is not what the checks say. Who wrote them?");
    }
    if !confirm(&format!("Put back {} fields as shown?", undoable.len()), flags.yes)? {
        print("nothing was changed\n")?;
        return Ok(VIOLATED);
    }
    let mut left = refused;
    for Undoable { repairer, check, record } in &undoable {
        let document = short(Some(&record.document));
        let said = match undo_with(repairer, check, record, options).await {
            Ok(RepairOutcome::Done(undoing)) => {
                print(&format!("{document}: put back, record {}\n", undoing.id))?;
                continue;
            }
            Ok(RepairOutcome::Changed) => "it has changed since the repair".to_owned(),
            Ok(RepairOutcome::Refused(why)) => why,
            Err(failure) if is_of_the_server(failure.reason) => return Err(told(check, &failure)),
            // What the server says of one record is no reason to leave the others.
            Err(failure) => failure.to_string(),
        };
        left += 1;
        print(&format!("{document}: left alone: {}\n", escape_line(&said)))?;
    }
    Ok(if left == 0 { CLEAN } else { VIOLATED })
}

/// Whether the next undo would fail in the same way.
fn is_of_the_server(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Network | Reason::ServerSelection | Reason::Authentication | Reason::PermissionDenied
    )
}

/// What a record says, which may be anything: each part on its line, escaped and no longer than one reads.
fn before_and_after(record: &RepairRecord) -> String {
    let at = record.at.try_to_rfc3339_string().unwrap_or_default();
    let part = |text: &str| Line::new(text, WIDEST).to_string();
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

/// A value on one line, which is cut where it is longer than one reads.
fn short(of: Option<&Bson>) -> String {
    let text = value(of);
    if text.chars().count() > WIDEST { text.chars().take(WIDEST).chain([' ', '…']).collect() } else { text }
}
