//! Secrets in every place where a user could put one, and the output of the program.
//!
//! Each case is a command with a URI, files, variables and a configuration that are valid or invalid at random, and a marker
//! in place of every secret. The marker must not be in the output, in the log (at trace level), in the process list, or on
//! any page. A run is reproducible by its seed, a case by its number:
//!
//! ```console
//! $ cargo test -p txnscope-cli --test cli secrets                                     # the short form
//! $ TXNSCOPE_SECRET_CASES=20000 TXNSCOPE_SECRET_SEED=7 cargo test -p txnscope-cli --test cli secrets
//! $ TXNSCOPE_SECRET_CASE=4711 TXNSCOPE_SECRET_SEED=7 cargo test -p txnscope-cli --test cli secrets
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use testkit::{ReplicaSetOptions, wait};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::common::PROGRAM;

/// A part of every secret. Lower case, since host names are normalized.
const MARK: &str = "qmarkz";

const SHORT: u64 = 160;

/// Generates a case.
struct CaseGenerator {
    rng: StdRng,
    /// The address of a server that requires a password; most cases use another one.
    server: String,
    folder: TempDir,
}

struct Case {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Whether the command is `serve`, so that its pages are read.
    serves: bool,
    folder: TempDir,
}

impl CaseGenerator {
    fn new(seed: u64, case: u64, server: &str) -> Self {
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(case));
        Self { rng, server: server.to_owned(), folder: TempDir::new().unwrap() }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random_ratio(1, of)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.rng).unwrap()
    }

    /// A secret: the marker between characters that are special to parsers.
    fn secret(&mut self) -> String {
        const SPECIAL: &[&str] = &[
            "",
            "",
            "",
            "1",
            "%40",
            "%",
            "%zz",
            "@",
            ":",
            "/",
            "?",
            "#",
            "&",
            "=",
            "[",
            "]",
            ",",
            " ",
            "\n",
            "\r\n",
            "\t",
            "\u{1b}[31m",
            "\u{fffd}",
            "\"",
            "'",
            "\\",
            "`",
            "%0A",
            "%4\u{e9}",
            "mongodb://",
            "://",
            ".",
            "-",
            "$",
            "{",
            "ü",
        ];
        let (before, after) = (self.one(SPECIAL), self.one(SPECIAL));
        format!("{before}{MARK}{}{after}", self.rng.random_range(0..10))
    }

    /// A usual value, or one with a secret.
    fn usual_or_secret(&mut self, usual: &str) -> String {
        match self.rng.random_range(0..6) {
            0 => self.secret(),
            1 => format!("{usual}{}", self.secret()),
            2 => format!("{}{usual}", self.secret()),
            _ => usual.to_owned(),
        }
    }

    fn uri(&mut self) -> String {
        let mut uri = self
            .one(&[
                "mongodb://",
                "mongodb://",
                "mongodb://",
                "mongodb://",
                "mongo://",
                "mongodb+srv://",
                "",
                "MongoDB://",
            ])
            .to_owned();
        if self.chance(2) {
            uri += &self.usual_or_secret("user");
            if !self.chance(8) {
                let _ = write!(uri, ":{}", self.secret());
            }
            uri += "@";
        }
        let server = self.server.clone();
        uri += match self.rng.random_range(0..8) {
            0 => "127.0.0.1:1",
            1 => "[::1]:1",
            2 => "%2Fnowhere%2Fm.sock",
            _ => &server,
        };
        if self.chance(5) {
            // A valid host name is an address, which is no secret, so no case has a marker in one.
            let invalid = self.one(&[" ", "%20", "$", "\"", "%", "<", "\n", "(", "="]);
            let _ = write!(uri, ",{}{MARK}{invalid}", self.one(&["", "db1", "db1:", "[", "u:p@"]));
        }
        if self.chance(8) {
            let _ = write!(uri, ":{MARK}");
        }
        uri += "/";
        if self.chance(4) {
            uri += &self.secret();
        }
        uri += "?serverSelectionTimeoutMS=100&connectTimeoutMS=100";
        for _ in 0..self.rng.random_range(0..4) {
            let name = self.one(&[
                "replicaSet",
                "authMechanism",
                "authSource",
                "authMechanismProperties",
                "appName",
                "tls",
                "ssl",
                "tlsCAFile",
                "tlsCertificateKeyFile",
                "tlsCertificateKeyFilePassword",
                "tlsInsecure",
                "tlsCRLFile",
                "proxyHost",
                "proxyPassword",
                "compressors",
                "socketTimeoutMS",
                "uuidRepresentation",
                "timeoutMS",
                "w",
                "journal",
                "readPreference",
                "readPreferenceTags",
                "maxPoolSize",
                "directConnection",
                "loadBalanced",
                "srvServiceName",
                "someOption",
                "authSomething",
                "tlsSomething",
                "password",
            ]);
            let value = match name {
                // A valid name of a set is a label and no secret.
                "replicaSet" => self
                    .one(&["rs0", "rs0 qmarkz", "rs0%0Aqmarkz", "rs0/qmarkz", "qmarkz@x", "%22qmarkz"])
                    .to_owned(),
                "authMechanism" => {
                    let usual = self.one(&[
                        "SCRAM-SHA-1",
                        "SCRAM-SHA-256",
                        "PLAIN",
                        "MONGODB-X509",
                        "GSSAPI",
                        "MONGODB-OIDC",
                    ]);
                    self.usual_or_secret(usual)
                }
                "directConnection" | "tls" | "journal" => self.usual_or_secret("true"),
                _ => self.secret(),
            };
            let _ = match self.rng.random_range(0..12) {
                0 => write!(uri, "&{name}{value}"),
                1 => write!(uri, "&{}={value}", name.to_uppercase()),
                _ => write!(uri, "&{name}={value}"),
            };
        }
        match self.rng.random_range(0..10) {
            0 => format!("{uri}\n{}", self.secret()),
            1 => format!("{uri}\n"),
            2 => format!("{uri} {}", self.secret()),
            _ => uri,
        }
    }

    fn write(&mut self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// The path of a file that exists, or of one that does not; then its name may be a secret.
    fn file(&mut self, name: &str, text: &str) -> String {
        match self.rng.random_range(0..6) {
            0 => self.secret().replace('/', ""),
            1 => format!("{}/nowhere/{name}", self.folder.path().display()),
            _ => self.write(name, text),
        }
    }

    fn web_file(&mut self) -> String {
        let (one, other) = (self.secret(), self.secret());
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let text = match self.rng.random_range(0..8) {
            0 => format!("basic_auth_users:\n  user: {}\n", quoted(&one)),
            1 => format!("basic_auth_users:\n  {}: {}\n", quoted(&one), quoted(&other)),
            2 => format!("basic_auth_user:\n  {}: {}\n", quoted(&one), quoted(&other)),
            3 => {
                format!("tls_server_config:\n  cert_file: {}\n  key_file: {}\n", quoted(&one), quoted(&other))
            }
            4 => format!("tls_server_config:\n  cert: {}\n  key: {}\n", quoted(&one), quoted(&other)),
            5 => format!(
                "tls_server_config:\n  min_version: {}\n  client_auth_type: {}\n",
                quoted(&one),
                quoted(&other)
            ),
            6 => format!("{}: {}\n{one}\n", quoted(&one), quoted(&other)),
            // The value of a header is sent to clients, so no case has a valid one with a marker.
            _ => format!(
                "http_server_config:\n  headers:\n    {}: {}\n",
                self.one(&["X-Frame-Options", "Server"]),
                quoted(&format!("{one}\u{1}"))
            ),
        };
        self.write("web.yml", &text)
    }

    fn config_file(&mut self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let (one, two, uri) = (self.secret(), self.secret(), self.uri());
        let (one, two, uri) = (quoted(&one), quoted(&two), quoted(&uri));
        let password_file = self.secret();
        // A valid name of a target is on pages and in messages, so no case has one with a marker.
        let invalid_name = quoted(&format!("{}@", self.secret()));
        let mut text = String::new();
        for _ in 0..self.rng.random_range(1..4) {
            text += &match self.rng.random_range(0..14) {
                0 => format!("[mongodb]\nuri = [{uri}]\nusername = \"u\"\npassword = {one}\n"),
                1 => format!("[mongodb]\nuri = {uri}\n"),
                2 => format!(
                    "[mongodb]\nuri = [{uri}]\nusername = {one}\npassword_file = {}\n",
                    quoted(&password_file)
                ),
                3 => format!("[targets.orders]\nuri = {uri}\nauth_module = {one}\n"),
                4 => format!("[targets.{invalid_name}]\nuri = {uri}\n"),
                5 => format!(
                    "[auth_modules.m]\nusername = {one}\npassword = {two}\nauth_source = {one}\n[targets.t]\nuri = {uri}\nauth_module = \"m\"\n"
                ),
                6 => format!("[auth_modules.{invalid_name}]\npassword = {two}\n"),
                7 => format!("[log]\nlevel = {one}\n"),
                8 => format!("[web]\nlisten_address = [{one}]\n"),
                9 => format!("[web]\ntelemetry_path = {one}\n"),
                10 => format!(
                    "[collector]\nprofile = {{ enabled = true, databases = [{one}] }}\nopen_by_operation = {{ backends = [{two}] }}\n"
                ),
                11 => format!("[mongodb]\n{one} = {two}\n"),
                12 => format!("[poll]\ninterval = {one}\n"),
                _ => format!("[mongodb]\npassword = {}\n", password_file.replace(['"', '\n'], "")),
            };
        }
        self.write("txnscope.toml", &text)
    }

    fn case(mut self) -> Case {
        let (mut arguments, mut environment) = (Vec::new(), Vec::new());
        let command = self.one(&[
            "serve",
            "serve",
            "check",
            "check",
            "check",
            "audit",
            "repair",
            "preflight",
            "top",
            "verify",
            "role",
            "race",
            "load",
        ]);
        let add =
            |arguments: &mut Vec<String>, all: &[&str]| arguments.extend(all.iter().map(ToString::to_string));
        match command {
            "serve" => add(
                &mut arguments,
                &["serve", "--web.listen-address=127.0.0.1:0", "--log.level=trace", "--poll.interval=50ms"],
            ),
            "check" => add(&mut arguments, &["serve", "--check-config"]),
            "audit" | "repair" => {
                let checks = testkit::workspace().join("examples/ledger/checks.toml").display().to_string();
                let checks = if self.chance(6) { self.secret() } else { checks };
                add(&mut arguments, &[command, &format!("--checks.file={checks}")]);
            }
            "preflight" => add(&mut arguments, &["preflight", "--timeout=100ms"]),
            "top" => add(&mut arguments, &["top", "--once", "--interval=200ms", "--timeout=200ms"]),
            "verify" => add(&mut arguments, &["verify", "--deployed-at=1h", "--timeout=100ms"]),
            "role" => add(&mut arguments, &["role"]),
            drill => {
                add(&mut arguments, &["drill", drill]);
                if drill == "load" {
                    add(&mut arguments, &["--rate=1", "--duration=1s"]);
                }
                let url = match self.rng.random_range(0..3) {
                    0 => "http://127.0.0.1:1".to_owned(),
                    1 => format!("http://{}@127.0.0.1:1/", self.secret()),
                    _ => self.usual_or_secret("http://127.0.0.1:1/?a="),
                };
                environment.push(("TXNSCOPE_DRILL_URL".to_owned(), url));
                let token = self.secret();
                match self.chance(2) {
                    true => {
                        let file = self.file("token", &token);
                        arguments.push(format!("--token-file={file}"));
                    }
                    false => environment.push(("TXNSCOPE_DRILL_TOKEN".to_owned(), token)),
                }
            }
        }
        let connects =
            matches!(command, "serve" | "check" | "audit" | "repair" | "preflight" | "top" | "verify");
        if connects {
            self.deployment(&mut arguments, &mut environment);
        }
        if matches!(command, "serve" | "check" | "audit" | "repair" | "preflight" | "top" | "role")
            && self.chance(3)
        {
            let file = match self.chance(8) {
                true => self.secret(),
                false => self.config_file(),
            };
            arguments.push(format!("--config.file={file}"));
        }
        if matches!(command, "serve" | "check") && self.chance(4) {
            let file = self.web_file();
            arguments.push(format!("--web.config.file={file}"));
        }
        if matches!(command, "verify" | "preflight") {
            let url = format!("http://{}:{}@127.0.0.1:1/", self.secret(), self.secret());
            let url = if self.chance(3) { url } else { self.usual_or_secret("http://127.0.0.1:1/") };
            environment.push(("TXNSCOPE_PROMETHEUS_URL".to_owned(), url));
            let token = self.secret();
            match self.chance(2) {
                true => environment
                    .push(("TXNSCOPE_PROMETHEUS_TOKEN_FILE".to_owned(), self.file("token", &token))),
                false => environment.push(("TXNSCOPE_PROMETHEUS_TOKEN".to_owned(), token)),
            }
        }
        if self.chance(6) {
            // A secret in the wrong variable.
            let name = self.one(&[
                "TXNSCOPE_POLL_INTERVAL",
                "TXNSCOPE_LOG_LEVEL",
                "TXNSCOPE_WEB_MAX_REQUESTS",
                "TXNSCOPE_WEB_TELEMETRY_PATH",
                "TXNSCOPE_COLLECTOR_PROFILE_DATABASES",
                "TXNSCOPE_COLLECTOR_OPEN_BY_OPERATION_BACKENDS",
                "TXNSCOPE_CHECKS_FILE",
                "TXNSCOPE_PASSWORD",
                "TXNSCOPE_MONGODB_PASWORD",
                "TXNSCOPE_CONFIG_FILE",
                "TXNSCOPE_WEB_CONFIG_FILE",
            ]);
            environment.push((name.to_owned(), self.secret()));
        }
        if self.chance(10) {
            // A secret in the wrong argument, where only the process list may show it.
            let word = match self.rng.random_range(0..4) {
                0 => self.secret(),
                1 => format!("--mongodb.password={}", self.secret()),
                2 => format!("--{}", self.uri()),
                _ => self.uri(),
            };
            arguments.push(word);
        }
        Case { arguments, environment, serves: command == "serve", folder: self.folder }
    }

    /// The URI and the user, by flags, files and variables.
    fn deployment(&mut self, arguments: &mut Vec<String>, environment: &mut Vec<(String, String)>) {
        let uri = self.uri();
        match self.rng.random_range(0..5) {
            0 => arguments.push(format!("--mongodb.uri={uri}")),
            1 => environment.push(("TXNSCOPE_MONGODB_URI".to_owned(), uri)),
            2 => environment.push(("MONGODB_URI".to_owned(), uri)),
            _ => {
                let file = self.file("uri", &uri);
                arguments.push(format!("--mongodb.uri-file={file}"));
            }
        }
        if self.chance(2) {
            let name = self.usual_or_secret("root");
            environment.push(("TXNSCOPE_MONGODB_USERNAME".to_owned(), name));
        }
        let password = self.secret();
        match self.rng.random_range(0..5) {
            0 => environment.push(("TXNSCOPE_MONGODB_PASSWORD".to_owned(), password)),
            1 => environment
                .push(("TXNSCOPE_MONGODB_PASSWORD_FILE".to_owned(), self.file("password", &password))),
            2 => {
                let file = self.file("password", &password);
                arguments.push(format!("--mongodb.password-file={file}"));
            }
            _ => {}
        }
    }
}

impl Case {
    /// Runs the case, and returns its output and its pages.
    async fn run(&self) -> String {
        let mut command = Command::new(PROGRAM);
        command.args(&self.arguments).env_remove("MONGODB_URI").stdin(Stdio::null()).kill_on_drop(true);
        // An argument or a variable cannot hold a zero byte; nothing here does.
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        let log = std::fs::File::create(self.folder.path().join("output_text")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut pages = String::new();
        if self.serves {
            pages = self.pages(&mut child).await;
            let _ = child.start_kill();
        }
        // A command that waits for an unreachable server is killed.
        let limit = Duration::from_secs(4);
        if tokio::time::timeout(limit, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        let mut output_text = String::new();
        let mut file = tokio::fs::File::open(self.folder.path().join("output_text")).await.unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.unwrap();
        let _ = write!(output_text, "{}{pages}", String::from_utf8_lossy(&bytes));
        output_text
    }

    /// The pages after the first polls; empty, if the command does not start.
    async fn pages(&self, child: &mut tokio::process::Child) -> String {
        let log = self.folder.path().join("output_text");
        let address = wait::until("an address, or an end", async || {
            if child.try_wait()?.is_some() {
                return Ok(None);
            }
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let found = text.lines().find(|line| line.contains("listening") && line.contains("127.0.0.1:"));
            let found = found.and_then(|line| line.split_once("127.0.0.1:"));
            let (_, rest) = found.ok_or_else(|| anyhow::anyhow!("not yet"))?;
            Ok(Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>()))
        });
        let Some(port) = address.await.unwrap() else { return String::new() };
        let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
        let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
        // Wait for the first polls, but not long. A page that requires TLS or a password is not waited for.
        for _ in 0..60 {
            match client.get(url("/-/ready")).send().await {
                Ok(answer) if answer.status() == 503 => tokio::time::sleep(Duration::from_millis(50)).await,
                _ => break,
            }
        }
        let _ = client.post(url("/-/reload")).send().await;
        let mut pages = String::new();
        for path in [
            "/-/ready",
            "/metrics",
            "/",
            "/probe?target=orders",
            "/probe?target=t&auth_module=m",
            "/config",
            "/-/healthy",
        ] {
            // A response to a rejected client is a page as well.
            if let Ok(answer) = client.get(url(path)).send().await {
                let headers = format!("{:?}", answer.headers());
                let _ = write!(pages, "{headers}{}", answer.text().await.unwrap_or_default());
            }
        }
        if let Ok(mut events) = client.get(url("/live/events")).send().await {
            let first = events.chunk().await.unwrap_or_default().unwrap_or_default();
            pages += &String::from_utf8_lossy(&first);
        }
        pages
    }

    /// The command line and the environment, to reproduce the case.
    fn describe(&self) -> String {
        format!("{:?} {:?} in {}", self.arguments, self.environment, self.folder.path().display())
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_output_page_label_or_log() {
    // A real server that requires a password: its errors about a wrong one are checked as well.
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let server = set.addresses().join(",");
    let seed = number("TXNSCOPE_SECRET_SEED").unwrap_or(1);
    let cases = match number("TXNSCOPE_SECRET_CASE") {
        Some(case) => case..case + 1,
        None => 0..number("TXNSCOPE_SECRET_CASES").unwrap_or(SHORT),
    };
    let run = async |number: u64| {
        let case = CaseGenerator::new(seed, number, &server).case();
        let output_text = case.run().await;
        (number, case, output_text)
    };
    let mut all = futures_util::stream::iter(cases.map(run)).buffer_unordered(4);
    let (mut silent, mut ended) = (0, 0);
    while let Some((number, case, output_text)) = all.next().await {
        let again = format!("TXNSCOPE_SECRET_SEED={seed} TXNSCOPE_SECRET_CASE={number}");
        assert!(!output_text.to_lowercase().contains(MARK), "{again}: {}\n{output_text}", case.describe());
        assert!(!output_text.contains("panicked at"), "{again}: {}\n{output_text}", case.describe());
        ended += 1;
        silent += u64::from(output_text.is_empty());
    }
    assert!(
        silent * 5 <= ended,
        "{silent} of {ended} cases printed nothing: check that the output is captured"
    );
}

/// The control of the test above: it detects a marker that is visible.
#[tokio::test]
async fn visible_marker_is_detected() {
    let folder = TempDir::new().unwrap();
    let arguments = ["serve", "--web.listen-address=127.0.0.1:0"].map(str::to_owned).to_vec();
    let environment = vec![("MONGODB_URI".to_owned(), format!("mongodb://%2Fnowhere%2F{MARK}.sock/"))];
    let case = Case { arguments, environment, serves: true, folder };
    assert!(
        Path::new(PROGRAM).exists() && case.run().await.contains(MARK),
        "a member's address is on every page"
    );
}
