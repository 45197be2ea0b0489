//! Extracts the field paths that a filter or an expression names.

use mongodb::bson::{Bson, Document};

use crate::strict::Path;

/// The paths that a filter compares, which are shown of a matching document.
pub(crate) fn of_filter(filter: &Document) -> Vec<String> {
    let mut paths = Vec::new();
    filter_into(filter, &mut paths);
    paths
}

fn filter_into(filter: &Document, paths: &mut Vec<String>) {
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$expr", expression) => add(of_expression(expression), paths),
            ("$and" | "$or" | "$nor", Bson::Array(filters)) => {
                for filter in filters.iter().filter_map(Bson::as_document) {
                    filter_into(filter, paths);
                }
            }
            (operator, _) if operator.starts_with('$') => {}
            (path, _) => add([path.to_owned()], paths),
        }
    }
}

/// The fields of the document that an expression reads: each `"$field.part"`, up to the first dot.
pub(crate) fn of_expression(expression: &Bson) -> Vec<String> {
    let mut paths = Vec::new();
    expression_into(expression, &mut paths);
    paths
}

fn expression_into(expression: &Bson, paths: &mut Vec<String>) {
    match expression {
        Bson::String(text) => {
            let root = ["$$ROOT.", "$$CURRENT."].iter().find_map(|root| text.strip_prefix(root));
            let path = root.or_else(|| text.strip_prefix('$').filter(|path| !path.starts_with('$')));
            if let Some(field) =
                path.and_then(|path| path.split('.').next()).filter(|field| !field.is_empty())
            {
                add([field.to_owned()], paths);
            }
        }
        Bson::Array(elements) => elements.iter().for_each(|element| expression_into(element, paths)),
        Bson::Document(document) if document.contains_key("$literal") => {}
        Bson::Document(document) => document.values().for_each(|value| expression_into(value, paths)),
        _ => {}
    }
}

/// The complete paths that an expression reads from the document, except those of variables.
pub(crate) fn paths(expression: &Bson) -> Vec<String> {
    fn into(expression: &Bson, found: &mut Vec<String>) {
        match expression {
            Bson::String(_) => add(
                Path::parse(expression).filter(|path| path.field().is_some()).map(|path| path.name()),
                found,
            ),
            Bson::Array(elements) => elements.iter().for_each(|element| into(element, found)),
            Bson::Document(document) if document.contains_key("$literal") => {}
            Bson::Document(document) => document.values().for_each(|value| into(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    into(expression, &mut found);
    found
}

fn add(new: impl IntoIterator<Item = String>, paths: &mut Vec<String>) {
    for path in new {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
}

/// Whether a pipeline writes, at any depth.
pub(crate) fn writes(stages: &[Document]) -> bool {
    fn any(value: &Bson) -> bool {
        match value {
            Bson::Document(document) => writes_in(document),
            Bson::Array(elements) => elements.iter().any(any),
            _ => false,
        }
    }
    fn writes_in(document: &Document) -> bool {
        document.iter().any(|(key, value)| matches!(key.as_str(), "$out" | "$merge") || any(value))
    }
    stages.iter().any(writes_in)
}

/// The operator with which an expression runs JavaScript on the server, at any depth.
pub(crate) fn javascript(value: &Bson) -> Option<&str> {
    match value {
        Bson::Document(document) => in_document(document),
        Bson::Array(elements) => elements.iter().find_map(javascript),
        _ => None,
    }
}

/// The operator with which a filter or a stage runs JavaScript on the server, at any depth.
pub(crate) fn in_document(document: &Document) -> Option<&str> {
    document.iter().find_map(|(key, value)| {
        let runs = matches!(key.as_str(), "$function" | "$accumulator" | "$where")
            || key.starts_with("$_internalJs");
        if runs { Some(key.as_str()) } else { javascript(value) }
    })
}

/// The collections of the same database that stages read in addition to their own.
pub(crate) fn collections(stages: &[Document]) -> Vec<String> {
    fn into(value: &Bson, found: &mut Vec<String>) {
        match value {
            Bson::Array(elements) => elements.iter().for_each(|element| into(element, found)),
            Bson::Document(document) => {
                for (key, value) in document {
                    let name = match (key.as_str(), value) {
                        ("$unionWith", Bson::String(name)) => Some(name.clone()),
                        ("$unionWith", Bson::Document(of)) => of.get_str("coll").ok().map(str::to_owned),
                        ("$lookup" | "$graphLookup", Bson::Document(of)) => {
                            of.get_str("from").ok().map(str::to_owned)
                        }
                        _ => None,
                    };
                    add(name, found);
                    into(value, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for stage in stages {
        into(&Bson::Document(stage.clone()), &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn filter_paths_are_extracted() {
        let filter = doc! {
            "a.b": 1,
            "$or": [{"c": {"$lt": 0}}, {"$and": [{"d": 1}, {"a.b": 2}]}],
            "$expr": {"$gt": ["$e.f", "$$NOW"]},
            "$comment": "none",
        };
        assert_eq!(of_filter(&filter), ["a.b", "c", "d", "e"]);
    }

    #[test]
    fn expression_paths_are_extracted() {
        let expression = doc! {"$subtract": [
            {"$sum": "$deposits.amount"},
            {"$reduce": {"input": "$$ROOT.consumptions", "initialValue": {"$literal": "$no"}, "in": "$$this.amount"}},
        ]};
        assert_eq!(of_expression(&expression.into()), ["deposits", "consumptions"]);
    }

    #[test]
    fn nested_writing_stage_is_detected() {
        assert!(writes(&[doc! {"$match": {}}, doc! {"$out": "x"}]));
        assert!(writes(&[doc! {"$facet": {"a": [{"$merge": {"into": "x"}}]}}]));
        assert!(!writes(&[doc! {"$set": {"a": {"$mergeObjects": ["$b", "$c"]}}}]));
    }

    #[test]
    fn nested_javascript_is_detected() {
        let function = || doc! {"body": "f", "args": [], "lang": "js"};
        for (name, value) in [
            ("$where", doc! {"$where": "true"}),
            ("$where", doc! {"$or": [{"a": 1}, {"$nor": [{"$where": "true"}]}]}),
            ("$function", doc! {"$expr": {"$function": function()}}),
            (
                "$function",
                doc! {"$lookup": {"from": "a", "pipeline": [{"$set": {"b": {"$function": function()}}}]}},
            ),
            ("$accumulator", doc! {"$group": {"_id": null, "a": {"$accumulator": function()}}}),
            ("$_internalJsEmit", doc! {"$set": {"a": {"$_internalJsEmit": function()}}}),
        ] {
            assert_eq!(javascript(&value.clone().into()), Some(name), "{value}");
        }
        let none = doc! {"function": {"$gt": "$function"}, "where": "$where", "$match": {"a.$where": 1}};
        assert_eq!(javascript(&none.into()), None);
    }

    #[test]
    fn lookup_collections_are_extracted() {
        let stages = [
            doc! {"$lookup": {"from": "lines", "pipeline": [{"$unionWith": "old"}], "as": "lines"}},
            doc! {"$unionWith": {"coll": "more", "pipeline": []}},
        ];
        assert_eq!(collections(&stages), ["lines", "old", "more"]);
    }
}
