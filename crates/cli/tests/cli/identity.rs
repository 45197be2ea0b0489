//! Authentication at a deployment: credentials outside of the URI, options of other drivers, wrong passwords.

use std::sync::{Arc, Mutex};

use anyhow::ensure;
use mongodb::bson::doc;
use tempfile::TempDir;
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Serving, run, run_with, stderr, stdout_and_stderr};

const PASSWORD: &str = "the-password-of-root";

struct Environment {
    set: ReplicaSet,
    folder: TempDir,
}

impl Environment {
    async fn open() -> Self {
        let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
        Self { set, folder: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// A URI without credentials.
    fn uri(&self, path_and_options: &str) -> String {
        format!("mongodb://{}/{path_and_options}", self.set.addresses().join(","))
    }

    /// Creates a user of the database `shop` with the privileges to poll.
    async fn user_of_shop(&self) {
        let client = self.set.client().await.unwrap();
        let roles = vec![doc! {"role": "clusterMonitor", "db": "admin"}];
        let mechanisms = vec!["SCRAM-SHA-1", "SCRAM-SHA-256"];
        let user =
            doc! {"createUser": "monitor", "pwd": "hun@ter/2?", "roles": roles, "mechanisms": mechanisms};
        client.database("shop").run_command(user).await.unwrap();
    }
}

/// The lines of a log that have this in them.
fn lines<'a>(log: &'a str, what: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(what)).collect()
}

#[tokio::test]
async fn separate_credentials_use_mechanism_and_auth_source_of_the_uri() {
    let env = Environment::open().await;
    env.user_of_shop().await;
    let password = format!("--mongodb.password-file={}", env.write("password", "hun@ter/2?\n"));
    for (options, mechanism) in [
        ("?authMechanism=SCRAM-SHA-1&authSource=shop", "SCRAM-SHA-1"),
        ("shop?authMechanism=SCRAM-SHA-256", "SCRAM-SHA-256"),
        ("?authSource=sh%6Fp&appName=a@b", "SCRAM-SHA-256"),
        ("shop", "SCRAM-SHA-256"),
    ] {
        let uri = format!("--mongodb.uri={}", env.uri(options));
        let serving = Serving::start(&[&uri, "--mongodb.username=monitor", &password], &[]).await;
        serving
            .up()
            .await
            .unwrap_or_else(|error| panic!("{options}, {mechanism}: {error}\n{}", serving.process.log()));
        assert!(!serving.process.log().contains("hun@ter"), "{options}");
    }
}

/// A proxy that records the bytes from the client to the server.
async fn recording_proxy(server: String) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (heard, server) = (Arc::clone(&all), server.clone());
            tokio::spawn(async move {
                let (mut output_text, mut answers) = client.into_split();
                let (mut replies, mut requests) = TcpStream::connect(server).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut replies, &mut answers).await });
                let mut piece = vec![0; 4096];
                while let Ok(length @ 1..) = output_text.read(&mut piece).await {
                    heard.lock().unwrap().extend_from_slice(&piece[..length]);
                    if requests.write_all(&piece[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, heard)
}

/// The server has no LDAP and rejects the login. The client sends what a server with LDAP would get.
#[tokio::test(flavor = "multi_thread")]
async fn plain_mechanism_uses_the_password_of_a_file() {
    let env = Environment::open().await;
    let password = format!("--mongodb.password-file={}", env.write("password", "hunter2"));
    let (port, heard) = recording_proxy(env.set.addresses().join(",")).await;
    let options = "directConnection=true&authMechanism=PLAIN&authSource=%24external";
    let uri = format!("--mongodb.uri=mongodb://127.0.0.1:{port}/?{options}");
    let output = run(&["serve", "--check-config", &uri, "--mongodb.username=monitor", &password]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let serving = Serving::start(&[&uri, "--mongodb.username=monitor", &password, POLL_TIMEOUT], &[]).await;
    wait_for_failed_logins(&serving, 1.0).await;
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(heard.contains("PLAIN") && heard.contains("$external"), "{heard}");
    assert!(
        heard.contains("\0monitor\0hunter2"),
        "the user and the password in the format of PLAIN: {heard}"
    );
    assert!(!serving.process.log().contains("hunter2"));
    // Without a user, the error names what is missing.
    let output = run(&["serve", "--check-config", &uri]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("mongodb.password_file"), "{}", stderr(&output));
}

/// Time for a poll on a busy machine: a poll that times out does not fail to authenticate.
const POLL_TIMEOUT: &str = "--poll.timeout=1m";

/// Waits for a number of failed polls, and asserts that all of them failed to authenticate.
async fn wait_for_failed_logins(serving: &Serving, polls: f64) {
    wait::until("the refusals", async || {
        let page = Scrape::parse(&serving.get("/metrics").await?)?;
        let (all, refused) = (
            page.sum("txnscope_poll_errors_total", &[]),
            page.sum("txnscope_poll_errors_total", &[("reason", "authentication")]),
        );
        assert!(all == refused, "{refused} of {all} polls: {}", serving.process.log());
        ensure!(refused >= polls, "{refused} refusals");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn wrong_password_fails_every_poll_and_is_logged_once() {
    let env = Environment::open().await;
    let uri = env.uri("?authSource=admin").replace("mongodb://", "mongodb://root:hunter2@");
    let serving = Serving::start(&[POLL_TIMEOUT], &[("MONGODB_URI", uri.as_str())]).await;
    wait_for_failed_logins(&serving, 20.0).await;
    let log = serving.process.log();
    assert_eq!(lines(&log, "polls fail").len(), 1, "{log}");
    assert_eq!(lines(&log, "level=warn").len(), 1, "{log}");
    assert!(log.contains("reason=authentication") && !log.contains("hunter2"), "{log}");

    let client = env.set.client().await.unwrap();
    client.database("admin").run_command(doc! {"updateUser": "root", "pwd": "hunter2"}).await.unwrap();
    serving.up().await.unwrap();
    wait::until("the log entry about the recovery", async || {
        let log = serving.process.log();
        ensure!(lines(&log, "polls succeed again").len() == 1, "{log}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn unsupported_uri_options_cause_one_warning() {
    let env = Environment::open().await;
    let options = "?compressors=snappy,zlib&socketTimeoutMS=271828&uuidRepresentation=standard&timeoutMS=271828\
                   &maxPoolSize=0&retryWrites=true&w=majority&someOption=hunter2";
    let uri = env.uri(options).replace("mongodb://", &format!("mongodb://root:{PASSWORD}@"));
    let serving = Serving::start(&[], &[("MONGODB_URI", uri.as_str())]).await;
    serving.up().await.unwrap();
    let log = serving.process.log();
    let warned = lines(&log, "have no effect here");
    assert_eq!(warned.len(), 1, "{log}");
    for name in [
        "compressors",
        "socketTimeoutMS",
        "uuidRepresentation",
        "timeoutMS",
        "maxPoolSize",
        "someOption (unknown)",
    ] {
        assert!(warned[0].contains(name), "{name}: {log}");
    }
    assert!(!log.contains("hunter2") && !log.contains("271828") && !log.contains("standard"), "{log}");

    // An audit prints the warning to the standard error.
    let checks = env.write("checks.toml", include_str!("../../../../examples/ledger/checks.toml"));
    let output = run_with(&["audit", "--checks.file", &checks], &[("MONGODB_URI", uri.as_str())]).await;
    assert!(stderr(&output).contains("no effect here: compressors"), "{}", stderr(&output));
    assert!(!stdout_and_stderr(&output).contains("hunter2"));

    for (option, name) in [
        ("tlsAllowInvalidHostnames=hunter2", "tlsAllowInvalidHostnames"),
        ("tlsCertificateKeyFilePassword=hunter2", "tlsCertificateKeyFilePassword"),
        ("tlsCRLFile=hunter2", "tlsCRLFile"),
        ("proxyPassword=hunter2", "proxyPassword"),
        ("authMechanism=hunter2", "authMechanism"),
        ("directConnection=hunter2", "directConnection"),
        ("tlsCAFile=hunter2", "tlsCAFile"),
    ] {
        let uri = format!("mongodb://u:p@127.0.0.1:1/?{option}");
        let output = run_with(&["serve", "--check-config"], &[("MONGODB_URI", &uri)]).await;
        assert_eq!(output.status.code(), Some(2), "{option}: {}", stderr(&output));
        let output_text = stdout_and_stderr(&output);
        assert!(output_text.contains(name) && !output_text.contains("hunter2"), "{option}: {output_text}");
        assert!(!output_text.contains("percent-encoded"), "{option}: {output_text}");
    }
}

#[tokio::test]
async fn trailing_newline_of_a_secret_is_trimmed() {
    let env = Environment::open().await;
    let (plain, by_file) =
        (env.uri(""), format!("--mongodb.password-file={}", env.write("pw", "the-password-of-root\r\n\n")));
    let whole = format!("{}\n", env.set.uri());
    let plain = format!("{plain}\n");
    let password = format!("{PASSWORD}\n");
    let root = ("TXNSCOPE_MONGODB_USERNAME", "root\n");
    for (arguments, environment) in [
        (&[][..], &[("MONGODB_URI", whole.as_str())][..]),
        (&[], &[("TXNSCOPE_MONGODB_URI", whole.as_str())]),
        (&[], &[("MONGODB_URI", plain.as_str()), root, ("TXNSCOPE_MONGODB_PASSWORD", password.as_str())]),
        (&[by_file.as_str()], &[("MONGODB_URI", plain.as_str()), root]),
    ] {
        let serving = Serving::start(arguments, environment).await;
        serving.up().await.unwrap_or_else(|error| panic!("{error}\n{}", serving.process.log()));
    }
}

#[tokio::test]
async fn second_line_or_control_character_in_a_secret_is_rejected() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let checks = write("checks.toml", include_str!("../../../../examples/ledger/checks.toml"));
    let two = "mongodb://127.0.0.1:1/?replicaSet=rs0\nmongodb://user:hunter2@127.0.0.1:1/";
    let by_file = format!("--mongodb.uri-file={}", write("uri", two));
    let second = format!("--mongodb.password-file={}", write("password", "hunter2\nhunter3"));
    let control = format!("--mongodb.password-file={}", write("control", "hun\u{1b}ter2"));
    let plain = "--mongodb.uri=mongodb://127.0.0.1:1/";
    let user = "--mongodb.username=root";
    for (arguments, environment, name, what) in [
        (&[by_file.as_str()][..], &[][..], "--mongodb.uri-file", "second line"),
        (&[], &[("MONGODB_URI", two)], "MONGODB_URI", "second line"),
        (&[], &[("TXNSCOPE_MONGODB_URI", two)], "TXNSCOPE_MONGODB_URI", "second line"),
        (&[plain, user, second.as_str()], &[], "--mongodb.password-file", "second line"),
        (&[plain, user, control.as_str()], &[], "--mongodb.password-file", "control character"),
        (
            &[plain, user],
            &[("TXNSCOPE_MONGODB_PASSWORD", "hunter2\rhunter3")],
            "TXNSCOPE_MONGODB_PASSWORD",
            "second line",
        ),
        (
            &[plain, user],
            &[("TXNSCOPE_MONGODB_PASSWORD", "hun\tter2")],
            "TXNSCOPE_MONGODB_PASSWORD",
            "control character",
        ),
        (
            &[plain],
            &[("TXNSCOPE_MONGODB_USERNAME", "root\nhunter2"), ("TXNSCOPE_MONGODB_PASSWORD", "x")],
            "mongodb.username",
            "second line",
        ),
        (
            &["--mongodb.uri=mongodb://127.0.0.1:1/?replicaSet=rs0%0Ahunter2"],
            &[],
            "replicaSet",
            "name of a replica set",
        ),
        (&["--mongodb.uri=mongodb://127.0.0.1:1/?replicaSet=rs0 hunter2"], &[], "--mongodb.uri", ""),
    ] {
        let checks = format!("--checks.file={checks}");
        for command in [
            &["serve", "--check-config"][..],
            &["audit", &checks],
            &["repair", &checks],
            &["preflight"],
            &["top", "--once"],
        ] {
            let output = run_with(&[command, arguments].concat(), environment).await;
            let output_text = stdout_and_stderr(&output);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command:?} {arguments:?} {environment:?}: {output_text}"
            );
            assert!(
                output_text.contains(name) && output_text.contains(what),
                "{command:?} {arguments:?} {environment:?}: {output_text}"
            );
            assert!(
                !output_text.contains("hun") && !output_text.contains("ter3"),
                "{command:?} {arguments:?}: {output_text}"
            );
        }
    }
    // The same in the configuration file, where a text has escapes.
    for (text, name) in [
        ("[mongodb]\nuri = [\"mongodb://127.0.0.1:1/\\nhunter2\"]\n", "txnscope.toml:2: mongodb.uri: "),
        (
            "[mongodb]\nuri = [\"mongodb://127.0.0.1:1/\"]\nusername = \"u\"\npassword = \"hunter2\\nhunter3\"\n",
            "txnscope.toml:4: mongodb.password",
        ),
        (
            "[mongodb]\nuri = [\"mongodb://127.0.0.1:1/\"]\n[auth_modules.m]\nusername = \"u\"\npassword = \"hun\\tter2\"\n",
            "txnscope.toml:5: auth_modules.m: password",
        ),
        (
            "[targets.\"mongodb://u:hunter2@h/\"]\nuri = \"mongodb://127.0.0.1:1/\"\n",
            "invalid name of a target or an auth module",
        ),
    ] {
        let file = format!("--config.file={}", write("txnscope.toml", text));
        let output = run(&["serve", "--check-config", &file]).await;
        assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(name) && !stderr(&output).contains("hun"),
            "{text}: {}",
            stderr(&output)
        );
    }
}
