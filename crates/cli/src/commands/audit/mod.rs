//! `txnscope audit`: runs all checks once.

mod args;
mod output;

use clap::ArgMatches;
use txnscope_checks::{CheckResult, SampleOptions, run as run_check};

pub(crate) use self::args::AuditArgs;
use crate::args::exit_status::ExitStatus;
use crate::client::mongodb::connect_with_checks;
use crate::output::{print, report_result};
use crate::runtime::block_on;

pub(crate) fn run(args: &AuditArgs, matches: &ArgMatches) -> ExitStatus {
    report_result(block_on(audit(args, matches)))
}

async fn audit(args: &AuditArgs, matches: &ArgMatches) -> anyhow::Result<ExitStatus> {
    let (client, checks) = connect_with_checks(&args.checks, matches).await?;
    let sample = SampleOptions { limit: args.sample, full_documents: args.full };
    let mut results = Vec::new();
    // One after the other, as in `serve`, to keep the load on the deployment low.
    for check in checks.iter() {
        results.push((check, run_check(&client, check, sample).await));
    }
    print(&output::render(args.output, &results))?;
    let any = |is: fn(&CheckResult) -> bool| results.iter().any(|(_, report)| is(&report.result));
    // A violation is certain, even if other checks could not be run.
    Ok(if any(|outcome| matches!(outcome, CheckResult::Violated { .. })) {
        ExitStatus::Failure
    } else if any(|outcome| matches!(outcome, CheckResult::Failed(_))) {
        ExitStatus::Error
    } else {
        ExitStatus::Success
    })
}
