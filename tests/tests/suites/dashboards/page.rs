//! Access to the parts of a dashboard that the tests use.

use std::path::PathBuf;

use serde_json::Value;

pub(crate) const UIDS: [&str; 5] =
    ["txnscope-overview", "txnscope-operation", "txnscope-server", "txnscope-consistency", "txnscope-self"];

pub(crate) fn folder() -> PathBuf {
    testkit::workspace().join("dashboards")
}

/// A dashboard and its file.
pub(crate) struct Page {
    pub(crate) uid: String,
    pub(crate) json: Value,
}

/// A panel with a visualization, and its row.
pub(crate) struct Panel<'a> {
    pub(crate) json: &'a Value,
    pub(crate) row: &'a Value,
    /// The location for messages: the titles of the dashboard, the row and the panel.
    pub(crate) place: String,
}

/// All dashboards.
pub(crate) fn pages() -> Vec<Page> {
    let read = |uid: &str| {
        let text = std::fs::read_to_string(folder().join(format!("{uid}.json"))).unwrap();
        Page { uid: uid.to_owned(), json: serde_json::from_str(&text).unwrap() }
    };
    UIDS.into_iter().map(read).collect()
}

/// The items of a list; none if the list is missing.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Page {
    /// Rows and panels in their order, including those in collapsed rows.
    pub(crate) fn boxes(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["panels"]).flat_map(|item| std::iter::once(item).chain(list(&item["panels"])))
    }

    pub(crate) fn panels(&self) -> Vec<Panel<'_>> {
        let mut row = &Value::Null;
        let mut found = Vec::new();
        for item in self.boxes() {
            if item["type"] == "row" {
                row = item;
            } else {
                let place = format!("{}: {}: {}", self.uid, text(&row["title"]), text(&item["title"]));
                found.push(Panel { json: item, row, place });
            }
        }
        found
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["templating"]["list"])
    }

    pub(crate) fn annotations(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["annotations"]["list"])
    }
}

impl Panel<'_> {
    /// The queries, as they are in the file.
    pub(crate) fn queries(&self) -> Vec<&str> {
        list(&self.json["targets"]).map(|target| text(&target["expr"])).collect()
    }
}
