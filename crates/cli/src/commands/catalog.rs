//! `txnscope catalog`: all metrics that txnscope exports.

use clap::{Args, ValueEnum};
use txnscope_catalog as catalog;

use crate::args::exit_status::ExitStatus;
use crate::output::print_result;

#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CatalogFormat::Markdown)]
    format: CatalogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CatalogFormat {
    /// The tables of docs/metrics.md.
    Markdown,
    /// One name on each line.
    Names,
}

pub(crate) fn run(args: &CatalogArgs) -> ExitStatus {
    print_result(&match args.format {
        CatalogFormat::Markdown => catalog::markdown(),
        CatalogFormat::Names => catalog::METRICS.iter().flat_map(|metric| [metric.name, "\n"]).collect(),
    })
}
