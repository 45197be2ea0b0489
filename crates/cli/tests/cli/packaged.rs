//! What the packages and the container image rely on: the packaged configuration, messages to systemd, the health check.

use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;
use testkit::{Scrape, wait};

use crate::common::{Serving, run, run_with, stderr, stdout_and_stderr};

const CONFIGURATION: &str = include_str!("../../../../packaging/txnscope.toml");

/// Writes a configuration with the files that it names, and checks it.
async fn check(text: &str) {
    let folder = TempDir::new().unwrap();
    let checks = include_str!("../../../../examples/ledger/checks.toml");
    for (name, text) in
        [("orders.uri", "mongodb://db1/"), ("password", "hunter2"), ("web.yml", ""), ("checks.toml", checks)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let file = folder.path().join("txnscope.toml");
    std::fs::write(&file, text.replace("/etc/txnscope/", "")).unwrap();
    let output = run(&["serve", "--check-config", &format!("--config.file={}", file.display())]).await;
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
}

#[tokio::test]
async fn packaged_configuration_is_valid_with_and_without_its_examples() {
    check(CONFIGURATION).await;
    // An example has no space after the `#`.
    let is_example =
        |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_lowercase));
    assert!(CONFIGURATION.lines().filter(|line| is_example(line)).count() > 5);
    let used = CONFIGURATION.lines().map(|line| if is_example(line) { &line[1..] } else { line });
    check(&used.map(|line| format!("{line}\n")).collect::<String>()).await;
}

/// `cargo xtask package` sets the commit, and tests it; a build in a working copy has none.
#[tokio::test]
async fn version_names_the_build_and_the_metrics_page_agrees() {
    let output = |flag: &'static str| async move { String::from_utf8(run(&[flag]).await.stdout).unwrap() };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(output("-V").await, format!("txnscope {version}\n"));
    let long = output("--version").await;
    let details = long.strip_prefix(&format!("txnscope {version} (")).unwrap_or_else(|| panic!("{long}"));
    let details = details.strip_suffix(")\n").unwrap();
    let (commit, target) = details.split_once(", ").unwrap_or(("", details));
    assert!(target.starts_with(std::env::consts::ARCH) && target.contains("linux"), "{long}");
    assert!(commit.trim_end_matches("-dirty").chars().all(|c| c.is_ascii_hexdigit()), "{long}");
    let serving = Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/"], &[]).await;
    let page = Scrape::parse(&serving.get("/metrics").await.unwrap()).unwrap();
    let labels = [("version", version), ("revision", commit)];
    assert_eq!(page.value("txnscope_build_info", &labels), Some(1.0));
}

/// The messages that a unit of `Type=notify` with `WatchdogSec=` gets.
#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_notified_of_startup_life_and_shutdown() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let next = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("no further message to systemd");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let serving = Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/"], &environment).await;
    let ready = next();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=only clients on this machine can connect"), "{ready}");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    serving.process.signal(testkit::Signal::TERM).unwrap();
    while next().trim() != "STOPPING=1" {}
}

#[tokio::test]
async fn failed_startup_is_not_reported_as_ready_to_systemd() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let arguments = ["serve", "--mongodb.uri=mongodb://127.0.0.1:1/", &address];
    let output = run_with(&arguments, &[("NOTIFY_SOCKET", path.to_str().unwrap())]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout_and_stderr(&output));
    assert!(socket.recv(&mut [0; 64]).is_err(), "a message was sent");
}

/// Runs the health check of a sidecar at this address.
async fn healthcheck(address: &str) -> (Option<i32>, String) {
    let output = run(&["healthcheck", &format!("--web.listen-address={address}")]).await;
    (output.status.code(), stdout_and_stderr(&output))
}

#[tokio::test]
async fn healthcheck_finds_the_sidecar_by_flag_variable_and_file() {
    let serving = Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/"], &[]).await;
    assert_eq!(healthcheck(&serving.address).await, (Some(0), "healthy\n".to_owned()));
    let port = serving.address.rsplit_once(':').unwrap().1;
    // All addresses of the machine include the loopback address.
    assert_eq!(healthcheck(&format!(":{port}")).await.0, Some(0));
    assert_eq!(healthcheck(&format!("0.0.0.0:{port}")).await.0, Some(0));
    let variable = [("TXNSCOPE_WEB_LISTEN_ADDRESS", serving.address.as_str())];
    assert!(run_with(&["healthcheck"], &variable).await.status.success());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    std::fs::write(&file, format!("[web]\nlisten_address = [\"{}\"]\n", serving.address)).unwrap();
    let file = format!("--config.file={}", file.display());
    assert!(run(&["healthcheck", &file]).await.status.success());
}

#[tokio::test]
async fn healthcheck_needs_no_password_and_no_certificate() {
    let folder = TempDir::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("server.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
    let users = format!("basic_auth_users:\n  prometheus: {}\n", bcrypt::hash("hunter2", 4).unwrap());
    let tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    for (name, text) in [("users.yml", users.clone()), ("tls.yml", tls.to_owned()), ("both.yml", users + tls)]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let web = format!("--web.config.file={}", file.display());
        let serving = Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/", &web], &[]).await;
        assert_eq!(healthcheck(&serving.address).await, (Some(0), "healthy\n".to_owned()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_fails_without_a_sidecar_that_responds() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    for (response, expected) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
        ("SSH-2.0-OpenSSH_9.2\u{1b}[2J\r\n", "another program"),
        ("", "another program"),
    ] {
        let answer = async {
            let (mut stream, _) = other.accept().await.unwrap();
            // The request is read first: closing a socket with unread data resets the connection.
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes()).await.unwrap();
        };
        let ((code, text), ()) = tokio::join!(healthcheck(&address), answer);
        assert!(code == Some(1) && text.contains(expected) && text.contains(&address), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    drop(other);
    let (code, text) = healthcheck(&address).await;
    assert!(code == Some(1) && text.contains("cannot connect"), "{text}");
    let (code, text) = healthcheck("nonsense").await;
    assert!(code == Some(2) && text.contains("--web.listen-address"), "{text}");
}
