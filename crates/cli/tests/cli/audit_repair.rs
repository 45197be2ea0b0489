//! `txnscope audit` and `txnscope repair` as processes: output, exit status, and secrets.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::anyhow;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{RecycledSet, ReplicaSet, wait};
use tokio::io::AsyncReadExt;

use crate::common::assert_misuse;

const PROGRAM: &str = env!("CARGO_BIN_EXE_txnscope");

const FILE: &str = r#"
    [defaults]
    database = "shop"
    severity = "critical"

    [[check]]
    name = "negative"
    about = "No balance is negative."
    collection = "retainers"
    show = ["client"]
    forbid = '{ "balance": { "$lt": 0 } }'

    [[check]]
    name = "drift"
    collection = "retainers"
    [check.derived]
    field = "balance"
    expression = '{ "$sum": "$deposits" }'
"#;

struct Environment {
    _set: RecycledSet,
    uri: String,
    client: Client,
    folder: TempDir,
}

impl Environment {
    async fn open() -> Self {
        let set = ReplicaSet::recycled().await.unwrap();
        let client = set.client().await.unwrap();
        let env = Self { uri: set.uri(), _set: set, client, folder: TempDir::new().unwrap() };
        std::fs::write(env.file(), FILE).unwrap();
        let documents = [
            doc! {"_id": 1, "client": "c-1", "name": "Ann, \"A\"", "balance": 5_i64, "deposits": [2_i64, 3_i64]},
            doc! {"_id": 2, "client": "c-2", "name": "Bob", "balance": 9_i64, "deposits": [9_i64]},
        ];
        env.retainers().insert_many(documents).await.unwrap();
        env
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("checks.toml")
    }

    fn retainers(&self) -> Collection<Document> {
        self.client.database("shop").collection("retainers")
    }

    async fn break_first(&self) {
        let wrong = doc! {"$set": {"balance": -4_i64}};
        self.retainers().update_one(doc! {"_id": 1}, wrong).await.unwrap();
    }

    async fn balance(&self) -> i64 {
        self.retainers().find_one(doc! {"_id": 1}).await.unwrap().unwrap().get_i64("balance").unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let checks = format!("--checks.file={}", self.file().display());
        let output = run(&self.uri, &[&[arguments[0], &checks], &arguments[1..]].concat()).await;
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }
}

async fn run(uri: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(arguments).env("MONGODB_URI", uri).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(wait::LIMIT, command.output()).await.expect("it does not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_distinguishes_clean_violated_and_failed() {
    let env = Environment::open().await;
    let (code, text) = env.run(&["audit"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("CHECK") && text.contains("clean"), "{text}");

    env.break_first().await;
    let (code, text) = env.run(&["audit"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(r#"{"_id":1,"client":"c-1","balance":-4}"#), "{text}");
    assert!(text.contains(r#"{"_id":1,"actual":-4,"expected":5}"#), "{text}");
    assert!(!text.contains("Ann"), "a field that was not requested: {text}");
    assert!(env.run(&["audit", "--full"]).await.1.contains("Ann"));

    let (code, text) = env.run(&["audit", "--output=json"]).await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["checks"][0]["violations"], 1, "{json}");
    assert_eq!(json["checks"][0]["sample"][0]["_id"], 1, "{json}");
    let (_, text) = env.run(&["audit", "--output=csv", "--full", "--only=negative"]).await;
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with("negative,critical,violated,1,,\"{"), "{text}");
    assert!(row.contains(r#"""name"":""Ann, \""A\"""""#), "{text}");

    env.retainers().drop().await.unwrap();
    let (code, text) = env.run(&["audit"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("failed: collection_missing"), "{text}");
}

#[tokio::test]
async fn invalid_command_line_or_file_is_an_error_without_passwords() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, FILE.replace("forbid", "forbit")).unwrap();
    let good = folder.path().join("good.toml");
    std::fs::write(&good, FILE).unwrap();
    let serve = format!("--checks.file={}", file.display());
    let (bad, good) =
        (format!("--checks.file={}", file.display()), format!("--checks.file={}", good.display()));
    for (arguments, expected) in [
        (&["audit"][..], "no file of checks: name one with --checks.file"),
        (&["audit", "--checks.file=/nowhere/checks.toml"], "cannot read /nowhere/checks.toml"),
        (&["audit", &bad], "checks.toml:11: check `negative` has no key `forbit`; did you mean `forbid`?"),
        (&["audit", &good, "--only=drift2"], "there is no check `drift2`; did you mean `drift`?"),
        (&["audit", &good, "--mongodb.uri=mongodb://user:hunter2/@host/"], "which ps shows to all users"),
        (&["repair", &good, "--mongodb.uri=mongodb://user:hunter2@host/"], "which ps shows to all users"),
        (
            &["audit", &good, "--mongodb.uri=mongodb://a/", "--mongodb.uri=mongodb://b/"],
            "this command takes one",
        ),
        (&["audit", &good, "--mongodb.uri-file=/nowhere/uri"], "/nowhere/uri"),
        (&["audit", &good, "--mongodb.password-file=/nowhere/password"], "/nowhere/password"),
        (&["audit", &good, "--output=xml"], "json"),
        (&["serve", "--check-config", &serve], "checks.toml:11: check `negative` has no key `forbit`"),
        (&["repair", &good, "--only=negative"], "nothing else can be recomputed"),
        (&["repair", &good, "--undo=7"], "24 hexadecimal digits"),
        (&["repair", &good, "--id={"], "Extended JSON"),
    ] {
        let output = run("mongodb://user:hunter2@127.0.0.1:1/", arguments).await;
        assert_misuse(&output, arguments, expected);
    }
}

/// The path is as seen from the configuration file, and a file of checks alone is no reason to start.
#[tokio::test]
async fn serve_loads_checks_of_its_configuration_file() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("checks.toml"), FILE).unwrap();
    let file = folder.path().join("txnscope.toml");
    std::fs::write(&file, "[checks]\nfile = \"checks.toml\"").unwrap();
    let arguments = ["serve", "--check-config", &format!("--config.file={}", file.display())];
    let output = run("mongodb://127.0.0.1:1/", &arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("deployments: 1,") && text.contains("checks: 2\n"), "{text}");
    let output = run("", &arguments).await;
    assert_eq!(output.status.code(), Some(2), "checks, and no deployment to run them on");
}

/// The file that `serve` reads is enough for an audit and a repair.
#[tokio::test(flavor = "multi_thread")]
async fn audit_and_repair_use_the_configuration_file_of_serve() {
    let env = Environment::open().await;
    env.break_first().await;
    let file = env.folder.path().join("txnscope.toml");
    let config = format!("--config.file={}", file.display());
    std::fs::write(&file, format!("[mongodb]\nuri = [\"{}\"]\n[checks]\nfile = \"checks.toml\"", env.uri))
        .unwrap();
    for (command, found) in [("audit", "violated"), ("repair", "should be: 5")] {
        let output = run("", &[command, &config]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(found), "{text}");
    }
    std::fs::write(&file, "[mongodb]\nuri = [\"mongodb://a/\", \"mongodb://b/\"]").unwrap();
    let checks = format!("--checks.file={}", env.file().display());
    let output = run("", &["audit", &config, &checks]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("2 deployments are configured, and this command takes one")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_repair_undo_roundtrip() {
    let env = Environment::open().await;
    assert_eq!(env.run(&["repair"]).await, (0, "nothing to repair\n".into()));
    env.break_first().await;
    let (code, text) = env.run(&["repair"]).await;
    assert_eq!(code, 1, "{text}");
    for part in ["drift 1", "balance: -4", "should be: 5", "from deposits: [2,3]", "nothing was changed"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let (code, text) = env.run(&["repair", "--apply"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("give --yes"), "{text}");
    assert_eq!(env.balance().await, -4);

    assert_eq!(env.run(&["repair", "--apply", "--yes", "--id=2"]).await.0, 0, "another document");
    assert_eq!(env.balance().await, -4);
    let (code, text) = env.run(&["repair", "--apply", "--yes", "--id=1", "--author=ann"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(env.balance().await, 5);
    let run = text.split("--run=").nth(1).unwrap().lines().next().unwrap().to_owned();

    let (code, text) = env.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("was set by ann at"), "{text}");
    assert_eq!(env.balance().await, -4);
    let (code, text) = env.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the repair has already been undone"), "{text}");
    let (code, text) = env.run(&["repair", "--yes", "--undo=65a0b0c0d0e0f00102030405"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("there is no record"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_of_an_unknown_id_is_rejected() {
    let env = Environment::open().await;
    env.break_first().await;
    for apply in [&["repair"][..], &["repair", "--apply", "--yes"]] {
        let (code, text) = env.run(&[apply, &["--id=3"]].concat()).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("no document of retainers has the _id 3"), "{text}");
        let (code, text) = env.run(&[apply, &["--id=1", "--id=\"2\""]].concat()).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("has the _id \"2\": did you mean --id='2'?"), "{text}");
    }
    std::fs::write(env.file(), FILE.replace("\"retainers\"", "\"retainer\"")).unwrap();
    let (code, text) = env.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("there is no collection retainer in shop") && text.contains("did you mean retainers?"),
        "{text}"
    );
    assert_eq!(env.balance().await, -4);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_not_a_number_is_shown_and_not_repaired() {
    let env = Environment::open().await;
    env.break_first().await;
    let malformed = doc! {"$set": {"deposits": [5_i64, "4", f64::NAN]}};
    env.retainers().update_one(doc! {"_id": 2}, malformed).await.unwrap();
    let (code, text) = env.run(&["audit", "--only=drift"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(r#""notNumbers":[{"path":"deposits","#), "{text}");
    let (code, text) = env.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 1, "{text}");
    for part in [
        "cannot be recomputed: deposits: \"4\" is not a number that can be summed",
        r#"{"$numberDouble":"NaN"} is not a number"#,
        "drift 2: left alone: deposits",
        "1 set, 1 left alone",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(env.balance().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_from_empty_inputs_requires_a_flag() {
    let env = Environment::open().await;
    let none = doc! {"$set": {"deposits": Vec::<i64>::new()}};
    env.retainers().update_many(doc! {}, none).await.unwrap();
    let (code, text) = env.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("no document of retainers has anything in deposits"), "{text}");
    assert_eq!(env.balance().await, 5);
    let (code, text) = env.run(&["repair", "--apply", "--yes", "--allow-empty-inputs"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(env.balance().await, 0);
}

/// Runs the command with a terminal as its input, and answers the question.
async fn run_at_terminal(env: &Environment, arguments: &[&str], answer: &str) -> (i32, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let input = File::options().read(true).write(true).open(name).unwrap();
    let checks = format!("--checks.file={}", env.file().display());
    let mut child = tokio::process::Command::new(PROGRAM)
        .args([&[arguments[0], checks.as_str()], &arguments[1..]].concat())
        .env("MONGODB_URI", &env.uri)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut asked = Vec::new();
    let question = async {
        let stderr = child.stderr.as_mut().unwrap();
        while !asked.ends_with(b"[y/N] ") {
            asked.push(stderr.read_u8().await.expect("it asks before it ends"));
        }
    };
    tokio::time::timeout(wait::LIMIT, question).await.expect("it does not ask");
    File::from(terminal).write_all(answer.as_bytes()).unwrap();
    let output = tokio::time::timeout(wait::LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(asked).unwrap() + &String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_asks_for_confirmation_on_a_terminal() {
    let env = Environment::open().await;
    env.break_first().await;
    for no in ["\n", "n\n", "yesterday\n"] {
        let (code, text) = run_at_terminal(&env, &["repair", "--apply"], no).await;
        assert_eq!(code, 1, "{no:?}: {text}");
        assert!(
            text.contains("Set 1 fields as shown? [y/N]") && text.contains("nothing was changed"),
            "{text}"
        );
        assert_eq!(env.balance().await, -4, "{no:?}");
    }
    let (code, text) = run_at_terminal(&env, &["repair", "--apply"], "y\n").await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(env.balance().await, 5);
    let run = text.split("--run=").nth(1).unwrap().lines().next().unwrap().to_owned();
    let undo = format!("--run={run}");
    assert_eq!(run_at_terminal(&env, &["repair", &undo], "no\n").await.0, 1);
    assert_eq!(env.balance().await, 5);
    assert_eq!(run_at_terminal(&env, &["repair", &undo], "yes\n").await.0, 0);
    assert_eq!(env.balance().await, -4);
}

/// A hundred megabytes of documents, all of them wrong: what is shown is held, and the rest is only counted.
#[tokio::test(flavor = "multi_thread")]
async fn audit_keeps_only_the_printed_documents_in_memory() {
    const DOCUMENTS: usize = 1_600;
    const EACH: usize = 64 << 10;
    /// In kilobytes: less than half of what there is.
    const MOST: u64 = 48 << 10;
    let env = Environment::open().await;
    let large = "x".repeat(EACH);
    for _ in 0..DOCUMENTS / 100 {
        let document = || doc! {"client": "c", "balance": -1_i64, "deposits": [1_i64], "large": &large};
        env.retainers().insert_many((0..100).map(|_| document())).await.unwrap();
    }
    let checks = format!("--checks.file={}", env.file().display());
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(["audit", "--full", "--sample=20", &checks])
        .env("MONGODB_URI", &env.uri)
        .stdin(Stdio::null())
        .stdout(File::create(env.folder.path().join("output")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let ended = wait::until("the end of the audit", async || {
        let read = std::fs::read_to_string(&status).unwrap_or_default();
        let seen = read.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = peak.max(seen.and_then(|seen| seen.parse::<u64>().ok()).unwrap_or(0));
        child.try_wait()?.ok_or_else(|| anyhow!("it runs"))
    });
    assert_eq!(ended.await.unwrap().code(), Some(1));
    let text = std::fs::read_to_string(env.folder.path().join("output")).unwrap();
    assert!(text.contains("violated  1,600       1,602"), "{}", &text[..500]);
    assert!(0 < peak && peak < MOST, "it held {peak} kB at most");
}
