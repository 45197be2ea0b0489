//! Whether the user may ask what the sidecar's collectors ask.

use mongodb::bson::{Bson, Document};
use txnscope_sidecar::{CollectorSettings, Privilege, Resource, privileges_by_collector};

use super::deployment::{Answer, field, flag, text, texts};
use super::finding::Finding;

const PRIVILEGES: &str = "privileges";
const PROFILER: &str = "profiler";

/// From `connectionStatus` with `showPrivileges`. `status` tells whether the server asks who we are at all.
pub(crate) fn held(connection: &Answer, status: &Answer, settings: &CollectorSettings) -> Finding {
    let connection = match connection {
        Ok(connection) => connection,
        Err(refusal) => {
            return Finding::warn(
                PRIVILEGES,
                format!("not known: {refusal}"),
                "let this user run connectionStatus",
            );
        }
    };
    let of = |name| field(connection, &["authInfo", name]).and_then(Bson::as_array);
    let user = of("authenticatedUsers")
        .and_then(|users| users.first()?.as_document())
        .and_then(|user| Some(format!("{}@{}", text(user, &["user"])?, text(user, &["db"])?)));
    let Some(user) = user else {
        return match status {
            Ok(_) => Finding::warn(
                PRIVILEGES,
                "the server asks nobody who they are",
                "turn authentication on (security.authorization), and make the sidecar's user with `txnscope role`",
            ),
            Err(_) => Finding::fail(
                PRIVILEGES,
                "the server wants to know who asks, and the URI names nobody",
                "make the user that `txnscope role` prints, and name it with --mongodb.username and \
                 --mongodb.password-file",
            ),
        };
    };
    let granted: Vec<&Document> =
        of("authenticatedUserPrivileges").into_iter().flatten().filter_map(Bson::as_document).collect();
    let mut collectors: Vec<&str> = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for (collector, privilege) in privileges_by_collector(settings) {
        if !collectors.contains(&collector) {
            collectors.push(collector);
        }
        for action in &privilege.actions {
            if !granted.iter().any(|granted| allows(granted, &privilege, action)) {
                missing.push(format!("{collector} lacks {action} on {}", named(&privilege.resource)));
            }
        }
    }
    if missing.is_empty() {
        return Finding::pass(PRIVILEGES, format!("{user} may ask what {} ask", collectors.join(", ")));
    }
    Finding::fail(
        PRIVILEGES,
        format!("{user}: {}", missing.join("; ")),
        "make the role that `txnscope role` prints, and grant it: db.grantRolesToUser(\"USER\", [\"txnscope\"]); or \
         turn the collector off in the sidecar's file",
    )
}

fn named(resource: &Resource) -> String {
    match resource {
        Resource::Cluster => "the cluster".to_owned(),
        Resource::Collection { database, collection } => format!("{database}.{collection}"),
    }
}

/// Whether what was granted covers the action. A grant on all collections does not cover those of the system.
fn allows(granted: &Document, wanted: &Privilege, action: &str) -> bool {
    if !texts(granted, &["actions"]).iter().any(|held| *held == action || *held == "anyAction") {
        return false;
    }
    if flag(granted, &["resource", "anyResource"]) {
        return true;
    }
    match &wanted.resource {
        Resource::Cluster => flag(granted, &["resource", "cluster"]),
        Resource::Collection { database, collection } => {
            let (db, of) = (text(granted, &["resource", "db"]), text(granted, &["resource", "collection"]));
            let system = collection.starts_with("system.");
            db.is_some_and(|db| db == database || db.is_empty())
                && of.is_some_and(|of| of == collection || (of.is_empty() && !system))
        }
    }
}

/// `levels` are the answers to `{profile: -1}`, database by database.
pub(crate) fn profiler(levels: &[(String, Answer)]) -> Finding {
    if levels.is_empty() {
        return Finding::pass(PROFILER, "not wanted: the sidecar's collector profile is off");
    }
    let mut told = Vec::new();
    let (mut off, mut all) = (false, false);
    for (database, answer) in levels {
        let level = match answer {
            Ok(answer) => super::deployment::number(answer, &["was"]),
            Err(refusal) => {
                told.push(format!("{database}: not known: {refusal}"));
                off = true;
                continue;
            }
        };
        off |= level.is_none_or(|level| level < 1.0);
        all |= level.is_some_and(|level| level >= 2.0);
        told.push(format!(
            "{database}: level {}",
            level.map_or("unknown".to_owned(), |level| level.to_string())
        ));
    }
    let evidence = told.join("; ");
    if off {
        Finding::warn(
            PROFILER,
            format!("{evidence}; the collector profile would see nothing"),
            "on each member, the command that `txnscope role --config.file=FILE` prints; or turn the collector off",
        )
    } else if all {
        Finding::warn(
            PROFILER,
            format!("{evidence}; level 2 records everything, at a cost"),
            "record what matters only, with the filter that `txnscope role --config.file=FILE` prints",
        )
    } else {
        Finding::pass(PROFILER, evidence)
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::deployment::Refusal;
    use super::super::finding::Verdict;
    use super::*;

    fn user(privileges: Vec<Document>) -> Answer {
        let users = vec![doc! {"user": "txnscope", "db": "admin"}];
        Ok(doc! {"authInfo": {"authenticatedUsers": users, "authenticatedUserPrivileges": privileges}})
    }

    fn cluster(actions: &[&str]) -> Document {
        doc! {"resource": {"cluster": true}, "actions": actions}
    }

    const ALL: [&str; 4] = ["getParameter", "inprog", "replSetGetStatus", "serverStatus"];

    #[test]
    fn what_is_missing_is_named_with_its_source() {
        let settings = CollectorSettings::default();
        let status = Ok(doc! {});
        assert_eq!(held(&user(vec![cluster(&ALL)]), &status, &settings).verdict, Verdict::Pass);
        let found = held(
            &user(vec![cluster(&["getParameter", "replSetGetStatus", "serverStatus"])]),
            &status,
            &settings,
        );
        assert_eq!(found.verdict, Verdict::Fail);
        assert_eq!(found.evidence, "txnscope@admin: current_op lacks inprog on the cluster");
        let any = doc! {"resource": {"anyResource": true}, "actions": ["anyAction"]};
        assert_eq!(held(&user(vec![any]), &status, &settings).verdict, Verdict::Pass);
    }

    #[test]
    fn nobody_is_told_from_a_server_that_asks_nobody() {
        let (nobody, settings) =
            (Ok(doc! {"authInfo": {"authenticatedUsers": []}}), CollectorSettings::default());
        assert_eq!(held(&nobody, &Ok(doc! {}), &settings).verdict, Verdict::Warn);
        assert_eq!(held(&nobody, &Err(Refusal::Denied), &settings).verdict, Verdict::Fail);
    }

    #[test]
    fn all_collections_are_not_those_of_the_system() {
        let mut settings = CollectorSettings::default();
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let find = |collection: &str| doc! {"resource": {"db": "shop", "collection": collection}, "actions": ["find"]};
        let held = |grant| held(&user(vec![cluster(&ALL), grant]), &Ok(doc! {}), &settings).verdict;
        assert_eq!(held(find("")), Verdict::Fail);
        assert_eq!(held(find("system.profile")), Verdict::Pass);
    }

    #[test]
    fn a_profiler_that_is_off_is_a_warning_when_it_is_read() {
        let level = |was: i32| vec![("shop".to_owned(), Ok(doc! {"was": was}))];
        assert_eq!(profiler(&[]).verdict, Verdict::Pass);
        assert_eq!(
            [0, 1, 2].map(|was| profiler(&level(was)).verdict),
            [Verdict::Warn, Verdict::Pass, Verdict::Warn]
        );
        assert_eq!(profiler(&[("shop".to_owned(), Err(Refusal::Denied))]).verdict, Verdict::Warn);
    }
}
