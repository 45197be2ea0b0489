//! The arguments of `audit`.

use clap::{Args, ValueEnum};

use crate::args::checks::ChecksArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all checks are clean, 1 there are violations, 2 a check could not be run and no other \
                  one found violations."
)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) checks: ChecksArgs,

    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    /// Maximum number of violating documents to print for each check. Their count is always exact.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) sample: u32,

    /// Print whole documents instead of their ids and the fields that the check names. They may hold personal data.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    /// One document with everything.
    Json,
    /// One row for each violating document.
    Csv,
}
