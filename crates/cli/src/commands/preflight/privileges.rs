//! Whether the user has the privileges of the sidecar's collectors.

use mongodb::bson::{Bson, Document};
use txnscope_sidecar::{CollectorSettings, Privilege, Resource, privileges_by_collector};

use super::deployment::{Reply, field, flag, text, texts};
use super::finding::Finding;

const PRIVILEGES: &str = "privileges";
const PROFILER: &str = "profiler";

/// Compares the reply to `connectionStatus` with `showPrivileges`. `status` shows whether the server requires
/// authentication.
pub(crate) fn granted(connection: &Reply, status: &Reply, settings: &CollectorSettings) -> Finding {
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            return Finding::warn(
                PRIVILEGES,
                format!("unknown: {error}"),
                "allow this user to run connectionStatus",
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
                "authentication is disabled",
                "enable authentication (security.authorization), and create the user of the sidecar with `txnscope role`",
            ),
            Err(_) => Finding::fail(
                PRIVILEGES,
                "the server requires authentication, and no credentials are configured",
                "create the user that `txnscope role` prints, and give it with --mongodb.username and \
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
        return Finding::pass(PRIVILEGES, format!("{user} has the privileges of {}", collectors.join(", ")));
    }
    Finding::fail(
        PRIVILEGES,
        format!("{user}: {}", missing.join("; ")),
        "create the role that `txnscope role` prints, and grant it: db.grantRolesToUser(\"USER\", [\"txnscope\"]); or \
         disable the collector in the configuration of the sidecar",
    )
}

fn named(resource: &Resource) -> String {
    match resource {
        Resource::Cluster => "the cluster".to_owned(),
        Resource::Collection { database, collection } => format!("{database}.{collection}"),
    }
}

/// Whether a granted privilege covers the action. A grant on all collections does not cover system collections.
fn allows(granted: &Document, required: &Privilege, action: &str) -> bool {
    if !texts(granted, &["actions"]).iter().any(|held| *held == action || *held == "anyAction") {
        return false;
    }
    if flag(granted, &["resource", "anyResource"]) {
        return true;
    }
    match &required.resource {
        Resource::Cluster => flag(granted, &["resource", "cluster"]),
        Resource::Collection { database, collection } => {
            let (db, of) = (text(granted, &["resource", "db"]), text(granted, &["resource", "collection"]));
            let system = collection.starts_with("system.");
            db.is_some_and(|db| db == database || db.is_empty())
                && of.is_some_and(|of| of == collection || (of.is_empty() && !system))
        }
    }
}

/// Checks the replies to `{profile: -1}` of each database.
pub(crate) fn profiler(levels: &[(String, Reply)]) -> Finding {
    if levels.is_empty() {
        return Finding::pass(PROFILER, "not required: the collector profile of the sidecar is disabled");
    }
    let mut texts = Vec::new();
    let (mut off, mut all) = (false, false);
    for (database, reply) in levels {
        let level = match reply {
            Ok(reply) => super::deployment::number(reply, &["was"]),
            Err(error) => {
                texts.push(format!("{database}: unknown: {error}"));
                off = true;
                continue;
            }
        };
        off |= level.is_none_or(|level| level < 1.0);
        all |= level.is_some_and(|level| level >= 2.0);
        texts.push(format!(
            "{database}: level {}",
            level.map_or("unknown".to_owned(), |level| level.to_string())
        ));
    }
    let evidence = texts.join("; ");
    if off {
        Finding::warn(
            PROFILER,
            format!("{evidence}; the collector profile would find no records"),
            "run the command that `txnscope role --config.file=FILE` prints on each member, or disable the collector",
        )
    } else if all {
        Finding::warn(
            PROFILER,
            format!("{evidence}; level 2 records all operations, which is expensive"),
            "use level 1 with the filter that `txnscope role --config.file=FILE` prints",
        )
    } else {
        Finding::pass(PROFILER, evidence)
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::deployment::QueryError;
    use super::super::finding::Status;
    use super::*;

    fn user(privileges: Vec<Document>) -> Reply {
        let users = vec![doc! {"user": "txnscope", "db": "admin"}];
        Ok(doc! {"authInfo": {"authenticatedUsers": users, "authenticatedUserPrivileges": privileges}})
    }

    fn cluster(actions: &[&str]) -> Document {
        doc! {"resource": {"cluster": true}, "actions": actions}
    }

    const ALL: [&str; 4] = ["getParameter", "inprog", "replSetGetStatus", "serverStatus"];

    #[test]
    fn missing_privileges_are_listed_with_their_collector() {
        let settings = CollectorSettings::default();
        let status = Ok(doc! {});
        assert_eq!(granted(&user(vec![cluster(&ALL)]), &status, &settings).status, Status::Pass);
        let found = granted(
            &user(vec![cluster(&["getParameter", "replSetGetStatus", "serverStatus"])]),
            &status,
            &settings,
        );
        assert_eq!(found.status, Status::Fail);
        assert_eq!(found.evidence, "txnscope@admin: current_op lacks inprog on the cluster");
        let any = doc! {"resource": {"anyResource": true}, "actions": ["anyAction"]};
        assert_eq!(granted(&user(vec![any]), &status, &settings).status, Status::Pass);
    }

    #[test]
    fn missing_credentials_differ_from_disabled_authentication() {
        let (unauthenticated, settings) =
            (Ok(doc! {"authInfo": {"authenticatedUsers": []}}), CollectorSettings::default());
        assert_eq!(granted(&unauthenticated, &Ok(doc! {}), &settings).status, Status::Warn);
        assert_eq!(
            granted(&unauthenticated, &Err(QueryError::PermissionDenied), &settings).status,
            Status::Fail
        );
    }

    #[test]
    fn grant_on_all_collections_excludes_system_collections() {
        let mut settings = CollectorSettings::default();
        settings.profile.enabled = true;
        settings.profile.databases = vec!["shop".to_owned()];
        let find = |collection: &str| doc! {"resource": {"db": "shop", "collection": collection}, "actions": ["find"]};
        let status = |grant| granted(&user(vec![cluster(&ALL), grant]), &Ok(doc! {}), &settings).status;
        assert_eq!(status(find("")), Status::Fail);
        assert_eq!(status(find("system.profile")), Status::Pass);
    }

    #[test]
    fn disabled_profiler_is_a_warning_if_its_collector_is_enabled() {
        let level = |was: i32| vec![("shop".to_owned(), Ok(doc! {"was": was}))];
        assert_eq!(profiler(&[]).status, Status::Pass);
        assert_eq!(
            [0, 1, 2].map(|was| profiler(&level(was)).status),
            [Status::Warn, Status::Pass, Status::Warn]
        );
        assert_eq!(profiler(&[("shop".to_owned(), Err(QueryError::PermissionDenied))]).status, Status::Warn);
    }
}
