//! `txnscope drill`: sends requests to a running backend, on data that the drill creates, and checks the responses.
//!
//! | module | contents |
//! | --- | --- |
//! | `race` | race tests: concurrent conflicting requests to the same entity |
//! | `load` | requests at a fixed rate, whether or not earlier ones have completed |
//! | `scenario` | the scenario file, which describes the races and the load |
//! | `backend` | the HTTP client of the backend |
//!
//! A drill uses only the HTTP API of the backend, so the backend may be written in any language.

mod args;
mod backend;
mod load;
mod race;
mod scenario;

use self::args::Drill;
pub(crate) use self::args::DrillArgs;
use crate::args::exit_status::ExitStatus;
use crate::output::report_result;
use crate::runtime::two_threads;

pub(crate) fn run(args: DrillArgs) -> ExitStatus {
    // Two threads: if the load generator decoded responses on its only thread, the next request would be sent late.
    let status = two_threads().and_then(|runtime| {
        runtime.block_on(async {
            match args.drill {
                Drill::Race(args) => race::race(&args).await,
                Drill::Load(args) => load::load(&args).await,
            }
        })
    });
    report_result(status)
}

/// Parses a scenario file, for the fuzzer.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_scenarios(text: &str) {
    let path = std::path::Path::new("scenarios.toml");
    let _ = scenario::file::ScenarioFile::parse(path, text);
}
