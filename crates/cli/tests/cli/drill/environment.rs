//! A ledger in the process of the test, correct or a mutant, and the program that tests it.

use std::process::{Output, Stdio};

use axum::Router;
use ledger::{Ledger, Mutant, Server, Settings, Token};
use mongodb::Client;
use serde_json::Value;
use testkit::{RecycledSet, ReplicaSet, Scrape, wait};
use tokio::net::TcpListener;
use tokio::process::Command;
use txnscope::Metrics;
use txnscope_checks::{CheckResult, Checks, SampleOptions, run};

pub(crate) const TOKEN: &str = "t0p-s3cret";
/// The app name to which failpoints are limited.
pub(crate) const APP: &str = "drilled";

pub(crate) struct Environment {
    set: RecycledSet,
    pub(crate) client: Client,
    pub(crate) metrics: Metrics,
    server: Server,
}

impl Environment {
    pub(crate) async fn with(mutant: Option<Mutant>, serialize_transactions: bool) -> Self {
        let set = ReplicaSet::recycled().await.unwrap();
        let backend = ledger::connect(&format!("{}&appName={APP}", set.uri())).await.unwrap();
        let metrics = Metrics::isolated().unwrap();
        let mut settings = Settings::new(Token::new(TOKEN).unwrap());
        settings.registry = metrics.registry();
        settings.serialize_transactions = serialize_transactions;
        // The ledger must not time out on a busy machine.
        settings.deadline = wait::LIMIT;
        let ledger = match mutant {
            Some(mutant) => Ledger::open_mutant(backend, settings, mutant).await.unwrap(),
            None => Ledger::open(backend, settings).await.unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(listener, ledger, &metrics).unwrap();
        Self { client: set.client().await.unwrap(), set, metrics, server }
    }

    pub(crate) fn uri(&self) -> String {
        self.set.uri()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub(crate) fn scrape(&self) -> Scrape {
        Scrape::parse(&self.metrics.render()).unwrap()
    }

    /// The names of the checks of the ledger that its data violates.
    pub(crate) async fn violated(&self) -> Vec<String> {
        let path = testkit::workspace().join("examples/ledger/checks.toml");
        let checks = Checks::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut violated = Vec::new();
        for check in checks.iter() {
            match run(&self.client, check, SampleOptions::NONE).await.result {
                CheckResult::Clean { .. } => {}
                CheckResult::Violated { .. } => violated.push(check.name.clone()),
                CheckResult::Failed(failure) => panic!("{}: {failure}", check.name),
            }
        }
        violated
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_txnscope"));
    command.arg("drill").args(arguments).env("TXNSCOPE_DRILL_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a drill to its end, and asserts that the output contains no token.
pub(crate) async fn drill(arguments: &[&str]) -> (i32, String) {
    ended(command(arguments).output()).await
}

pub(crate) async fn ended(output: impl Future<Output = std::io::Result<Output>>) -> (i32, String) {
    let output =
        tokio::time::timeout(3 * wait::LIMIT, output).await.expect("the program does not end").unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(TOKEN) && !text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

pub(crate) async fn drill_json(arguments: &[&str]) -> (i32, Value) {
    let (code, text) = drill(&[arguments, &["--output=json"]].concat()).await;
    (code, serde_json::from_str(&text).expect(&text))
}

/// Serves routes until the end of the test, and returns their URL.
pub(crate) async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}
