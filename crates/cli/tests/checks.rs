//! `txnscope audit` and `txnscope repair` as processes: what they print, how they end, and what they keep to themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
use testkit::{ReplicaSet, wait};
use tokio::io::AsyncReadExt;

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

struct Shop {
    _set: ReplicaSet,
    uri: String,
    client: Client,
    folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let set = ReplicaSet::start(1).await.unwrap();
        let client = set.client().await.unwrap();
        let shop = Self { uri: set.uri(), _set: set, client, folder: TempDir::new().unwrap() };
        std::fs::write(shop.file(), FILE).unwrap();
        let documents = [
            doc! {"_id": 1, "client": "c-1", "name": "Ann, \"A\"", "balance": 5_i64, "deposits": [2_i64, 3_i64]},
            doc! {"_id": 2, "client": "c-2", "name": "Bob", "balance": 9_i64, "deposits": [9_i64]},
        ];
        shop.retainers().insert_many(documents).await.unwrap();
        shop
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
        let checks = format!("--checks={}", self.file().display());
        let output = run(&self.uri, &[&[arguments[0], &checks], &arguments[1..]].concat()).await;
        let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), told)
    }
}

async fn run(uri: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(arguments).env("MONGODB_URI", uri).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(wait::LIMIT, command.output()).await.expect("it does not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_tells_clean_from_wrong_from_unknown() {
    let shop = Shop::open().await;
    let (code, told) = shop.run(&["audit"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("CHECK") && told.contains("clean"), "{told}");

    shop.break_first().await;
    let (code, told) = shop.run(&["audit"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains(r#"{"_id":1,"client":"c-1","balance":-4}"#), "{told}");
    assert!(told.contains(r#"{"_id":1,"actual":-4,"expected":5}"#), "{told}");
    assert!(!told.contains("Ann"), "a field that nobody has asked for: {told}");
    assert!(shop.run(&["audit", "--full"]).await.1.contains("Ann"));

    let (code, told) = shop.run(&["audit", "--output=json"]).await;
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["checks"][0]["violations"], 1, "{json}");
    assert_eq!(json["checks"][0]["sample"][0]["_id"], 1, "{json}");
    let (_, told) = shop.run(&["audit", "--output=csv", "--full", "--check=negative"]).await;
    let row = told.lines().nth(1).unwrap();
    assert!(row.starts_with("negative,critical,violated,1,,\"{"), "{told}");
    assert!(row.contains(r#"""name"":""Ann, \""A\"""""#), "{told}");

    shop.retainers().drop().await.unwrap();
    let (code, told) = shop.run(&["audit"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("failed: collection_missing"), "{told}");
}

#[tokio::test]
async fn a_wrong_command_line_or_file_is_told_apart_and_no_password_with_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, FILE.replace("forbid", "forbit")).unwrap();
    let good = folder.path().join("good.toml");
    std::fs::write(&good, FILE).unwrap();
    let serve = format!("--checks.file={}", file.display());
    let (bad, good) = (format!("--checks={}", file.display()), format!("--checks={}", good.display()));
    for (arguments, complaint) in [
        (&["audit"][..], "which checks? Name their file with --checks"),
        (&["audit", "--checks=/nowhere/checks.toml"], "cannot read /nowhere/checks.toml"),
        (&["audit", &bad], "checks.toml:11: check `negative` has no key `forbit`; did you mean `forbid`?"),
        (&["audit", &good, "--check=drift2"], "there is no check `drift2`; did you mean `drift`?"),
        (&["audit", &good, "--mongodb.uri=mongodb://user:hunter2/@host/"], "which ps shows to everybody"),
        (&["repair", &good, "--mongodb.uri=mongodb://user:hunter2@host/"], "which ps shows to everybody"),
        (&["audit", &good, "--mongodb.uri=mongodb://a/", "--mongodb.uri=mongodb://b/"], "name one"),
        (&["audit", &good, "--mongodb.uri-file=/nowhere/uri"], "/nowhere/uri"),
        (&["audit", &good, "--mongodb.password-file=/nowhere/password"], "/nowhere/password"),
        (&["audit", &good, "--output=xml"], "json"),
        (&["serve", "--check-config", &serve], "checks.toml:11: check `negative` has no key `forbit`"),
        (&["repair", &good, "--check=negative"], "nothing else can be recomputed"),
        (&["repair", &good, "--undo=7"], "24 hexadecimal digits"),
        (&["repair", &good, "--id={"], "Extended JSON"),
    ] {
        let output = run("mongodb://user:hunter2@127.0.0.1:1/", arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

/// The path is as seen from the configuration file, and a file of checks alone is no reason to start.
#[tokio::test]
async fn serve_finds_the_checks_that_its_file_names() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("checks.toml"), FILE).unwrap();
    let file = folder.path().join("txnscope.toml");
    std::fs::write(&file, "[checks]\nfile = \"checks.toml\"").unwrap();
    let arguments = ["serve", "--check-config", &format!("--config.file={}", file.display())];
    let output = run("mongodb://127.0.0.1:1/", &arguments).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 deployments") && told.contains("2 checks"), "{told}");
    let output = run("", &arguments).await;
    assert_eq!(output.status.code(), Some(2), "checks, and no deployment to run them on");
}

/// The file that `serve` reads is enough for an audit and a repair.
#[tokio::test(flavor = "multi_thread")]
async fn audit_and_repair_find_deployment_and_checks_in_the_file_of_serve() {
    let shop = Shop::open().await;
    shop.break_first().await;
    let file = shop.folder.path().join("txnscope.toml");
    let config = format!("--config.file={}", file.display());
    std::fs::write(&file, format!("[mongodb]\nuri = [\"{}\"]\n[checks]\nfile = \"checks.toml\"", shop.uri))
        .unwrap();
    for (command, found) in [("audit", "violated"), ("repair", "should be: 5")] {
        let output = run("", &[command, &config]).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(found), "{told}");
    }
    std::fs::write(&file, "[mongodb]\nuri = [\"mongodb://a/\", \"mongodb://b/\"]").unwrap();
    let checks = format!("--checks={}", shop.file().display());
    let output = run("", &["audit", &config, &checks]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 deployments are named: name one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_shown_then_made_then_undone() {
    let shop = Shop::open().await;
    assert_eq!(shop.run(&["repair"]).await, (0, "nothing to repair\n".into()));
    shop.break_first().await;
    let (code, told) = shop.run(&["repair"]).await;
    assert_eq!(code, 1, "{told}");
    for part in ["drift 1", "balance: -4", "should be: 5", "from deposits: [2,3]", "nothing was changed"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let (code, told) = shop.run(&["repair", "--apply"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("say --yes"), "{told}");
    assert_eq!(shop.balance().await, -4);

    assert_eq!(shop.run(&["repair", "--apply", "--yes", "--id=2"]).await.0, 0, "another document");
    assert_eq!(shop.balance().await, -4);
    let (code, told) = shop.run(&["repair", "--apply", "--yes", "--id=1", "--by=ann"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(shop.balance().await, 5);
    let run = told.split("--run=").nth(1).unwrap().lines().next().unwrap().to_owned();

    let (code, told) = shop.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("was set by ann at"), "{told}");
    assert_eq!(shop.balance().await, -4);
    let (code, told) = shop.run(&["repair", "--yes", &format!("--run={run}")]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("the repair has already been undone"), "{told}");
    let (code, told) = shop.run(&["repair", "--yes", "--undo=65a0b0c0d0e0f00102030405"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("there is no record"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_nobody_is_refused() {
    let shop = Shop::open().await;
    shop.break_first().await;
    for apply in [&["repair"][..], &["repair", "--apply", "--yes"]] {
        let (code, told) = shop.run(&[apply, &["--id=3"]].concat()).await;
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("no document of retainers has the _id 3"), "{told}");
        let (code, told) = shop.run(&[apply, &["--id=1", "--id=\"2\""]].concat()).await;
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("has the _id \"2\": did you mean --id='2'?"), "{told}");
    }
    std::fs::write(shop.file(), FILE.replace("\"retainers\"", "\"retainer\"")).unwrap();
    let (code, told) = shop.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("there is no collection retainer in shop") && told.contains("did you mean retainers?"),
        "{told}"
    );
    assert_eq!(shop.balance().await, -4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_shows_the_part_that_is_no_number_and_leaves_it_alone() {
    let shop = Shop::open().await;
    shop.break_first().await;
    let odd = doc! {"$set": {"deposits": [5_i64, "4", f64::NAN]}};
    shop.retainers().update_one(doc! {"_id": 2}, odd).await.unwrap();
    let (code, told) = shop.run(&["audit", "--check=drift"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains(r#""notNumbers":[{"path":"deposits","#), "{told}");
    let (code, told) = shop.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 1, "{told}");
    for part in [
        "cannot be recomputed: deposits: \"4\" is not a number",
        r#"{"$numberDouble":"NaN"} is not a number"#,
        "drift 2: left alone: deposits",
        "1 set, 1 left alone",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(shop.balance().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_from_nothing_is_refused_unless_told() {
    let shop = Shop::open().await;
    let none = doc! {"$set": {"deposits": Vec::<i64>::new()}};
    shop.retainers().update_many(doc! {}, none).await.unwrap();
    let (code, told) = shop.run(&["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("no document of retainers has anything in deposits"), "{told}");
    assert_eq!(shop.balance().await, 5);
    let (code, told) = shop.run(&["repair", "--apply", "--yes", "--allow-empty-inputs"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(shop.balance().await, 0);
}

/// Runs it with a terminal as its input, at which somebody answers when asked.
async fn run_at_terminal(shop: &Shop, arguments: &[&str], answer: &str) -> (i32, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let input = File::options().read(true).write(true).open(name).unwrap();
    let checks = format!("--checks={}", shop.file().display());
    let mut child = tokio::process::Command::new(PROGRAM)
        .args([&[arguments[0], checks.as_str()], &arguments[1..]].concat())
        .env("MONGODB_URI", &shop.uri)
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
    let told = String::from_utf8(asked).unwrap() + &String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_a_repair_asks_and_takes_no_for_an_answer() {
    let shop = Shop::open().await;
    shop.break_first().await;
    for no in ["\n", "n\n", "yesterday\n"] {
        let (code, told) = run_at_terminal(&shop, &["repair", "--apply"], no).await;
        assert_eq!(code, 1, "{no:?}: {told}");
        assert!(
            told.contains("Set 1 fields as shown? [y/N]") && told.contains("nothing was changed"),
            "{told}"
        );
        assert_eq!(shop.balance().await, -4, "{no:?}");
    }
    let (code, told) = run_at_terminal(&shop, &["repair", "--apply"], "y\n").await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(shop.balance().await, 5);
    let run = told.split("--run=").nth(1).unwrap().lines().next().unwrap().to_owned();
    let undo = format!("--run={run}");
    assert_eq!(run_at_terminal(&shop, &["repair", &undo], "no\n").await.0, 1);
    assert_eq!(shop.balance().await, 5);
    assert_eq!(run_at_terminal(&shop, &["repair", &undo], "yes\n").await.0, 0);
    assert_eq!(shop.balance().await, -4);
}

/// A hundred megabytes of documents, all of them wrong: what is shown is held, and the rest is only counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_holds_no_more_than_it_shows() {
    const DOCUMENTS: usize = 1_600;
    const EACH: usize = 64 << 10;
    /// In kilobytes: less than half of what there is.
    const MOST: u64 = 48 << 10;
    let shop = Shop::open().await;
    let large = "x".repeat(EACH);
    for _ in 0..DOCUMENTS / 100 {
        let document = || doc! {"client": "c", "balance": -1_i64, "deposits": [1_i64], "large": &large};
        shop.retainers().insert_many((0..100).map(|_| document())).await.unwrap();
    }
    let checks = format!("--checks={}", shop.file().display());
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(["audit", "--full", "--sample=20", &checks])
        .env("MONGODB_URI", &shop.uri)
        .stdin(Stdio::null())
        .stdout(File::create(shop.folder.path().join("told")).unwrap())
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
    let told = std::fs::read_to_string(shop.folder.path().join("told")).unwrap();
    assert!(told.contains("violated  1,600       1,602"), "{}", &told[..500]);
    assert!(0 < peak && peak < MOST, "it held {peak} kB at most");
}
