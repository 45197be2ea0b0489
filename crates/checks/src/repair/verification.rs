//! Verifies a repair record against the check that it names.
//!
//! A user who may insert into the collection of records can write anything there. A record therefore decides only
//! what is verified here: the collection, the field and the document must be those of the check, and a repair must be
//! able to replace the one value by the other. All other content of a record is for display only.

use mongodb::bson::Bson;

use crate::check::{Check, Derived, NumberType, Rule};
use crate::file::Checks;
use crate::repair::RepairRecord;
use crate::repair::number::type_of;

/// The check that a record names.
pub(crate) fn named<'a>(checks: &'a Checks, record: &RepairRecord) -> Result<&'a Check, String> {
    checks.find(&record.check).ok_or_else(|| "none of the checks has that name".to_owned())
}

/// Whether a record can be of a repair by the check in the database. `any_value` also allows a record that replaced a
/// value that was not a number.
pub(crate) fn agrees(
    check: &Check,
    database: &str,
    record: &RepairRecord,
    any_value: bool,
) -> Result<(), String> {
    let differs = |what: &str, own: &str| {
        Err(format!("the record names another {what} than the check, which has {own}"))
    };
    if check.name != record.check {
        return differs("check", &check.name);
    }
    if check.database != database {
        return Err(format!("the check is of the database {}, and the record is in another", check.database));
    }
    let Rule::Derived(derived) = &check.rule else {
        return Err("the check of that name derives no field, so there is no repair to undo".to_owned());
    };
    if check.collection != record.collection {
        return differs("collection", &check.collection);
    }
    if derived.field != record.field {
        return differs("field", &derived.field);
    }
    if record.undoes.is_some() {
        return Err("the record is of an undo, not of a repair".to_owned());
    }
    match record.document {
        // Types that MongoDB does not allow as an `_id`.
        Bson::Array(_) | Bson::RegularExpression(_) | Bson::Undefined => {
            Err("the record's document is not a valid _id".to_owned())
        }
        _ => reversible(derived, record, any_value),
    }
}

/// Whether a repair could have replaced the one value by the other, and may be undone.
fn reversible(derived: &Derived, record: &RepairRecord, any_value: bool) -> Result<(), String> {
    let Some(after) = &record.after else {
        return Err("the record lacks the value that was set: a repair always sets one".to_owned());
    };
    match (&record.before, type_of(after)) {
        (Some(before), Some(set)) if type_of(before).is_some() => same_type(type_of(before), set),
        // Only the `type` of a check allows a repair to set a number where there was none.
        (before, Some(set)) => {
            let Some(own) = derived.number else {
                return Err(
                    "the check has no `type`, without which no repair replaces a value that is not a number"
                        .to_owned(),
                );
            };
            same_type(Some(own), set)?;
            match before {
                None | Some(Bson::Null) => Ok(()),
                Some(before) => other(before, any_value),
            }
        }
        (Some(before), None) if before.element_type() == after.element_type() => other(before, any_value),
        (_, None) => Err("no repair replaces the one value by the other: their types differ".to_owned()),
    }
}

fn same_type(own: Option<NumberType>, set: NumberType) -> Result<(), String> {
    match own {
        Some(own) if own == set => Ok(()),
        _ => Err("no repair replaces the one value by the other: a repair keeps the numeric type".to_owned()),
    }
}

/// Verifies a value before the repair that is not a number.
fn other(before: &Bson, any_value: bool) -> Result<(), String> {
    if matches!(before, Bson::MinKey | Bson::MaxKey | Bson::DbPointer(_)) {
        return Err("the value cannot be restored: the driver would write another one".to_owned());
    }
    if any_value {
        return Ok(());
    }
    Err("the value to restore is neither a number nor null, and a user who may insert records could have written it: \
         if it is the original value, repeat with --allow-any-value"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, doc};

    use super::*;
    use crate::repair::Author;

    const FILE: &str = r#"
        [defaults]
        database = "d"
        severity = "critical"
        [[check]]
        name = "drift"
        collection = "accounts"
        derived = { field = "balance", expression = '{ "$sum": "$in" }', type = "long" }
        [[check]]
        name = "untyped"
        collection = "accounts"
        derived = { field = "balance", expression = '{ "$sum": "$in" }' }
        [[check]]
        name = "negative"
        collection = "accounts"
        forbid = '{ "balance": { "$lt": 0 } }'
    "#;

    fn record(check: &str) -> RepairRecord {
        RepairRecord {
            id: ObjectId::new(),
            run: ObjectId::new(),
            undoes: None,
            undone_by: None,
            at: DateTime::now(),
            author: Author { name: "ann".into(), users: Vec::new() },
            check: check.into(),
            collection: "accounts".into(),
            document: Bson::Int32(1),
            field: "balance".into(),
            before: Some(Bson::Int64(1)),
            after: Some(Bson::Int64(2)),
            inputs: Vec::new(),
        }
    }

    #[test]
    fn record_that_differs_from_check_is_rejected() {
        let checks = Checks::parse(FILE).unwrap();
        let refused = |record: &RepairRecord, database: &str| {
            named(&checks, record).and_then(|check| agrees(check, database, record, false))
        };
        assert_eq!(refused(&record("drift"), "d"), Ok(()));
        assert!(refused(&record("drift"), "admin").unwrap_err().contains("the database d"));
        assert!(refused(&record("other"), "d").unwrap_err().contains("none of the checks"));
        assert!(refused(&record("negative"), "d").unwrap_err().contains("derives no field"));
        let changed = |change: fn(&mut RepairRecord)| {
            let mut record = record("drift");
            change(&mut record);
            refused(&record, "d").unwrap_err()
        };
        assert!(changed(|record| record.collection = "users".into()).contains("collection"));
        for field in ["admin", "balance.x", "$balance", "$$ROOT", "", "balance\u{0}"] {
            let mut record = record("drift");
            record.field = field.into();
            assert!(refused(&record, "d").unwrap_err().contains("field"), "{field}");
        }
        assert!(changed(|record| record.undoes = Some(ObjectId::new())).contains("undo"));
        assert!(changed(|record| record.document = Bson::Array(vec![])).contains("_id"));
    }

    #[test]
    fn only_values_that_a_repair_could_have_replaced_are_restored() {
        let checks = Checks::parse(FILE).unwrap();
        let verify = |check: &str, before: Option<Bson>, after: Option<Bson>, any: bool| {
            agrees(checks.find(check).unwrap(), "d", &RepairRecord { before, after, ..record(check) }, any)
        };
        let long = || Some(Bson::Int64(2));
        for before in [long(), None, Some(Bson::Null)] {
            assert_eq!(verify("drift", before.clone(), long(), false), Ok(()), "{before:?}");
        }
        assert_eq!(verify("untyped", Some(Bson::Double(1.0)), Some(Bson::Double(f64::MAX)), false), Ok(()));
        for (before, after) in [
            (Some(Bson::Int32(1)), long()),
            (long(), None),
            (long(), Some(Bson::Null)),
            (long(), Some("2".into())),
            (None, Some(Bson::Int32(2))),
            (None, Some("2".into())),
            (Some(Bson::MinKey), long()),
        ] {
            for any in [false, true] {
                assert!(verify("drift", before.clone(), after.clone(), any).is_err(), "{before:?} {after:?}");
            }
        }
        assert!(verify("untyped", None, long(), true).unwrap_err().contains("`type`"));
        // A value that is not a number is restored if this is allowed explicitly.
        for before in [
            Bson::from("a lot"),
            Bson::Boolean(true),
            doc! {"$function": {"body": "f"}}.into(),
            Bson::JavaScriptCode("f()".into()),
        ] {
            let refused = verify("drift", Some(before.clone()), long(), false).unwrap_err();
            assert!(refused.contains("--allow-any-value"), "{refused}");
            assert_eq!(verify("drift", Some(before), long(), true), Ok(()));
        }
        let (one, other) = (Some(Bson::from("a")), Some(Bson::from("b")));
        assert!(verify("drift", one.clone(), other.clone(), false).is_err());
        assert_eq!(verify("drift", one, other, true), Ok(()));
    }
}
