//! `txnscope audit`: all checks, now.

use std::process::ExitCode;

use clap::ArgMatches;
use txnscope_checks::{Sample, Verdict, run};

use crate::checks::flags::AuditFlags;
use crate::checks::{CLEAN, UNKNOWN, VIOLATED, block_on, output, prepare};
use crate::{complain, print};

pub(crate) fn audit(flags: &AuditFlags, matches: &ArgMatches) -> ExitCode {
    match block_on(work(flags, matches)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error, UNKNOWN),
    }
}

async fn work(flags: &AuditFlags, matches: &ArgMatches) -> anyhow::Result<u8> {
    let (client, checks) = prepare(&flags.common, matches).await?;
    let sample = Sample { most: flags.sample, full: flags.full };
    let mut results = Vec::new();
    // One after the other, as the sidecar does: an audit is no load test.
    for check in checks.iter() {
        results.push((check, run(&client, check, sample).await));
    }
    print(&output::render(flags.output, &results))?;
    let any = |is: fn(&Verdict) -> bool| results.iter().any(|(_, report)| is(&report.verdict));
    // What is found wrong is certain, whatever else could not be checked.
    Ok(if any(|verdict| matches!(verdict, Verdict::Violated { .. })) {
        VIOLATED
    } else if any(|verdict| matches!(verdict, Verdict::Failed(_))) {
        UNKNOWN
    } else {
        CLEAN
    })
}
