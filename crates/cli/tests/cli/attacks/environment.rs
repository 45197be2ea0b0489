//! A replica set with a database, and a file of checks.

use std::path::PathBuf;

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tempfile::TempDir;
use testkit::{RecycledSet, ReplicaSet};

use crate::common::{run_with, stdout_and_stderr};

pub(crate) const FILE: &str = r#"
    [defaults]
    database = "shop"
    severity = "critical"

    [[check]]
    name = "drift"
    collection = "retainers"
    [check.derived]
    field = "balance"
    type = "long"
    expression = '{ "$sum": "$deposits" }'
"#;

/// Characters that control a terminal, forge a log line, or reverse the direction of a text.
pub(crate) const CONTROL_CHARACTERS: &str = "a\u{1b}[2Jb\nlevel=error forged\r\u{9b}31mc\u{85}d\u{202e}e\u{2066}f\u{200f}g\u{2028}h\u{2029}i\u{feff}j\u{7f}k";

/// Whether a text has no control characters but line ends.
pub(crate) fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(
                c,
                '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            )
    })
}

pub(crate) struct Environment {
    pub(crate) set: RecycledSet,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

impl Environment {
    pub(crate) async fn open() -> Self {
        let set = ReplicaSet::recycled().await.unwrap();
        let client = set.client().await.unwrap();
        let env = Self { set, client, folder: TempDir::new().unwrap() };
        std::fs::write(env.file(), FILE).unwrap();
        let retainers = [
            doc! {"_id": 1, "client": "c-1", "balance": 5_i64, "deposits": [2_i64, 3_i64]},
            doc! {"_id": 2, "client": "c-2", "balance": 9_i64, "deposits": [9_i64]},
        ];
        env.collection("retainers").insert_many(retainers).await.unwrap();
        env
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("checks.toml")
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.client.database("shop").collection(name)
    }

    pub(crate) async fn get(&self, collection: &str, id: i32) -> Document {
        self.collection(collection).find_one(doc! {"_id": id}).await.unwrap().unwrap()
    }

    /// The exit status and the output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let checks = format!("--checks.file={}", self.file().display());
        let arguments = [&[arguments[0], &checks], &arguments[1..]].concat();
        let output = run_with(&arguments, &[("MONGODB_URI", &self.set.uri())]).await;
        (output.status.code().unwrap(), stdout_and_stderr(&output))
    }
}
