//! `txnscope role`: the role with the privileges that the sidecar needs, and its user, as commands for mongosh.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use txnscope_checks::Checks;
use txnscope_sidecar::live::kill_privilege;
use txnscope_sidecar::{CollectorSettings, Privilege, privileges_by_collector};

use crate::args::exit_status::ExitStatus;
use crate::config::checks::load_checks;
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

    /// Add the privilege to end a transaction of another user, for `top --allow-kill`. Give it to a user of its own.
    #[arg(long)]
    allow_kill: bool,

    /// The name of the user.
    #[arg(long, value_name = "NAME", default_value = "txnscope")]
    user: String,

    /// The name of the role.
    #[arg(long, value_name = "NAME", default_value = "txnscope")]
    role: String,
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
    Ok(render(args, &settings, checks.as_ref()))
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

fn render(args: &RoleArgs, settings: &CollectorSettings, checks: Option<&Checks>) -> String {
    let mut required = required_privileges(settings, checks);
    if args.allow_kill {
        required.push(("top --allow-kill".to_owned(), kill_privilege()));
    }
    let comments: String =
        required.iter().map(|(needed_by, one)| format!("//   {needed_by}: {one}\n")).collect();
    let privileges = Privilege::merged(required.into_iter().map(|(_, privilege)| privilege));
    let privileges: Vec<Value> =
        privileges.iter().filter_map(|one| serde_json::from_str(&one.to_string()).ok()).collect();
    let role = json!({"role": args.role, "privileges": privileges, "roles": []});
    let user = json!({"user": args.user, "pwd": PROMPT, "roles": [{"role": args.role, "db": "admin"}]});
    format!(
        "// Run in mongosh, as a user that may create users and roles, once on each replica set.\n\
         // The privileges of the role, and the collectors and checks that need them:\n{comments}\
         admin = db.getSiblingDB(\"admin\")\n\
         admin.createRole({})\n\
         admin.createUser({})\n{}",
        pretty(&role),
        pretty(&user).replace(&format!("\"{PROMPT}\""), "passwordPrompt()"),
        profiler(settings),
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
            user: user.to_owned(),
            role: "poller".to_owned(),
        }
    }

    #[test]
    fn user_names_are_quoted_and_the_password_is_prompted() {
        let text = render(&args("a\"}); evil({\""), &CollectorSettings::default(), None);
        assert!(text.contains(r#""user": "a\"}); evil({\"""#), "{text}");
        assert!(text.contains("\"pwd\": passwordPrompt()"), "{text}");
    }

    #[test]
    fn privilege_to_end_transactions_is_added_only_on_request() {
        let of = |allow_kill| {
            let args = RoleArgs { allow_kill, ..args("u") };
            render(&args, &CollectorSettings::default(), None)
        };
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
    fn profiler_commands_are_printed_if_its_collector_is_enabled() {
        let args = args("u");
        let mut settings = CollectorSettings::default();
        assert!(!render(&args, &settings, None).contains("profile: 1"));
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let text = render(&args, &settings, None);
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
        let text = render(&args("u"), &CollectorSettings::default(), Some(&checks));
        let orders =
            r#"//   check a: {"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}"#;
        assert!(text.contains(orders), "{text}");
        let (_, role) = text.split_once("createRole(").unwrap();
        assert_eq!(role.matches("\"collection\": \"lines\"").count(), 1, "{text}");
    }
}
