//! `txnscope role`: the role with the privileges that the sidecar, or `repair`, needs, and its user, as commands for mongosh.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use txnscope_checks::{Check, Checks, Rule};
use txnscope_sidecar::live::kill_privilege;
use txnscope_sidecar::{CollectorSettings, Privilege, Resource, privileges_by_collector};

use crate::args::exit_status::ExitStatus;
use crate::config::checks::{AUDIT_COLLECTION, load_checks};
use crate::config::collectors;
use crate::config::file::ConfigFile;
use crate::config::sections::{self, Collectors, ConfigPath};
use crate::output::{print_result, report_error};

/// The filter of the profiler: write conflicts and slow operations. Anything else would push these out of its capped
/// collection.
const FILTER: &str = "{$or: [{errCode: 112}, {writeConflicts: {$gt: 0}}, {millis: {$gte: 100}}]}";

#[derive(Debug, Args)]
#[command(
    mut_arg("config.file", |argument| argument.help(
        "The configuration file. It may enable collectors and name the file of checks"
    )),
    mut_arg("checks.file", |argument| argument.help(
        "The file of checks, whose collections the user must be able to read"
    )),
)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    config: ConfigPath,

    #[command(flatten)]
    collectors: Collectors,

    #[command(flatten)]
    checks: sections::Checks,

    /// Print a role and a user of their own for `top --allow-kill`, with the privilege to end transactions of other users,
    /// which the sidecar's user must not have.
    #[arg(long, conflicts_with = "repair")]
    allow_kill: bool,

    /// The name of the user. Default: txnscope, txnscope-repair with --repair, or txnscope-kill with --allow-kill.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The name of the role. Default: txnscope, txnscope-repair with --repair, or txnscope-kill with --allow-kill.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Print the role that `repair` needs for the checks with a derived field, instead of the role of the sidecar, which
    /// must not write.
    #[arg(long)]
    repair: bool,

    /// With --repair: the collection for the repair records.
    #[arg(long, value_name = "COLLECTION", default_value = AUDIT_COLLECTION, requires = "repair")]
    audit_collection: String,
}

pub(crate) fn run(args: &RoleArgs) -> ExitStatus {
    match script(args) {
        Ok(script) => print_result(&script),
        Err(error) => report_error(&error, ExitStatus::Error),
    }
}

fn script(args: &RoleArgs) -> Result<String> {
    let config = ConfigFile::load(args.config.file.as_deref())?;
    let settings = collectors::settings(&config, &args.collectors)?;
    let checks = load_checks(&args.checks, &config, "; ")?;
    if !args.repair {
        let mut required = required_privileges(&settings, checks.as_ref());
        if args.allow_kill {
            required.push(("top --allow-kill".to_owned(), kill_privilege()));
        }
        return Ok(render(args, required) + &profiler(&settings));
    }
    let checks =
        checks.context("no file of checks: name the one that `repair` is to use with --checks.file")?;
    let required = repair_privileges(&checks, &args.audit_collection);
    anyhow::ensure!(
        !required.is_empty(),
        "none of these checks has a derived field, which `repair` could recompute"
    );
    Ok(render(args, required))
}

/// The privileges of an audit and a repair of each check with a derived field, and of the repair records.
fn repair_privileges(checks: &Checks, records: &str) -> Vec<(String, Privilege)> {
    let derived: Vec<&Check> = checks.iter().filter(|check| matches!(check.rule, Rule::Derived(_))).collect();
    let on = |database: &str, collection: &str, actions: &[&'static str]| Privilege {
        resource: Resource::Collection { database: database.to_owned(), collection: collection.to_owned() },
        actions: actions.to_vec(),
    };
    let mut required = Vec::new();
    for check in derived {
        let name = format!("check {}", check.name);
        let read =
            check.collections().into_iter().map(|collection| Privilege::find(&check.database, &collection));
        required.extend(read.map(|privilege| (name.clone(), privilege)));
        required.push((name, on(&check.database, &check.collection, &["find", "update"])));
        let actions = ["createCollection", "find", "insert", "update"];
        required.push(("repair records".to_owned(), on(&check.database, records, &actions)));
    }
    required.dedup();
    required
}

/// The privileges that are needed, each with the collector or the check that needs it.
fn required_privileges(settings: &CollectorSettings, checks: Option<&Checks>) -> Vec<(String, Privilege)> {
    let of_collectors =
        privileges_by_collector(settings).into_iter().map(|(collector, one)| (collector.to_owned(), one));
    let of_checks = checks.into_iter().flat_map(Checks::iter).flat_map(|check| {
        let collections = check.collections().into_iter();
        collections
            .map(|name| (format!("check {}", check.name), Privilege::find(&check.database, &name)))
            .collect::<Vec<_>>()
    });
    of_collectors.chain(of_checks).collect()
}

/// Commands that can be run again: a role that exists gets these privileges, and a user that exists gets the role.
fn render(args: &RoleArgs, required: Vec<(String, Privilege)>) -> String {
    let default = match (args.repair, args.allow_kill) {
        (true, _) => "txnscope-repair",
        (false, true) => "txnscope-kill",
        (false, false) => "txnscope",
    };
    let role = args.role.as_deref().unwrap_or(default);
    let user = args.user.as_deref().unwrap_or(default);
    let mut comments: Vec<String> =
        required.iter().map(|(needed_by, one)| format!("//   {needed_by}: {one}\n")).collect();
    comments.dedup();
    let privileges = Privilege::merged(required.into_iter().map(|(_, privilege)| privilege));
    let privileges: Vec<Value> =
        privileges.iter().filter_map(|one| serde_json::from_str(&one.to_string()).ok()).collect();
    let roles = json!([{"role": role, "db": "admin"}]);
    let new_user = json!({"user": user, "pwd": PROMPT, "roles": roles});
    let (role, user) = (json!(role), json!(user));
    format!(
        "// Run in mongosh, as a user that may create users and roles, once on each replica set, and again after a change of the\n\
         // collectors or checks: a role that exists is updated.\n\
         // The privileges of the role, and what needs them:\n{}\
         admin = db.getSiblingDB(\"admin\")\n\
         role = {:#}\n\
         admin.getRole({role}) ? admin.updateRole({role}, role) : admin.createRole({{ role: {role}, ...role }})\n\
         admin.getUser({user}) ? admin.grantRolesToUser({user}, {roles}) : admin.createUser({})\n",
        comments.concat(),
        json!({"privileges": privileges, "roles": []}),
        pretty(&new_user).replace(&format!("\"{PROMPT}\""), "passwordPrompt()"),
    )
}

/// How to enable the profiler. This is a comment, since the profiler costs every member and an operator must decide.
fn profiler(settings: &CollectorSettings) -> String {
    if !settings.profile.enabled {
        return String::new();
    }
    let mut text =
        "// The collector profile reads the records of the profiler. To enable it, run on each member, as a user \
                    with enableProfiler:\n"
            .to_owned();
    for database in &settings.profile.databases {
        let database = json!(database);
        text += &format!("//   db.getSiblingDB({database}).runCommand({{profile: 1, filter: {FILTER}}})\n");
    }
    text
}

/// A placeholder for the password, which mongosh asks for.
const PROMPT: &str = "\u{0}";

fn pretty(value: &Value) -> String {
    format!("{value:#}").replace("\\u0000", PROMPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: &str) -> RoleArgs {
        RoleArgs {
            config: ConfigPath::default(),
            collectors: Collectors::default(),
            checks: sections::Checks::default(),
            allow_kill: false,
            user: Some(user.to_owned()),
            role: Some("poller".to_owned()),
            repair: false,
            audit_collection: AUDIT_COLLECTION.to_owned(),
        }
    }

    #[test]
    fn user_names_are_quoted_and_the_password_is_prompted() {
        let text = render(&args("a\"}); evil({\""), Vec::new());
        assert!(text.contains(r#""user": "a\"}); evil({\"""#), "{text}");
        assert!(text.contains("\"pwd\": passwordPrompt()"), "{text}");
    }

    #[test]
    fn privilege_to_end_transactions_is_added_only_on_request() {
        let of = |allow_kill| script(&RoleArgs { allow_kill, ..args("u") }).unwrap();
        assert!(!of(false).contains("kill"));
        let text = of(true);
        assert!(
            text.contains(
                r#"//   top --allow-kill: {"resource": {"cluster": true}, "actions": ["killAnySession"]}"#
            ),
            "{text}"
        );
        assert_eq!(text.matches("kill").count() - text.matches("killAnySession").count(), 1, "{text}");
    }

    #[test]
    fn roles_that_write_or_end_have_names_of_their_own() {
        for (repair, allow_kill, name) in
            [(false, false, "txnscope"), (true, false, "txnscope-repair"), (false, true, "txnscope-kill")]
        {
            let args = RoleArgs { user: None, role: None, repair, allow_kill, ..args("u") };
            let text = render(&args, Vec::new());
            assert!(text.contains(&format!("admin.getRole(\"{name}\")")), "{text}");
            assert!(text.contains(&format!("admin.getUser(\"{name}\")")), "{text}");
        }
    }

    #[test]
    fn profiler_commands_are_printed_if_its_collector_is_enabled() {
        let mut settings = CollectorSettings::default();
        assert_eq!(profiler(&settings), "");
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let text = profiler(&settings);
        let expected = "//   db.getSiblingDB(\"shop\").runCommand({profile: 1, filter: {$or: [{errCode: 112}";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn each_collection_of_a_check_is_granted_once() {
        let text = r#"
            [defaults]
            database = "shop"
            severity = "info"
            [[check]]
            name = "a"
            collection = "orders"
            pipeline = '[{ "$lookup": { "from": "lines", "as": "lines" } }]'
            [[check]]
            name = "b"
            collection = "lines"
            forbid = '{ "n": 1 }'
        "#;
        let checks = Checks::parse(text).unwrap();
        let required = required_privileges(&CollectorSettings::default(), Some(&checks));
        let text = render(&args("u"), required);
        let orders =
            r#"//   check a: {"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}"#;
        assert!(text.contains(orders), "{text}");
        let (_, role) = text.split_once("role = ").unwrap();
        assert_eq!(role.matches("\"collection\": \"lines\"").count(), 1, "{text}");
    }
}
