//! `txnscope role`: what the sidecar may do, and no more, as a DBA types it.

use serde_json::{Value, json};

use crate::flags::RoleFlags;

/// What the sources that are on need of the server.
const ACTIONS: &[(&str, &str)] = &[
    ("serverStatus", "the server's own count of transactions, and whether it is up"),
    ("inprog", "the open transactions of everybody, through $currentOp"),
];

pub(crate) fn render(flags: &RoleFlags) -> String {
    let actions: Vec<_> = ACTIONS.iter().map(|(action, _)| *action).collect();
    let privileges = json!([{"resource": {"cluster": true}, "actions": actions}]);
    let role = json!({"role": flags.role, "privileges": privileges, "roles": []});
    let user = json!({"user": flags.user, "pwd": PROMPT, "roles": [{"role": flags.role, "db": "admin"}]});
    let why: String = ACTIONS.iter().map(|(action, why)| format!("//   {action}: {why}\n")).collect();
    format!(
        "// For mongosh, as a user who may make users and roles. On each replica set once.\n\
         // What the role may do, and why:\n{why}\
         admin = db.getSiblingDB(\"admin\")\n\
         admin.createRole({})\n\
         admin.createUser({})\n",
        pretty(&role),
        pretty(&user).replace(&format!("\"{PROMPT}\""), "passwordPrompt()"),
    )
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
        let flags = RoleFlags { user: "a\"}); evil({\"".to_owned(), role: "poller".to_owned() };
        let text = render(&flags);
        assert!(text.contains(r#""user": "a\"}); evil({\"""#), "{text}");
        assert!(text.contains("\"pwd\": passwordPrompt()"), "{text}");
    }
}
