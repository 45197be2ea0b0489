//! The commands of docs/node-backend.md, in their order and with their files, on other ports: a command that does not work as
//! the page has it fails here, and so does a new one that this test does not know. `txnscope verify`, which the page has in its
//! text, needs an hour of traffic: `verify_decides_from_the_metrics_of_the_proxy` runs it.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;
use testkit::{NodeBackend, ReplicaSet, workspace};

use crate::common::prometheus::Prometheus;
use crate::common::{Serving, run_with, stdout_and_stderr};
use crate::proxy::Proxying;

/// The command that is not run here, as it needs requests: the other test has it.
const NOT_RUN: &str = "txnscope proxy --upstream=http://127.0.0.1:3000 --learn=10m ";

/// The fenced blocks of a page, each with its language.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut parts = page.split("```");
    let mut blocks = Vec::new();
    // Outside, inside, outside, …
    while let (Some(_), Some(inside)) = (parts.next(), parts.next()) {
        let (language, text) = inside.split_once('\n').unwrap();
        blocks.push((language.to_owned(), text.to_owned()));
    }
    blocks
}

/// The commands of a block, each in one line.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// What the commands have started and set.
struct Reader {
    set: ReplicaSet,
    /// What stands in the page, and what stands for it here.
    instead: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
    backend: Option<NodeBackend>,
    edition: String,
    proxying: Option<Proxying>,
    _sidecar: Option<Serving>,
    _prometheus: Option<Prometheus>,
    ran: Vec<String>,
}

impl Reader {
    async fn new() -> Self {
        let set = ReplicaSet::start(1).await.unwrap();
        let uri = set.uri();
        let host = uri.strip_prefix("mongodb://").unwrap().split('/').next().unwrap().to_owned();
        let name = uri.split("replicaSet=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        let here = |folder: &str| format!("{}/{folder}", workspace().display());
        let instead = vec![
            ("127.0.0.1:27017".to_owned(), host),
            ("replicaSet=rs0".to_owned(), format!("replicaSet={name}")),
            ("examples/node-backend".to_owned(), here("examples/node-backend")),
            ("alerts/rules".to_owned(), here("alerts/rules")),
        ];
        Self {
            set,
            instead,
            environment: BTreeMap::new(),
            backend: None,
            edition: String::new(),
            proxying: None,
            _sidecar: None,
            _prometheus: None,
            ran: Vec::new(),
        }
    }

    fn here(&self, text: &str) -> String {
        self.instead.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    async fn run(&mut self, command: &str) {
        if command.starts_with(NOT_RUN) {
            self.ran.push("--learn".to_owned());
            return;
        }
        let text = self.here(command);
        if let Some(variable) = text.strip_prefix("export ") {
            let (name, value) = variable.split_once('=').unwrap();
            self.environment.insert(name.to_owned(), value.trim_matches('\'').to_owned());
        } else if command.contains("npm start") {
            // The packages are installed by their lock file, as by `npm ci`.
            self.start_backend(command).await;
        } else if let Some(arguments) = text.strip_prefix("txnscope ") {
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            self.ran.push(arguments[0].clone());
            self.run_txnscope(&arguments).await;
        } else {
            panic!("docs/node-backend.md has a command that this test does not run: {command}");
        }
    }

    async fn start_backend(&mut self, command: &str) {
        let edition = command.split("EDITION=").nth(1).unwrap().split(' ').next().unwrap();
        let uri = self.environment["MONGODB_URI"].clone();
        edition.clone_into(&mut self.edition);
        match &mut self.backend {
            None => {
                let backend = NodeBackend::start(edition, &uri).await.unwrap();
                self.instead.push(("http://127.0.0.1:3000".to_owned(), backend.url()));
                self.backend = Some(backend);
            }
            Some(backend) => backend.restart(edition, &uri).await.unwrap(),
        }
    }

    async fn run_txnscope(&mut self, arguments: &[String]) {
        match arguments[0].as_str() {
            "proxy" => {
                let arguments: Vec<_> = arguments[1..]
                    .iter()
                    .map(|argument| argument.replace(":8080", ":0").replace(":9918", ":0"))
                    .collect();
                let proxying = Proxying::start(&arguments).await;
                for (port, address) in [("8080", proxying.address), ("9918", proxying.web)] {
                    self.instead.push((format!("127.0.0.1:{port}"), address.to_string()));
                }
                self.proxying = Some(proxying);
            }
            "serve" => {
                let arguments = arguments[1..].iter().map(String::as_str);
                let arguments: Vec<_> = arguments.filter(|argument| !argument.contains(":9917")).collect();
                let uri = self.environment["MONGODB_URI"].as_str();
                let sidecar = Serving::start(&arguments, &[("MONGODB_URI", uri)]).await;
                self.instead.push(("127.0.0.1:9917".to_owned(), sidecar.address.clone()));
                self._sidecar = Some(sidecar);
            }
            command => {
                let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                if self.edition == "after" {
                    // Its requests conflict and are run again, which takes time.
                    arguments.push("--rounds=1");
                }
                let environment: Vec<_> =
                    self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let output = run_with(&arguments, &environment).await;
                let printed = stdout_and_stderr(&output);
                let expected = match (command, self.edition.as_str()) {
                    ("drill", "after") => 0,
                    // The page says so of preflight; races and checks find what is wrong.
                    ("preflight" | "drill" | "audit", _) => 1,
                    _ => panic!("docs/node-backend.md has a command that this test does not know: {command}"),
                };
                assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {printed}");
                match command {
                    "preflight" => {
                        let failed = printed.lines().filter(|line| line.starts_with("fail "));
                        let failed: Vec<_> = failed.collect();
                        assert!(matches!(failed[..], [line] if line.contains("Alertmanager")), "{printed}");
                    }
                    "audit" => assert!(printed.contains("retainer_balance_drift"), "{printed}"),
                    _ => {}
                }
            }
        }
    }

    /// The configuration of Prometheus.
    async fn prometheus(&mut self, text: &str) {
        let config = format!("global: {{scrape_interval: 1s}}\n{}", self.here(text));
        let prometheus = Prometheus::start(&config, async |_: &Path| {}).await;
        prometheus.has("up{job=\"node-backend\"} == 1 and on(job) transaction_attempts_total").await;
        prometheus.has("up{job=\"txnscope\"} == 1").await;
        self.instead.push(("http://127.0.0.1:9090".to_owned(), prometheus.url.clone()));
        self._prometheus = Some(prometheus);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_tutorial_work_in_their_order() {
    let page = std::fs::read_to_string(workspace().join("docs/node-backend.md")).unwrap();
    let mut reader = Reader::new().await;
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "console" => {
                for command in commands(&text) {
                    reader.run(&command).await;
                }
            }
            "yaml" => reader.prometheus(&text).await,
            other => panic!("docs/node-backend.md has a block that this test does not know: {other}"),
        }
    }
    assert_eq!(reader.ran, ["proxy", "--learn", "serve", "preflight", "drill", "audit", "drill"]);
    drop(reader.set);
}

/// `--learn` on this backend: the draft is a file that the proxy accepts, and that has its operations and rejections.
#[tokio::test(flavor = "multi_thread")]
async fn draft_of_the_operations_file_of_the_node_backend_is_accepted() {
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri().replace("/?", "/app?");
    let backend = NodeBackend::start("after", &uri).await.unwrap();
    let upstream = format!("--upstream={}", backend.url());
    let proxying = Proxying::start(&[upstream.clone(), "--learn=10m".to_owned()]).await;
    let (code, printed) = testkit::race_with_axios(&format!("http://{}", proxying.address)).await.unwrap();
    assert_eq!(code, Some(0), "{printed}");
    // Ended before the time is over, it prints what it has seen so far.
    let log = proxying.end().await;
    let (_, rest) = log.split_once("# A draft of an operations file").unwrap_or_else(|| panic!("{log}"));
    let lines = rest.lines().filter(|line| !line.contains("level="));
    let draft =
        lines.fold(String::from("# A draft of an operations file"), |draft, line| draft + line + "\n");

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("operations.toml");
    std::fs::write(&file, &draft).unwrap();
    let file = format!("--operations.file={}", file.display());
    let output = run_with(&["proxy", &upstream, &file, "--check-config"], &[]).await;
    let accepted = "the configuration is valid: 6 operations";
    assert!(stdout_and_stderr(&output).contains(accepted), "{}{draft}", stdout_and_stderr(&output));
    for part in [
        "name = \"POST /api/retainers/{id}/consume\"",
        "name = \"POST /api/payments/{id}/complete\"",
        "prefix = \"Insufficient balance\"\nreason = \"insufficient_balance\"",
        "prefix = \"Payment already completed\"\nreason = \"payment_already_completed\"",
    ] {
        assert!(draft.contains(part), "{part}: {draft}");
    }
    let proxying = Proxying::start(&[upstream, file]).await;
    testkit::race_with_axios(&format!("http://{}", proxying.address)).await.unwrap();
    let page = testkit::Scrape::get(&format!("http://{}/metrics", proxying.web)).await.unwrap();
    let rejected = page.sum(
        txnscope_catalog::TRANSACTION_FAILURES.name,
        &[("operation", "POST /api/retainers/{id}/consume"), ("reason", "insufficient_balance")],
    );
    assert_eq!(rejected, 9.0);
}
