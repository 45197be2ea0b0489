//! The arguments of `repair`.

use clap::Args;
use mongodb::bson::Bson;
use mongodb::bson::oid::ObjectId;

use crate::args::checks::ChecksArgs;
use crate::config::checks::AUDIT_COLLECTION;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --apply, nothing is changed. Exit status: 0 nothing is left to repair, 1 documents are left to \
                  repair, 2 an error, or the repair was refused."
)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) checks: ChecksArgs,

    /// Apply the repairs.
    #[arg(long)]
    pub(crate) apply: bool,

    /// Do not ask for confirmation.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Repair only the document with this _id: 24 hexadecimal digits, or Extended JSON. May be given more than once.
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) id: Vec<Bson>,

    /// Maximum number of documents to repair for each check.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,

    /// Allow a field to be computed from no inputs at all, which sets a sum to 0. Without this flag, such a repair is
    /// refused, since lost inputs look the same.
    #[arg(long, conflicts_with_all = ["undo", "run"])]
    pub(crate) allow_empty_inputs: bool,

    /// With --undo or --run: also restore values that are not numbers, such as a string. Without this flag, they are
    /// refused, since any user with write access to the audit collection could have forged them.
    #[arg(long, conflicts_with_all = ["apply", "id"])]
    pub(crate) allow_any_value: bool,

    /// Collection for the repair records, in the database of the check.
    #[arg(long, value_name = "COLLECTION", default_value = AUDIT_COLLECTION)]
    pub(crate) audit_collection: String,

    /// Author of the repairs, for the repair records. Default: USER@HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,

    /// Undo the repair with this record, instead of repairing.
    #[arg(long, value_name = "RECORD", value_parser = object_id, conflicts_with_all = ["apply", "id", "run"])]
    pub(crate) undo: Option<ObjectId>,

    /// Undo all repairs of this run, the latest first, instead of repairing.
    #[arg(long, value_name = "RUN", value_parser = object_id, conflicts_with_all = ["apply", "id"])]
    pub(crate) run: Option<ObjectId>,
}

fn object_id(text: &str) -> Result<ObjectId, String> {
    ObjectId::parse_str(text)
        .map_err(|_| "use the 24 hexadecimal digits that `txnscope repair` printed".to_owned())
}

/// Parses an _id. 24 hexadecimal digits are an ObjectId; a string of that form is given in quotes.
fn id(text: &str) -> Result<Bson, String> {
    if let Ok(id) = ObjectId::parse_str(text) {
        return Ok(id.into());
    }
    serde_json::from_str(text).or_else(|_| {
        let plain = !text.is_empty() && !text.starts_with(['{', '[', '"']);
        plain.then(|| Bson::String(text.to_owned())).ok_or_else(|| "it is not valid Extended JSON".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_as_object_ids_extended_json_or_strings() {
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
