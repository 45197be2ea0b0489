//! `txnscope role`: what the sidecar may do, and no more, as a DBA types it.

use anyhow::Result;
use serde_json::{Value, json};
use txnscope_checks::Checks;
use txnscope_sidecar::{CollectorSettings, Privilege, privileges_by_collector};

use crate::file::File;
use crate::flags::RoleFlags;
use crate::{checks, collectors};

/// What the profiler is to record: conflicts, and what is slow. All else would push these out of its collection.
const FILTER: &str = "{$or: [{errCode: 112}, {writeConflicts: {$gt: 0}}, {millis: {$gte: 100}}]}";

/// # Errors
///
/// If the configuration file, a flag or the file of checks is wrong.
pub(crate) fn run(flags: &RoleFlags) -> Result<String> {
    let file = File::named(flags.config_file.as_deref())?;
    let settings = collectors::settings(&file, &flags.collectors)?;
    let checks = checks::named(flags.checks_file.as_deref(), &file, "; ")?;
    Ok(render(flags, &settings, checks.as_ref()))
}

/// What is needed, and by whom.
fn needs(settings: &CollectorSettings, checks: Option<&Checks>) -> Vec<(String, Privilege)> {
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

fn render(flags: &RoleFlags, settings: &CollectorSettings, checks: Option<&Checks>) -> String {
    let needs = needs(settings, checks);
    let why: String = needs.iter().map(|(who, one)| format!("//   {who}: {one}\n")).collect();
    let privileges = Privilege::merged(needs.into_iter().map(|(_, privilege)| privilege));
    let privileges: Vec<Value> =
        privileges.iter().filter_map(|one| serde_json::from_str(&one.to_string()).ok()).collect();
    let role = json!({"role": flags.role, "privileges": privileges, "roles": []});
    let user = json!({"user": flags.user, "pwd": PROMPT, "roles": [{"role": flags.role, "db": "admin"}]});
    format!(
        "// For mongosh, as a user who may make users and roles. On each replica set once.\n\
         // What each collector and each check needs, and the role may do:\n{why}\
         admin = db.getSiblingDB(\"admin\")\n\
         admin.createRole({})\n\
         admin.createUser({})\n{}",
        pretty(&role),
        pretty(&user).replace(&format!("\"{PROMPT}\""), "passwordPrompt()"),
        profiler(settings),
    )
}

/// How the profiler is turned on. A comment: it costs every member that it runs on, and somebody is to decide that.
fn profiler(settings: &CollectorSettings) -> String {
    if !settings.profile.enabled {
        return String::new();
    }
    let mut text =
        "// The collector profile reads what the profiler records. To turn it on, on each member, as a user \
                    with enableProfiler:\n"
            .to_owned();
    for database in &settings.profile.databases {
        let database = json!(database);
        text += &format!("//   db.getSiblingDB({database}).runCommand({{profile: 1, filter: {FILTER}}})\n");
    }
    text
}

/// Stands for what mongosh asks for.
const PROMPT: &str = "\u{0}";

fn pretty(value: &Value) -> String {
    format!("{value:#}").replace("\\u0000", PROMPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::CollectorFlags;

    fn flags(user: &str) -> RoleFlags {
        RoleFlags {
            config_file: None,
            collectors: CollectorFlags::default(),
            checks_file: None,
            user: user.to_owned(),
            role: "poller".to_owned(),
        }
    }

    #[test]
    fn names_stay_inside_their_quotes_and_the_password_is_asked_for() {
        let text = render(&flags("a\"}); evil({\""), &CollectorSettings::default(), None);
        assert!(text.contains(r#""user": "a\"}); evil({\"""#), "{text}");
        assert!(text.contains("\"pwd\": passwordPrompt()"), "{text}");
    }

    #[test]
    fn how_the_profiler_is_turned_on_is_told_when_it_is_read() {
        let flags = flags("u");
        let mut settings = CollectorSettings::default();
        assert!(!render(&flags, &settings, None).contains("profile: 1"));
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let text = render(&flags, &settings, None);
        let expected = "//   db.getSiblingDB(\"shop\").runCommand({profile: 1, filter: {$or: [{errCode: 112}";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn each_collection_that_a_check_reads_is_granted_once() {
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
        let text = render(&flags("u"), &CollectorSettings::default(), Some(&checks));
        let orders =
            r#"//   check a: {"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}"#;
        assert!(text.contains(orders), "{text}");
        let (_, role) = text.split_once("createRole(").unwrap();
        assert_eq!(role.matches("\"collection\": \"lines\"").count(), 1, "{text}");
    }
}
