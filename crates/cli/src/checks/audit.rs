//! `txnscope audit`: all checks, now.

use std::process::ExitCode;

use clap::ArgMatches;
use txnscope_checks::{CheckResult, SampleOptions, run};

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
    let sample = SampleOptions { limit: flags.sample, full_documents: flags.full };
    let mut results = Vec::new();
    // One after the other, as the sidecar does: an audit is no load test.
    for check in checks.iter() {
        results.push((check, run(&client, check, sample).await));
    }
    print(&output::render(flags.output, &results))?;
    let any = |is: fn(&CheckResult) -> bool| results.iter().any(|(_, report)| is(&report.result));
    // What is found wrong is certain, whatever else could not be checked.
    Ok(if any(|verdict| matches!(verdict, CheckResult::Violated { .. })) {
        VIOLATED
    } else if any(|verdict| matches!(verdict, CheckResult::Failed(_))) {
        UNKNOWN
    } else {
        CLEAN
    })
}
