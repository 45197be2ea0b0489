//! Parses one `[[check]]`, and the `[defaults]` that it falls back on.

use std::time::Duration;

use mongodb::bson::{Document, deserialize_from_document};
use mongodb::options::{Collation, ReadPreference};

use crate::check::{Balance, Check, Derived, NumberType, Rule, Severity, Side};
use crate::file::table::{Table, suggestion};
use crate::file::{Diagnostics, fields};

const MAX_NAME: usize = 64;
const RULES: [&str; 4] = ["forbid", "pipeline", "derived", "balance"];
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(24 * 3600));

/// The values of the keys that a check omits.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    severity: Option<Severity>,
    database: Option<String>,
    interval: Option<Duration>,
    max_time: Option<Duration>,
    read_preference: Option<ReadPreference>,
    allow_javascript: Option<bool>,
}

impl Defaults {
    const INTERVAL: Duration = Duration::from_secs(300);
    const MAX_TIME: Duration = Duration::from_secs(60);

    pub(crate) fn read(mut table: Table<'_>, diagnostics: &mut Diagnostics) -> Self {
        let defaults = Self::shared(&mut table, diagnostics);
        table.finish(diagnostics);
        defaults
    }

    /// Parses the keys that `[defaults]` and a `[[check]]` have in common.
    fn shared(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Self {
        Self {
            severity: severity(table, diagnostics),
            database: database(table, diagnostics),
            interval: duration("interval", INTERVALS, table, diagnostics),
            max_time: duration("max_time", TIMES, table, diagnostics),
            read_preference: read_preference(table, diagnostics),
            allow_javascript: table.flag("allow_javascript", diagnostics),
        }
    }
}

pub(crate) fn read(
    mut table: Table<'_>,
    defaults: &Defaults,
    diagnostics: &mut Diagnostics,
) -> Option<Check> {
    let name = name(&mut table, diagnostics);
    if let Some(name) = &name {
        table.name = format!("check `{name}`");
    }
    let own = Defaults::shared(&mut table, diagnostics);
    let about = table.text("about", diagnostics).map(|(_, text)| text.to_owned()).unwrap_or_default();
    let collection = collection("collection", &mut table, diagnostics);
    if collection.is_none() && !table.has("collection") {
        table.lacks("collection", "", diagnostics);
    }
    let show = paths("show", &mut table, diagnostics).unwrap_or_default();
    let may_be_missing = table.flag("may_be_missing", diagnostics).unwrap_or(false);
    let collation = collation(&mut table, diagnostics);
    let rule = rule(&mut table, collection.as_deref().unwrap_or_default(), diagnostics);
    let allow_javascript = own.allow_javascript.or(defaults.allow_javascript).unwrap_or(false);
    if let Some(operator) = rule.as_ref().and_then(Rule::javascript)
        && !allow_javascript
    {
        diagnostics.report(
            table.line(),
            format!(
                "{} has {operator}, which runs JavaScript on the server: it may go on after `max_time`, and cannot use an \
                 index. Use MongoDB's own operators, or allow it with `allow_javascript = true` in the check",
                table.name
            ),
        );
    }
    let severity = own.severity.or(defaults.severity);
    if severity.is_none() && !table.has("severity") {
        table.lacks("severity", " (critical, warning or info), and so does [defaults]", diagnostics);
    }
    let database = own.database.or_else(|| defaults.database.clone());
    if database.is_none() && !table.has("database") {
        table.lacks("database", ", and so does [defaults]", diagnostics);
    }
    table.finish(diagnostics);
    Some(Check {
        name: name?,
        about,
        severity: severity?,
        database: database?,
        collection: collection?,
        interval: own.interval.or(defaults.interval).unwrap_or(Defaults::INTERVAL),
        max_time: own.max_time.or(defaults.max_time).unwrap_or(Defaults::MAX_TIME),
        read_preference: own
            .read_preference
            .or_else(|| defaults.read_preference.clone())
            .unwrap_or(ReadPreference::Primary),
        show,
        may_be_missing,
        collation,
        allow_javascript,
        rule: rule?,
    })
}

// ===== The rule =====

fn rule(table: &mut Table<'_>, collection: &str, diagnostics: &mut Diagnostics) -> Option<Rule> {
    let given: Vec<_> = RULES.into_iter().filter(|key| table.has(key)).collect();
    // All four are parsed, so that each of them is a known key.
    let forbid = table.document("forbid", diagnostics).map(|(_, filter)| Rule::Forbid(filter));
    let pipeline = pipeline("pipeline", table, diagnostics).map(Rule::Pipeline);
    let derived = table.table("derived", diagnostics).and_then(|table| derived(table, diagnostics));
    let balance =
        table.table("balance", diagnostics).and_then(|table| balance(table, collection, diagnostics));
    match given.as_slice() {
        [_] => forbid
            .or(pipeline)
            .or(derived.map(Box::new).map(Rule::Derived))
            .or(balance.map(Box::new).map(Rule::Balance)),
        [] => {
            table.lacks(
                "forbid",
                ", `pipeline`, `derived` or `balance`: add the rule of the check",
                diagnostics,
            );
            None
        }
        several => {
            let line = table.line();
            let name = &table.name;
            diagnostics
                .report(line, format!("{name} has {}: a check has exactly one rule", several.join(" and ")));
            None
        }
    }
}

fn derived(mut table: Table<'_>, diagnostics: &mut Diagnostics) -> Option<Derived> {
    let field =
        table.text("field", diagnostics).filter(|(line, field)| is_path(field, *line, "field", diagnostics));
    let field = field.filter(|(line, field)| {
        let is_id = *field == "_id" || field.starts_with("_id.");
        if is_id {
            diagnostics.report(*line, "`_id` cannot be a derived field: it cannot be changed");
        }
        !is_id
    });
    if !table.has("field") {
        table.lacks("field", "", diagnostics);
    }
    let expression = table.json("expression", diagnostics);
    if !table.has("expression") {
        table.lacks(
            "expression",
            ": the MongoDB expression for the expected value of the field",
            diagnostics,
        );
    }
    let filter = table.document("where", diagnostics).map(|(_, filter)| filter);
    let stages = pipeline("stages", &mut table, diagnostics);
    let inputs = paths("inputs", &mut table, diagnostics);
    let tolerance = table.number("tolerance", diagnostics);
    let number = number_type(&mut table, diagnostics);
    table.finish(diagnostics);
    let (_, expression) = expression?;
    Some(Derived {
        field: field?.1.to_owned(),
        filter,
        stages: stages.unwrap_or_default(),
        inputs: inputs.unwrap_or_else(|| fields::of_expression(&expression)),
        expression,
        tolerance,
        number,
    })
}

fn balance(mut table: Table<'_>, collection: &str, diagnostics: &mut Diagnostics) -> Option<Balance> {
    let mut read = |key| {
        let side = table.table(key, diagnostics).map(|table| side(table, collection, diagnostics));
        if side.is_none() && !table.has(key) {
            table.lacks(key, ": a balance needs a left and a right side", diagnostics);
        }
        side.flatten()
    };
    let (left, right) = (read("left"), read("right"));
    let tolerance = table.number("tolerance", diagnostics);
    let line = table.line();
    table.finish(diagnostics);
    let (left, right) = (left?, right?);
    if left.by.is_some() != right.by.is_some() {
        diagnostics
            .report(line, "both sides of a balance need `by`, or neither: groups are compared with groups");
        return None;
    }
    Some(Balance { left, right, tolerance })
}

fn side(mut table: Table<'_>, of_check: &str, diagnostics: &mut Diagnostics) -> Option<Side> {
    let collection = collection("collection", &mut table, diagnostics);
    let filter = table.document("where", diagnostics).map(|(_, filter)| filter);
    let sum = table.json("sum", diagnostics).map(|(_, sum)| sum);
    if !table.has("sum") {
        table.lacks("sum", ": the MongoDB expression that is summed, as in '\"$debit\"'", diagnostics);
    }
    let by = table.json("by", diagnostics).map(|(_, by)| by);
    table.finish(diagnostics);
    Some(Side { collection: collection.unwrap_or_else(|| of_check.to_owned()), filter, sum: sum?, by })
}

fn pipeline(
    key: &'static str,
    table: &mut Table<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<mongodb::bson::Document>> {
    let (line, stages) = table.stages(key, diagnostics)?;
    if fields::writes(&stages) {
        diagnostics
            .report(line, format!("`{key}` of {} has $out or $merge: a check never writes", table.name));
        return None;
    }
    Some(stages)
}

// ===== Scalar values =====

fn name(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let Some((line, name)) = table.text("name", diagnostics) else {
        if !table.has("name") {
            table.lacks("name", "", diagnostics);
        }
        return None;
    };
    let legal = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !legal {
        diagnostics.report(
            line,
            format!("{name:?} is not a valid name of a check: use a lowercase letter, then lowercase letters, digits and _, at most {MAX_NAME}"),
        );
        return None;
    }
    Some(name.to_owned())
}

fn severity(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<Severity> {
    let (line, word) = table.text("severity", diagnostics)?;
    let severity = Severity::ALL.into_iter().find(|severity| severity.as_str() == word);
    if severity.is_none() {
        let known = Severity::ALL.map(Severity::as_str);
        diagnostics.report(line, format!("`{word}` is not a severity{}", suggestion(word, &known)));
    }
    severity
}

fn number_type(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<NumberType> {
    let (line, word) = table.text("type", diagnostics)?;
    let number = NumberType::ALL.into_iter().find(|number| number.as_str() == word);
    if number.is_none() {
        let known = NumberType::ALL.map(NumberType::as_str);
        diagnostics.report(line, format!("`{word}` is not a numeric type{}", suggestion(word, &known)));
    }
    number
}

fn read_preference(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<ReadPreference> {
    const KNOWN: [&str; 5] = ["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"];
    let (line, word) = table.text("read_preference", diagnostics)?;
    let options = None;
    match word {
        "primary" => Some(ReadPreference::Primary),
        "primaryPreferred" => Some(ReadPreference::PrimaryPreferred { options }),
        "secondary" => Some(ReadPreference::Secondary { options }),
        "secondaryPreferred" => Some(ReadPreference::SecondaryPreferred { options }),
        "nearest" => Some(ReadPreference::Nearest { options }),
        _ => {
            diagnostics
                .report(line, format!("`{word}` is not a read preference{}", suggestion(word, &KNOWN)));
            None
        }
    }
}

fn duration(
    key: &'static str,
    (least, most): (Duration, Duration),
    table: &mut Table<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Duration> {
    let (line, text) = table.text(key, diagnostics)?;
    match humantime::parse_duration(text) {
        Ok(duration) if (least..=most).contains(&duration) => Some(duration),
        Ok(_) => {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            diagnostics
                .report(line, format!("`{key}` of {} is out of range: use {least} to {most}", table.name));
            None
        }
        Err(_) => {
            diagnostics.report(
                line,
                format!("`{key}` of {} must be a duration with a unit, as in 30s or 5m", table.name),
            );
            None
        }
    }
}

fn database(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let (line, name) = table.text("database", diagnostics)?;
    if name.is_empty() || name.len() > 63 || name.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        diagnostics.report(
            line,
            format!("{name:?} is not a valid database name: use 1 to 63 bytes, none of / \\ . \" $ or space"),
        );
        return None;
    }
    Some(name.to_owned())
}

fn collection(key: &'static str, table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let (line, name) = table.text(key, diagnostics)?;
    if name.is_empty() || name.contains(['$', '\0']) {
        diagnostics.report(line, format!("{name:?} is not a valid collection name"));
        return None;
    }
    Some(name.to_owned())
}

/// Parses the collation with which strings are compared. Derived fields have none: they are compared byte by byte.
fn collation(table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<Document> {
    let (line, document) = table.document("collation", diagnostics)?;
    if table.has("derived") {
        diagnostics.report(line, format!("{} has `derived`, which does not support `collation`", table.name));
        return None;
    }
    match deserialize_from_document::<Collation>(document.clone()) {
        Ok(_) => Some(document),
        Err(error) => {
            let why = error.message.unwrap_or_default();
            diagnostics.report(
                line,
                format!(
                    "`collation` of {} is invalid; write it as in '{{ \"locale\": \"en\", \"strength\": 2 }}': {why}",
                    table.name
                ),
            );
            None
        }
    }
}

fn paths(key: &'static str, table: &mut Table<'_>, diagnostics: &mut Diagnostics) -> Option<Vec<String>> {
    let texts = table.texts(key, diagnostics)?;
    let legal = texts.into_iter().filter(|(line, path)| is_path(path, *line, key, diagnostics));
    Some(legal.map(|(_, path)| path).collect())
}

fn is_path(path: &str, line: usize, key: &str, diagnostics: &mut Diagnostics) -> bool {
    let legal =
        path.split('.').all(|part| !part.is_empty() && !part.starts_with('$') && !part.contains('\0'));
    if !legal {
        diagnostics.report(
            line,
            format!(
                "{path:?} in `{key}` is not a field path: write it as in clientId or customer.name, without $"
            ),
        );
    }
    legal
}
