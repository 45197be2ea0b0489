//! `txnscope proxy` as a process in front of a backend.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;
use testkit::{Process, Signal, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_txnscope");

const OPERATIONS: &str = r#"
[[operation]]
name = "POST /api/retainers/{id}/consume"
[[operation.rejected]]
status = 400
json = "/message"
prefix = "Insufficient balance"
reason = "insufficient_balance"
"#;

/// A running proxy.
pub(crate) struct Proxying {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) web: SocketAddr,
    _folder: TempDir,
}

impl Proxying {
    pub(crate) async fn start(arguments: &[String]) -> Self {
        Self::start_with(arguments, None).await
    }

    /// With a socket that is handed over.
    async fn start_with(arguments: &[String], socket: Option<&std::net::TcpListener>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut all = vec!["proxy".to_owned()];
        for (flag, default) in
            [("--proxy.listen-address", "127.0.0.1:0"), ("--web.listen-address", "127.0.0.1:0")]
        {
            if !arguments.iter().any(|argument| argument.starts_with(flag)) {
                all.push(format!("{flag}={default}"));
            }
        }
        all.extend_from_slice(arguments);
        let log = folder.path().join("log");
        let mut process = match socket {
            None => Process::spawn(Path::new(PROGRAM), &all, log).await.unwrap(),
            Some(socket) => {
                let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
                let before = ["-c", script, PROGRAM].map(str::to_owned);
                let all: Vec<_> = before.into_iter().chain(all).collect();
                let handed =
                    std::process::Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
                let spawn = Process::spawn_with(Path::new("sh"), &all, log, |command| {
                    command.stdin(handed);
                });
                spawn.await.unwrap()
            }
        };
        let addresses = wait::until("the addresses in the log", async || {
            process.check()?;
            let log = process.log();
            let of = |key: &str| -> Option<SocketAddr> {
                let rest = log.split_once(&format!("{key}="))?.1;
                let rest = rest.trim_start_matches(['"', '[']);
                rest.split([']', '"', ' ']).next()?.parse().ok()
            };
            Ok((
                of("listening").ok_or_else(|| anyhow::anyhow!("{log}"))?,
                of("web").ok_or_else(|| anyhow::anyhow!("{log}"))?,
            ))
        });
        let (address, web) = addresses.await.unwrap();
        Self { process, address, web, _folder: folder }
    }

    /// Ends it as systemd would, and returns what it has printed.
    pub(crate) async fn end(mut self) -> String {
        self.process.signal(Signal::TERM).unwrap();
        let status = self.process.wait().await.unwrap();
        assert!(status.success(), "{status}: {}", self.process.log());
        self.process.log()
    }
}

/// A backend with one answer for everything, which keeps connections.
async fn backend() -> SocketAddr {
    const BODY: &str = r#"{"message":"Insufficient balance: 3"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while read_until(&mut stream, "{}").await.ends_with("{}") {
                    let length = BODY.len();
                    let answer = format!(
                        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end.as_bytes()) {
        match tokio::time::timeout(wait::LIMIT, stream.read(&mut byte)).await.expect("nothing comes") {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(read).unwrap()
}

const REQUEST: &str = "POST /api/retainers/7/consume HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\n{}";

async fn page(web: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(web).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

fn operations(folder: &TempDir, text: &str) -> String {
    let file = folder.path().join("operations.toml");
    std::fs::write(&file, text).unwrap();
    format!("--operations.file={}", file.display())
}

#[tokio::test]
async fn a_backend_is_counted_and_drained_without_a_change_of_it() {
    let folder = TempDir::new().unwrap();
    let upstream = format!("--upstream=http://{}", backend().await);
    let proxying = Proxying::start(&[upstream, operations(&folder, OPERATIONS)]).await;
    let mut stream = TcpStream::connect(proxying.address).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "}").await.starts_with("HTTP/1.1 400 "));
    drop(stream);
    let metrics = page(proxying.web, "/metrics").await;
    let counted = metrics.lines().any(|line| {
        line.starts_with("transaction_failures_total{")
            && line.contains("insufficient_balance")
            && line.ends_with(" 1")
    });
    assert!(counted, "{metrics}");
    assert!(page(proxying.web, "/-/ready").await.starts_with("HTTP/1.1 200 "));
    let log = proxying.end().await;
    assert!(log.contains("signal=SIGTERM") && log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_draft_of_an_operations_file_is_printed_from_what_passes() {
    let upstream = format!("--upstream=http://{}", backend().await);
    let proxying = Proxying::start(&[upstream, "--learn".to_owned()]).await;
    let mut stream = TcpStream::connect(proxying.address).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    read_until(&mut stream, "}").await;
    drop(stream);
    let printed = proxying.end().await;
    for line in ["name = \"POST /api/retainers/{id}/consume\"", "prefix = \"Insufficient balance\""] {
        assert!(printed.contains(line), "{printed}");
    }
}

#[tokio::test]
async fn a_wrong_operations_file_or_upstream_is_named_and_nothing_starts() {
    let folder = TempDir::new().unwrap();
    let wrong = OPERATIONS.replace("prefix", "prefixx");
    for (arguments, expected) in [
        (
            ["--upstream=http://127.0.0.1:1".to_owned(), operations(&folder, &wrong)],
            "operations.toml:7: unknown key `prefixx`; did you mean `prefix`?",
        ),
        (["--upstream=127.0.0.1:1".to_owned(), "--check-config".to_owned()], "http://127.0.0.1:3000"),
        (["--unmatched=count".to_owned(), "--check-config".to_owned()], "the backend is missing"),
    ] {
        let mut command = tokio::process::Command::new(PROGRAM);
        let output = command.arg("proxy").args(arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(wait::LIMIT, output).await.expect("it goes on").unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{said}");
    }
}

/// As with systemd: the socket is there before every process and stays, and each has it as its file descriptor 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_the_socket_of_systemd_loses_no_request() {
    let upstream = format!("--upstream=http://{}", backend().await);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let flags = ["--proxy.systemd-socket".to_owned(), "--proxy.drain-timeout=20s".to_owned(), upstream];
    let mut old = Proxying::start_with(&flags, Some(&socket)).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for keeps in [true, false] {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        callers.push(tokio::spawn(async move {
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => TcpStream::connect(address).await.expect("a connection is refused"),
                };
                stream.write_all(REQUEST.as_bytes()).await.expect("a request is refused");
                let answer = read_until(&mut stream, "}").await;
                assert!(
                    answer.starts_with("HTTP/1.1 400 ") && answer.ends_with('}'),
                    "a request is lost: {answer:?}"
                );
                served.fetch_add(1, Ordering::Relaxed);
                if keeps && !answer.contains("connection: close") {
                    kept = Some(stream);
                }
            }
        }));
    }
    for _ in 0..2 {
        let new = Proxying::start_with(&flags, Some(&socket)).await;
        let goal = served.load(Ordering::Relaxed) + 20;
        let going = wait::until("requests to go on", async || {
            anyhow::ensure!(served.load(Ordering::Relaxed) >= goal);
            Ok(())
        });
        going.await.unwrap();
        std::mem::replace(&mut old, new).end().await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    old.end().await;
}
