//! What runs there: version, storage engine, feature compatibility.

use mongodb::bson::{Bson, Document};

use super::deployment::{Answer, field, number, text};
use super::finding::Finding;

const VERSION: &str = "server version";
const ENGINE: &str = "storage engine";
const FCV: &str = "feature compatibility";

/// When MongoDB ends its support of a version: <https://www.mongodb.com/legal/support-policy/lifecycles>.
const END_OF_LIFE: &[(u32, u32, &str)] = &[
    (4, 0, "2022-04-30"),
    (4, 2, "2023-04-30"),
    (4, 4, "2024-02-29"),
    (5, 0, "2024-10-31"),
    (6, 0, "2025-07-31"),
    (7, 0, "2027-08-31"),
    (8, 0, "2029-10-31"),
];

/// `today` is of the form 2025-07-31.
pub(crate) fn version(build: &Answer, sharded: bool, today: &str) -> Finding {
    let build = match build {
        Ok(build) => build,
        Err(refusal) => {
            return Finding::warn(VERSION, format!("not known: {refusal}"), "let this user run buildInfo");
        }
    };
    let Some((major, minor)) = numbers(build) else {
        return Finding::warn(
            VERSION,
            "the server names none",
            "is this MongoDB? What speaks its protocol only may lack transactions",
        );
    };
    let shown = text(build, &["version"]).map_or_else(|| format!("{major}.{minor}"), str::to_owned);
    let least = if sharded { (4, 2) } else { (4, 0) };
    if (major, minor) < least {
        let cure =
            format!("upgrade to {}.{} or later, best to a version that is supported", least.0, least.1);
        return Finding::fail(VERSION, format!("{shown} has no transactions here"), cure);
    }
    let known = END_OF_LIFE.iter().find(|(of_major, of_minor, _)| (*of_major, *of_minor) == (major, minor));
    match known {
        Some((_, _, end)) if *end < today => Finding::warn(
            VERSION,
            format!("{shown}; its support ended on {end}"),
            "upgrade: it gets no more corrections, those of transactions included",
        ),
        Some((_, _, end)) => Finding::pass(VERSION, format!("{shown}, supported until {end}")),
        None if minor != 0 => Finding::warn(
            VERSION,
            format!("{shown}, a rapid release"),
            "it is supported until the next one is out; for production take a major release",
        ),
        None => Finding::pass(VERSION, shown),
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

pub(crate) fn engine(status: &Answer, sharded: bool) -> Finding {
    let status = match status {
        Ok(_) if sharded => return Finding::pass(ENGINE, "mongos stores nothing itself"),
        Ok(status) => status,
        Err(refusal) => return super::not_known(ENGINE, refusal, "serverStatus"),
    };
    match text(status, &["storageEngine", "name"]) {
        Some(name @ "wiredTiger") => Finding::pass(ENGINE, name),
        Some(name @ "inMemory") => Finding::warn(
            ENGINE,
            name,
            "it runs transactions and keeps nothing over a restart: have a majority of members on wiredTiger",
        ),
        Some(name) => Finding::fail(
            ENGINE,
            format!("{name:?} runs no transactions"),
            "have every member on wiredTiger; each can be resynchronised in turn",
        ),
        None => Finding::warn(ENGINE, "the server names none", "see db.serverStatus().storageEngine"),
    }
}

pub(crate) fn compatibility(parameters: &Answer, build: &Answer, sharded: bool) -> Finding {
    let parameters = match parameters {
        Ok(_) if sharded => {
            return Finding::skip(FCV, "mongos has none; run preflight against each shard as well");
        }
        Ok(parameters) => parameters,
        Err(refusal) => return super::not_known(FCV, refusal, "getParameter"),
    };
    let version = text(parameters, &["featureCompatibilityVersion", "version"]);
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let Some((fcv, shown)) = version.and_then(|text| Some((parse(text)?, text))) else {
        return Finding::warn(
            FCV,
            "the server names none",
            "see db.adminCommand({getParameter: 1, featureCompatibilityVersion: 1})",
        );
    };
    if fcv < (4, 0) {
        return Finding::fail(
            FCV,
            format!("{shown} allows no transactions"),
            "db.adminCommand({setFeatureCompatibilityVersion: \"4.0\"})",
        );
    }
    match build.as_ref().ok().and_then(numbers) {
        Some(version) if fcv < version => Finding::warn(
            FCV,
            format!("{shown} on a server of {}.{}", version.0, version.1),
            format!(
                "an upgrade is unfinished; when it is to stay: db.adminCommand({{setFeatureCompatibilityVersion: \"{}.{}\"}})",
                version.0, version.1
            ),
        ),
        Some(_) | None => Finding::pass(FCV, shown),
    }
}

/// How long a transaction may live.
pub(crate) fn lifetime(parameters: &Answer, sharded: bool) -> Finding {
    const LIFETIME: &str = "transaction lifetime limit";
    let parameters = match parameters {
        Ok(_) if sharded => {
            return Finding::skip(LIFETIME, "mongos has none; run preflight against each shard as well");
        }
        Ok(parameters) => parameters,
        Err(refusal) => return super::not_known(LIFETIME, refusal, "getParameter"),
    };
    let set = "db.adminCommand({setParameter: 1, transactionLifetimeLimitSeconds: 60}) on every member";
    match number(parameters, &["transactionLifetimeLimitSeconds"]) {
        Some(seconds) if seconds > 300.0 => Finding::warn(
            LIFETIME,
            format!("{seconds} s: one forgotten transaction holds its locks and the cache as long"),
            format!("make transactions short and the limit small: {set}"),
        ),
        Some(seconds) if seconds < 5.0 => Finding::warn(
            LIFETIME,
            format!("{seconds} s: a commit that waits for an election will not outlive it"),
            set,
        ),
        Some(seconds) => Finding::pass(LIFETIME, format!("{seconds} s")),
        None => Finding::warn(LIFETIME, "the server names none", "see transactionLifetimeLimitSeconds"),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Verdict;
    use super::*;

    fn of(text: &str) -> Answer {
        Ok(doc! {"version": text})
    }

    #[test]
    fn versions_without_transactions_fail_and_old_ones_warn() {
        let today = "2026-01-15";
        for (text, sharded, expected) in [
            ("3.6.23", false, Verdict::Fail),
            ("4.0.28", true, Verdict::Fail),
            ("4.0.28", false, Verdict::Warn),
            ("6.0.5", false, Verdict::Warn),
            ("7.0.12", false, Verdict::Pass),
            ("8.0.3", true, Verdict::Pass),
            ("8.3.4", false, Verdict::Warn),
            ("9.0.0", false, Verdict::Pass),
            ("eight", false, Verdict::Warn),
        ] {
            let found = version(&of(text), sharded, today);
            assert_eq!(found.verdict, expected, "{text}: {found:?}");
        }
        assert_eq!(version(&of("6.0.5"), false, "2025-07-31").verdict, Verdict::Pass);
        let array = Ok(doc! {"version": "x", "versionArray": [7, 0, 1, 0]});
        assert_eq!(version(&array, false, today).verdict, Verdict::Pass);
    }

    #[test]
    fn an_unfinished_upgrade_is_a_warning() {
        let fcv = |text: &str| Ok(doc! {"featureCompatibilityVersion": {"version": text}});
        assert_eq!(compatibility(&fcv("6.0"), &of("6.0.5"), false).verdict, Verdict::Pass);
        assert_eq!(compatibility(&fcv("5.0"), &of("6.0.5"), false).verdict, Verdict::Warn);
        assert_eq!(compatibility(&fcv("3.6"), &of("4.0.5"), false).verdict, Verdict::Fail);
        assert_eq!(compatibility(&Ok(doc! {}), &of("4.0.5"), false).verdict, Verdict::Warn);
    }

    #[test]
    fn a_lifetime_has_a_sensible_range() {
        let limit = |seconds: i32| Ok(doc! {"transactionLifetimeLimitSeconds": seconds});
        for (seconds, expected) in [(1, Verdict::Warn), (60, Verdict::Pass), (3_600, Verdict::Warn)] {
            assert_eq!(lifetime(&limit(seconds), false).verdict, expected, "{seconds}");
        }
    }

    #[test]
    fn an_engine_without_transactions_fails() {
        let engine = |name: &str| super::engine(&Ok(doc! {"storageEngine": {"name": name}}), false).verdict;
        assert_eq!(
            ["wiredTiger", "inMemory", "mmapv1"].map(engine),
            [Verdict::Pass, Verdict::Warn, Verdict::Fail]
        );
    }
}
