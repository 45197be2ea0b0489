//! The command lines of `audit` and `repair`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mongodb::bson::Bson;
use mongodb::bson::oid::ObjectId;

use crate::deployment::DeploymentFlags;

/// What both need.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The configuration file of `serve`, in TOML, which may name the deployment and the file of checks.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) deployment: DeploymentFlags,

    /// The file of checks; docs/checks.md says how to write one.
    #[arg(
        long = "checks",
        visible_alias = "checks.file",
        value_name = "FILE",
        env = "TXNSCOPE_CHECKS_FILE",
        hide_env_values = true
    )]
    pub(crate) checks: Option<PathBuf>,

    /// Only the check of this name. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all clean, 1 something is wrong, 2 not known (and nothing found wrong)."
)]
pub(crate) struct AuditFlags {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How to print what was found.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    /// At most so many offending documents for each check. Their number is always exact.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) sample: u32,

    /// Print offending documents whole, and not only ids and the fields that matter. They may be personal.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    /// One document with everything.
    Json,
    /// One row for each offending document.
    Csv,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --apply, nothing is changed. Exit status: 0 nothing is left to repair, 1 something is, 2 not known or refused."
)]
pub(crate) struct RepairFlags {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Make the repairs that are shown.
    #[arg(long)]
    pub(crate) apply: bool,

    /// Do not ask on the terminal.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Only the document of this _id: 24 hexadecimal digits, or Extended JSON. May be given more than once.
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) id: Vec<Bson>,

    /// At most so many documents for each check.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,

    /// Allow a field to be set to what comes of no inputs at all: to 0, where there is nothing to add. Refused otherwise,
    /// since inputs that are lost look the same.
    #[arg(long, conflicts_with_all = ["undo", "run"])]
    pub(crate) allow_empty_inputs: bool,

    /// With --undo or --run: also put back what was no number, a text that stood in its place, say. Refused otherwise,
    /// since whoever may insert records could have written it.
    #[arg(long, conflicts_with_all = ["apply", "id"])]
    pub(crate) allow_any_value: bool,

    /// Where repairs are recorded, in the database of the check.
    #[arg(long, value_name = "COLLECTION", default_value = "txnscopeRepairs")]
    pub(crate) records: String,

    /// Who repairs, for the record. The user and the host, unless given.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,

    /// Undo the repair of this record instead.
    #[arg(long, value_name = "RECORD", value_parser = object_id, conflicts_with_all = ["apply", "id", "run"])]
    pub(crate) undo: Option<ObjectId>,

    /// Undo all repairs of this run instead, the latest first.
    #[arg(long, value_name = "RUN", value_parser = object_id, conflicts_with_all = ["apply", "id"])]
    pub(crate) run: Option<ObjectId>,
}

fn object_id(text: &str) -> Result<ObjectId, String> {
    ObjectId::parse_str(text)
        .map_err(|_| "24 hexadecimal digits, as `txnscope repair` has printed them".to_owned())
}

/// An id of 24 hexadecimal digits is nearly always an ObjectId; one that is a text can be given in quotes.
fn id(text: &str) -> Result<Bson, String> {
    if let Ok(id) = ObjectId::parse_str(text) {
        return Ok(id.into());
    }
    serde_json::from_str(text).or_else(|_| {
        let plain = !text.is_empty() && !text.starts_with(['{', '[', '"']);
        plain.then(|| Bson::String(text.to_owned())).ok_or_else(|| "it is no Extended JSON".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_it_looks_like() {
        let hex = "65a0b0c0d0e0f00102030405";
        let object = Bson::ObjectId(ObjectId::parse_str(hex).unwrap());
        assert_eq!(id(hex), Ok(object.clone()));
        assert_eq!(id(&format!("{{\"$oid\": \"{hex}\"}}")), Ok(object));
        assert_eq!(id(&format!("\"{hex}\"")), Ok(Bson::String(hex.into())));
        assert_eq!(id("7"), Ok(Bson::Int32(7)));
        assert_eq!(id("invoice-1"), Ok(Bson::String("invoice-1".into())));
        assert!(id("{\"a\":").is_err() && id("").is_err());
    }
}
