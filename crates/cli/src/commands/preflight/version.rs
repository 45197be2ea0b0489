//! Server version, storage engine, feature compatibility version.

use mongodb::bson::{Bson, Document};

use super::deployment::{Reply, field, number, text};
use super::finding::Finding;

const VERSION: &str = "server version";
const ENGINE: &str = "storage engine";
const FCV: &str = "feature compatibility";

/// The dates at which MongoDB ends the support of a version: <https://www.mongodb.com/legal/support-policy/lifecycles>.
const END_OF_LIFE: &[(u32, u32, &str)] = &[
    (4, 0, "2022-04-30"),
    (4, 2, "2023-04-30"),
    (4, 4, "2024-02-29"),
    (5, 0, "2024-10-31"),
    (6, 0, "2025-07-31"),
    (7, 0, "2027-08-31"),
    (8, 0, "2029-10-31"),
];

/// Checks the version. `today` has the form 2025-07-31.
pub(crate) fn version(build: &Reply, sharded: bool, today: &str) -> Finding {
    let build = match build {
        Ok(build) => build,
        Err(error) => {
            return Finding::warn(VERSION, format!("unknown: {error}"), "allow this user to run buildInfo");
        }
    };
    let Some((major, minor)) = numbers(build) else {
        return Finding::warn(
            VERSION,
            "the server does not report it",
            "check that this is MongoDB; a server that is only compatible with its protocol may lack transactions",
        );
    };
    let version = text(build, &["version"]).map_or_else(|| format!("{major}.{minor}"), str::to_owned);
    let minimum = if sharded { (4, 2) } else { (4, 0) };
    if (major, minor) < minimum {
        let remediation =
            format!("upgrade to {}.{} or later, preferably to a supported version", minimum.0, minimum.1);
        return Finding::fail(VERSION, format!("{version} does not support transactions here"), remediation);
    }
    let known = END_OF_LIFE.iter().find(|(of_major, of_minor, _)| (*of_major, *of_minor) == (major, minor));
    match known {
        Some((_, _, end)) if *end < today => Finding::warn(
            VERSION,
            format!("{version}; its support ended on {end}"),
            "upgrade: this version gets no more fixes",
        ),
        Some((_, _, end)) => Finding::pass(VERSION, format!("{version}, supported until {end}")),
        None if minor != 0 => Finding::warn(
            VERSION,
            format!("{version}, a rapid release"),
            "it is supported only until the next release; use a major release in production",
        ),
        None => Finding::pass(VERSION, version),
    }
}

fn numbers(build: &Document) -> Option<(u32, u32)> {
    let array = field(build, &["versionArray"]).and_then(Bson::as_array);
    let part = |index: usize| match array?.get(index)? {
        Bson::Int32(number) => u32::try_from(*number).ok(),
        Bson::Int64(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    let from_text = || {
        let mut parts = text(build, &["version"])?.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    part(0).zip(part(1)).or_else(from_text)
}

pub(crate) fn engine(status: &Reply, sharded: bool) -> Finding {
    let status = match status {
        Ok(_) if sharded => return Finding::pass(ENGINE, "mongos has no storage engine"),
        Ok(status) => status,
        Err(error) => return super::unknown(ENGINE, error, "serverStatus"),
    };
    match text(status, &["storageEngine", "name"]) {
        Some(name @ "wiredTiger") => Finding::pass(ENGINE, name),
        Some(name @ "inMemory") => Finding::warn(
            ENGINE,
            name,
            "it supports transactions, and loses its data at a restart: run a majority of the members on wiredTiger",
        ),
        Some(name) => Finding::fail(
            ENGINE,
            format!("{name:?} does not support transactions"),
            "run all members on wiredTiger; resynchronize them one after the other",
        ),
        None => Finding::warn(ENGINE, "the server does not report it", "see db.serverStatus().storageEngine"),
    }
}

pub(crate) fn compatibility(parameters: &Reply, build: &Reply, sharded: bool) -> Finding {
    let parameters = match parameters {
        Ok(_) if sharded => {
            return Finding::skip(FCV, "mongos does not have it; run preflight against each shard as well");
        }
        Ok(parameters) => parameters,
        Err(error) => return super::unknown(FCV, error, "getParameter"),
    };
    let version = text(parameters, &["featureCompatibilityVersion", "version"]);
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let Some((fcv, name)) = version.and_then(|text| Some((parse(text)?, text))) else {
        return Finding::warn(
            FCV,
            "the server does not report it",
            "see db.adminCommand({getParameter: 1, featureCompatibilityVersion: 1})",
        );
    };
    if fcv < (4, 0) {
        return Finding::fail(
            FCV,
            format!("{name} does not support transactions"),
            "db.adminCommand({setFeatureCompatibilityVersion: \"4.0\"})",
        );
    }
    match build.as_ref().ok().and_then(numbers) {
        Some(version) if fcv < version => Finding::warn(
            FCV,
            format!("{name} on a server of version {}.{}", version.0, version.1),
            format!(
                "the upgrade is not finished; to finish it: db.adminCommand({{setFeatureCompatibilityVersion: \"{}.{}\"}})",
                version.0, version.1
            ),
        ),
        Some(_) | None => Finding::pass(FCV, name),
    }
}

/// The limit on the lifetime of a transaction.
pub(crate) fn lifetime(parameters: &Reply, sharded: bool) -> Finding {
    const LIFETIME: &str = "transaction lifetime limit";
    let parameters = match parameters {
        Ok(_) if sharded => {
            return Finding::skip(
                LIFETIME,
                "mongos does not have it; run preflight against each shard as well",
            );
        }
        Ok(parameters) => parameters,
        Err(error) => return super::unknown(LIFETIME, error, "getParameter"),
    };
    let set = "db.adminCommand({setParameter: 1, transactionLifetimeLimitSeconds: 60}) on every member";
    match number(parameters, &["transactionLifetimeLimitSeconds"]) {
        Some(seconds) if seconds > 300.0 => Finding::warn(
            LIFETIME,
            format!("{seconds} s: an abandoned transaction holds locks and cache for this time"),
            format!("keep transactions short, and lower the limit: {set}"),
        ),
        Some(seconds) if seconds < 5.0 => {
            Finding::warn(LIFETIME, format!("{seconds} s: transactions are aborted during an election"), set)
        }
        Some(seconds) => Finding::pass(LIFETIME, format!("{seconds} s")),
        None => {
            Finding::warn(LIFETIME, "the server does not report it", "see transactionLifetimeLimitSeconds")
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Status;
    use super::*;

    fn of(text: &str) -> Reply {
        Ok(doc! {"version": text})
    }

    #[test]
    fn versions_without_transactions_fail_and_unsupported_ones_warn() {
        let today = "2026-01-15";
        for (text, sharded, expected) in [
            ("3.6.23", false, Status::Fail),
            ("4.0.28", true, Status::Fail),
            ("4.0.28", false, Status::Warn),
            ("6.0.5", false, Status::Warn),
            ("7.0.12", false, Status::Pass),
            ("8.0.3", true, Status::Pass),
            ("8.3.4", false, Status::Warn),
            ("9.0.0", false, Status::Pass),
            ("eight", false, Status::Warn),
        ] {
            let found = version(&of(text), sharded, today);
            assert_eq!(found.status, expected, "{text}: {found:?}");
        }
        assert_eq!(version(&of("6.0.5"), false, "2025-07-31").status, Status::Pass);
        let array = Ok(doc! {"version": "x", "versionArray": [7, 0, 1, 0]});
        assert_eq!(version(&array, false, today).status, Status::Pass);
    }

    #[test]
    fn unfinished_upgrade_is_a_warning() {
        let fcv = |text: &str| Ok(doc! {"featureCompatibilityVersion": {"version": text}});
        assert_eq!(compatibility(&fcv("6.0"), &of("6.0.5"), false).status, Status::Pass);
        assert_eq!(compatibility(&fcv("5.0"), &of("6.0.5"), false).status, Status::Warn);
        assert_eq!(compatibility(&fcv("3.6"), &of("4.0.5"), false).status, Status::Fail);
        assert_eq!(compatibility(&Ok(doc! {}), &of("4.0.5"), false).status, Status::Warn);
    }

    #[test]
    fn extreme_lifetime_limits_are_a_warning() {
        let limit = |seconds: i32| Ok(doc! {"transactionLifetimeLimitSeconds": seconds});
        for (seconds, expected) in [(1, Status::Warn), (60, Status::Pass), (3_600, Status::Warn)] {
            assert_eq!(lifetime(&limit(seconds), false).status, expected, "{seconds}");
        }
    }

    #[test]
    fn engine_without_transactions_fails() {
        let engine = |name: &str| super::engine(&Ok(doc! {"storageEngine": {"name": name}}), false).status;
        assert_eq!(
            ["wiredTiger", "inMemory", "mmapv1"].map(engine),
            [Status::Pass, Status::Warn, Status::Fail]
        );
    }
}
