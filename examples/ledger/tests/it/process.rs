//! The binary: flags, startup errors, signals, and secrets that are not printed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use testkit::{Mongod, Signal};

use crate::environment::{Answer, block_on, shared};

pub(crate) fn ledger(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledger"));
    command.env_remove("LEDGER_TOKEN").env_remove("MONGODB_URI").env("NO_COLOR", "1");
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs the binary to its end, and asserts its exit code.
fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32) -> Result<String> {
    let Output { status, stdout, stderr } = ledger(arguments, environment).output()?;
    let text = String::from_utf8(stderr)?;
    ensure!(status.code() == Some(code), "{status}: {text}");
    ensure!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    Ok(text)
}

pub(crate) const TOKEN: (&str, &str) = ("LEDGER_TOKEN", "t0p-s3cret");

#[test]
fn usage_error_exits_with_two() -> Result<()> {
    let uri = "--mongodb.uri=mongodb://127.0.0.1:1/";
    let file = token_folder("")?;
    let missing = file.path().join("missing");
    let empty = file.path().join("token");
    for (arguments, environment, about) in [
        (&[][..], &[TOKEN][..], "--mongodb.uri"),
        (&[uri], &[], "LEDGER_TOKEN"),
        (&[uri], &[("LEDGER_TOKEN", "")], "LEDGER_TOKEN: the token is empty"),
        (&[uri], &[("LEDGER_TOKEN", "two words")], "without spaces"),
        (&[uri, "--nonsense"], &[TOKEN], "--nonsense"),
        (&[uri, "--web.listen-address=nowhere"], &[TOKEN], "--web.listen-address"),
        (&[uri, "--transaction.deadline=10"], &[TOKEN], "such as in 10s"),
        (&[uri, "--mongodb.database=admin"], &[TOKEN], "are reserved for MongoDB"),
        (&[uri, "--log.level=loud"], &[TOKEN], "--log.level"),
        (&["--mongodb.uri=nonsense"], &[TOKEN], "invalid MongoDB URI"),
        (&["--mongodb.uri="], &[TOKEN], "invalid MongoDB URI"),
    ] {
        let text = refused(arguments, environment, 2)?;
        ensure!(text.contains(about), "{arguments:?} {environment:?}: {text}");
        ensure!(!text.contains("panicked"), "{text}");
    }
    for path in [&missing, &empty] {
        let text = refused(&[uri, "--token-file", path.to_str().context("a path")?], &[TOKEN], 2)?;
        ensure!(text.contains("--token-file"), "{text}");
    }
    Ok(())
}

#[test]
fn password_is_not_printed() -> Result<()> {
    for uri in [
        "mongodb://user:hunter2@host:port/",
        "mongodb://user:hunter2",
        "mongodb://user:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100&replicaSet=rs0",
    ] {
        for (arguments, environment) in
            [(vec![format!("--mongodb.uri={uri}")], vec![TOKEN]), (vec![], vec![TOKEN, ("MONGODB_URI", uri)])]
        {
            let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            arguments.push("--log.level=trace");
            let output = ledger(&arguments, &environment).output()?;
            ensure!(!output.status.success());
            let text = String::from_utf8(output.stderr)?;
            ensure!(!text.contains("hunter2") && !text.contains(TOKEN.1), "{text}");
            ensure!(text.contains("mongodb.uri") || text.contains("no MongoDB primary"), "{text}");
        }
    }
    let help = ledger(&["--help"], &[("MONGODB_URI", "mongodb://user:hunter2@host/"), TOKEN]).output()?;
    ensure!(help.status.success());
    let text = String::from_utf8(help.stdout)?;
    ensure!(text.contains("--mongodb.uri") && !text.contains("hunter2") && !text.contains(TOKEN.1), "{text}");
    Ok(())
}

#[test]
fn unreachable_server_is_reported() -> Result<()> {
    let uri = "--mongodb.uri=mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=200";
    let text = refused(&[uri], &[TOKEN], 1)?;
    ensure!(text.contains("no MongoDB primary could be reached"), "{text}");
    Ok(())
}

#[test]
fn standalone_mongod_is_rejected_with_remedy() -> Result<()> {
    block_on(async {
        let mongod = Mongod::standalone().await?;
        for uri in [mongod.uri(), format!("mongodb://{}/", mongod.address())] {
            let text = refused(&[&format!("--mongodb.uri={uri}")], &[TOKEN], 1)?;
            ensure!(text.contains("standalone"), "{text}");
            ensure!(text.contains("mongod --replSet rs0") && text.contains("rs.initiate()"), "{text}");
        }
        Ok(())
    })
}

#[test]
fn address_in_use_is_reported() -> Result<()> {
    block_on(async {
        let replica_set = shared().await?;
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let listen = format!("--web.listen-address={}", taken.local_addr()?);
        let uri = format!("--mongodb.uri={}", replica_set.uri());
        let text = refused(&[&uri, "--mongodb.database=ledger_in_use", &listen], &[TOKEN], 1)?;
        ensure!(text.contains("cannot listen on"), "{text}");
        Ok(replica_set.client().await?.database("ledger_in_use").drop().await?)
    })
}

#[test]
fn serves_until_signal_and_does_not_print_token() -> Result<()> {
    block_on(async {
        let replica_set = shared().await?;
        let token = token_folder("t0p-s3cret\n")?;
        let token_file = token.path().join("token");
        for signal in [Signal::TERM, Signal::INT] {
            let mut running = Running::start(&[
                "--log.format=json",
                "--log.level=trace",
                "--web.listen-address=127.0.0.1:0",
                "--mongodb.database=ledger_process",
                &format!("--mongodb.uri={}", replica_set.uri()),
                &format!("--token-file={}", token_file.display()),
            ])?;
            let http = reqwest::Client::new();
            let root = format!("http://{}", running.address);
            let body = json!({ "clientId": "c", "retainerType": "t", "initialAmount": 1 });
            let post =
                |token: &str| http.post(format!("{root}/api/retainers")).bearer_auth(token).json(&body);
            let id = Answer::to(post(TOKEN.1)).await?.created("retainer")?;
            Answer::to(post("wr0ng-s3cret")).await?.expect(401)?;
            let consume = http.post(format!("{root}/api/retainers/{id}/consume")).bearer_auth(TOKEN.1);
            Answer::to(consume.json(&json!({ "amount": 7, "description": "words" }))).await?.expect(400)?;
            let page = http.get(format!("{root}/metrics")).send().await?.text().await?;
            ensure!(
                page.contains("transaction_attempts_total{operation=\"POST /api/retainers\"} 2"),
                "{page}"
            );
            running.signal(signal)?;
            let log = running.end()?;
            ensure!(!log.contains("s3cret") && !page.contains("s3cret"), "{log}");
            ensure!(log.contains("ledger has stopped"), "{log}");
            rejection_is_logged(&log, &id)?;
        }
        Ok(replica_set.client().await?.database("ledger_process").drop().await?)
    })
}

/// The log event of a rejected operation has the fields of its request.
fn rejection_is_logged(log: &str, id: &str) -> Result<()> {
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let rejected = |event: &&Value| event["fields"]["reason"] == "insufficient_balance";
    let rejections: Vec<_> = events.iter().filter(rejected).collect();
    let [event] = rejections[..] else { bail!("{} events of one rejection: {log}", rejections.len()) };
    let fields = &event["fields"];
    ensure!(
        fields["operation"] == "POST /api/retainers/{id}/consume" && fields["outcome"] == "rejected",
        "{event}"
    );
    let span = &event["span"];
    ensure!(span["controller"] == "retainers" && span["function"] == "consume", "{event}");
    ensure!(span["entity_id"] == id && span["amount"] == "7", "{event}");
    Ok(())
}

/// A running ledger; killed if the test ends early.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    log: BufReader<std::process::ChildStderr>,
    read: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Result<Self> {
        Self::spawn(&mut ledger(arguments, &[]))
    }

    /// A ledger that logs in JSON.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("stderr")?);
        let mut read = String::new();
        loop {
            let mut line = String::new();
            ensure!(log.read_line(&mut line)? > 0, "it ended: {read}");
            read += &line;
            let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if event["fields"]["message"] == "ledger is listening" {
                let address = event["fields"]["address"].as_str().context("an address")?.to_owned();
                return Ok(Self { child, address, log, read });
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for a successful exit, and returns the whole log.
    pub(crate) fn end(&mut self) -> Result<String> {
        self.log.read_to_string(&mut self.read)?;
        let status = self.child.wait()?;
        ensure!(status.code() == Some(0), "{status}: {}", self.read);
        Ok(std::mem::take(&mut self.read))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a file `token`.
fn token_folder(token: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), token)?;
    Ok(folder)
}
