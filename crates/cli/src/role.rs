//! `txnscope role`: what the sidecar may do, and no more, as a DBA types it.

use serde_json::{Value, json};
use txnscope_sidecar::{SourceSettings, privileges, privileges_by_source};

use crate::file::{File, FileError};
use crate::flags::RoleFlags;
use crate::sources;

/// What the profiler is to record: conflicts, and what is slow. All else would push these out of its collection.
const FILTER: &str = "{$or: [{errCode: 112}, {writeConflicts: {$gt: 0}}, {millis: {$gte: 100}}]}";

/// # Errors
///
/// If the configuration file is wrong.
pub(crate) fn run(flags: &RoleFlags) -> Result<String, FileError> {
    let settings = match &flags.config_file {
        Some(path) => sources::settings(&File::read(path)?)?,
        None => SourceSettings::default(),
    };
    Ok(render(flags, &settings))
}

fn render(flags: &RoleFlags, settings: &SourceSettings) -> String {
    let privileges: Vec<Value> =
        privileges(settings).iter().filter_map(|one| serde_json::from_str(&one.to_string()).ok()).collect();
    let role = json!({"role": flags.role, "privileges": privileges, "roles": []});
    let user = json!({"user": flags.user, "pwd": PROMPT, "roles": [{"role": flags.role, "db": "admin"}]});
    let why = privileges_by_source(settings);
    let why: String = why.iter().map(|(source, one)| format!("//   {source}: {one}\n")).collect();
    format!(
        "// For mongosh, as a user who may make users and roles. On each replica set once.\n\
         // What each source needs, and the role may do:\n{why}\
         admin = db.getSiblingDB(\"admin\")\n\
         admin.createRole({})\n\
         admin.createUser({})\n{}",
        pretty(&role),
        pretty(&user).replace(&format!("\"{PROMPT}\""), "passwordPrompt()"),
        profiler(settings),
    )
}

/// How the profiler is turned on. A comment: it costs every member that it runs on, and somebody is to decide that.
fn profiler(settings: &SourceSettings) -> String {
    if !settings.profile.enabled {
        return String::new();
    }
    let mut text =
        "// The source profile reads what the profiler records. To turn it on, on each member, as a user \
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

    #[test]
    fn names_stay_inside_their_quotes_and_the_password_is_asked_for() {
        let user = "a\"}); evil({\"".to_owned();
        let flags = RoleFlags { config_file: None, user, role: "poller".to_owned() };
        let text = render(&flags, &SourceSettings::default());
        assert!(text.contains(r#""user": "a\"}); evil({\"""#), "{text}");
        assert!(text.contains("\"pwd\": passwordPrompt()"), "{text}");
    }

    #[test]
    fn how_the_profiler_is_turned_on_is_told_when_it_is_read() {
        let flags = RoleFlags { config_file: None, user: "u".to_owned(), role: "r".to_owned() };
        let mut settings = SourceSettings::default();
        assert!(!render(&flags, &settings).contains("profile: 1"));
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let text = render(&flags, &settings);
        let expected = "//   db.getSiblingDB(\"shop\").runCommand({profile: 1, filter: {$or: [{errCode: 112}";
        assert!(text.contains(expected), "{text}");
    }
}
