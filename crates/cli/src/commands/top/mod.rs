//! `txnscope top`: which transactions are open, and which operation waits for which.
//!
//! | module | contents |
//! | --- | --- |
//! | `once` | the report as a table and as JSON |
//! | `text` | the words for transactions, waits and times, which both views use |
//! | `terminal` | the terminal: setting up, restoring, and the loop of events |
//! | `app`, `keys` | the state of the view, and what the keys change |
//! | `rows` | filter and order of the rows |
//! | `draw`, `panes` | from the state to the screen |
//! | `kill`, `kill_popup`, `kill_record` | ending a transaction, asking before, and the line about it |

mod app;
mod args;
mod backend_text;
mod draw;
mod keys;
mod kill;
mod kill_popup;
mod kill_record;
mod once;
mod panes;
mod rows;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use std::io::IsTerminal as _;

use anyhow::{Result, ensure};
use clap::ArgMatches;
use txnscope_sidecar::live::{LiveMonitor, LiveReport, LiveSettings, MemberStatus};

pub(crate) use self::args::TopArgs;
use self::kill::Killer;
use crate::args::connection::ConnectionSources;
use crate::args::exit_status::ExitStatus;
use crate::config::collectors;
use crate::config::file::ConfigFile;
use crate::output::{print, print_warning, report_result};
use crate::runtime::two_threads;

pub(crate) fn run(args: &TopArgs, matches: &ArgMatches) -> ExitStatus {
    report_result(top(args, matches))
}

fn top(args: &TopArgs, matches: &ArgMatches) -> Result<ExitStatus> {
    let needs_terminal = !args.once && args.end_transaction.is_none();
    ensure!(
        !needs_terminal || std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "the standard input and output are no terminal: use --once, with --output=json for a script"
    );
    let config = ConfigFile::load(args.config.file.as_deref())?;
    let target = ConnectionSources::new(args.mongodb.clone(), matches).single_target(&config)?;
    let mut settings = LiveSettings::default();
    settings.backends = collectors::settings(&config, &args.collectors)?.open_by_operation.backends;
    (settings.interval, settings.timeout) = (args.interval, args.timeout);
    let killer = args.allow_kill.then(|| Killer::new(&target, args.kill_log.as_deref())).transpose()?;
    // Members are polled in the background, so that the view never waits for one that hangs.
    let runtime = two_threads()?;
    let monitor = runtime.block_on(LiveMonitor::start(&target, &settings))?;
    let status = if needs_terminal {
        terminal::show(&runtime, &monitor, killer.as_ref())?
    } else {
        let limit = args.timeout * 3 + args.interval * 3;
        runtime.block_on(monitor.wait_for_members(limit));
        let report = monitor.report();
        match (&args.end_transaction, &killer) {
            (Some(selected), Some(killer)) => {
                runtime.block_on(killer.ask_and_end(&report, selected, args.yes))?
            }
            _ => print_once(&report, args)?,
        }
    };
    runtime.block_on(monitor.shutdown());
    // A DNS query that hangs must not keep the command.
    runtime.shutdown_background();
    Ok(status)
}

fn print_once(report: &LiveReport, args: &TopArgs) -> Result<ExitStatus> {
    print(&once::render(args.output, report))?;
    if !is_answered(report) {
        return Ok(ExitStatus::Error);
    }
    if !once::shows_operations(report) {
        print_warning("no member shows its operations: the privileges that are missing are listed above");
        return Ok(ExitStatus::Error);
    }
    Ok(ExitStatus::Success)
}

/// Whether a member has reported. Prints why not.
fn is_answered(report: &LiveReport) -> bool {
    if report.members.iter().any(|member| member.state == MemberStatus::Answers) {
        return true;
    }
    for member in &report.members {
        let error =
            member.error.as_deref().unwrap_or("it has not answered yet: give it more time with --timeout");
        print_warning(&format!("{}: {error}", member.member));
    }
    print_warning("no member has reported");
    false
}
