//! `txnscope serve` as a process: what it says, how it ends, and what it keeps to itself.

use std::net::TcpListener;
use std::path::Path;

use anyhow::ensure;
use tempfile::TempDir;
use testkit::{
    Mongod, Process, Prometheus, ReplicaSet, ReplicaSetOptions, Scrape, ScrapeJob, Signal, promtool, wait,
};

use crate::common::{PROGRAM, Serving, assert_misuse, run, run_with, stderr};
#[tokio::test]
async fn invalid_command_line_is_an_error_without_passwords() {
    for (arguments, expected) in [
        (&["serve"][..], "no deployment configured"),
        (&["serve", "--mongodb.uri=mongodb://user:hunter2@host/"], "--mongodb.uri-file"),
        (&["serve", "--mongodb.uri=mongodb://user:hunter2/@host/"], "--mongodb.uri-file"),
        (&["serve", "--mongodb.uri=mongo://user:hunter2@host/"], "--mongodb.uri-file"),
        (
            &["serve", "--mongodb.uri=mongodb://host/", "--mongodb.uri=mongodb://user:hunter2@host/"],
            "ps shows",
        ),
        (&["serve", "--mongodb.uri=mongodb://host:port/"], "port"),
        (&["serve", "mongodb://user:hunter2@host/"], "unexpected argument"),
        (&["serve", "--mongodb.url=mongodb://user:hunter2@host/"], "--mongodb.uri"),
        (&["serve", "--mongodb.uri-file=/nowhere/uri"], "/nowhere/uri"),
        (&["serve", "--mongodb.uri=mongodb://host", "--mongodb.uri-file=/nowhere/uri"], "/nowhere/uri"),
        (&["serve", "--mongodb.uri=mongodb://host", "--mongodb.username=txnscope"], "mongodb.password_file"),
        (&["serve", "--mongodb.uri=mongodb://host", "--mongodb.password-file=/nowhere/pw"], "/nowhere/pw"),
        (&["serve", "--mongodb.uri=mongodb://host", "--poll.interval=5"], "such as 30s"),
        (&["serve", "--mongodb.uri=mongodb://host", "--poll.interval=0s"], "out of bounds"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.telemetry-path=metrics"], "begin with /"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.listen-address=nowhere"], "listen-address"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.listen-address=:70000"], "listen-address"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.max-requests=many"], "max-requests"),
        (
            &["serve", "--mongodb.uri=mongodb://host", "--web.config.file=/nowhere/web.yml"],
            "/nowhere/web.yml",
        ),
        (&["serve", "--config.file=/nowhere/txnscope.toml"], "/nowhere/txnscope.toml"),
        (&["serve", "--mongodb.uri=mongodb://host/?tls=true&tlsCAFile=/nowhere/ca.pem"], "tlsCAFile"),
        (&["swerve"], "swerve"),
    ] {
        let output = run(arguments).await;
        assert_misuse(&output, arguments, expected);
    }
}

/// Values of variables and files may be secrets, even if they are invalid.
#[tokio::test]
async fn invalid_variable_or_file_is_an_error_without_passwords() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    let by_file = format!("--config.file={}", file.display());
    for (name, value, expected) in [
        ("MONGODB_URI", "mongodb://user:hunter2/@host/", "percent-encoded"),
        ("MONGODB_URI", "mongo://user:hunter2@host/", "malformed"),
        ("TXNSCOPE_MONGODB_URI", "mongodb://a/ mongodb://user:hunter2/@host/", "URI 2: the URI is malformed"),
        ("TXNSCOPE_MONGODB_PASSWORD", "hunter2", "mongodb.username"),
        ("TXNSCOPE_POLL_INTERVAL", "hunter2", "--poll.interval"),
    ] {
        let output = run_with(&["serve", "--check-config"], &[(name, value)]).await;
        let output_text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {output_text}");
        assert!(output_text.contains(expected), "{name}={value}: {output_text}");
        assert!(!output_text.contains("hunter2"), "{output_text}");
    }
    for (text, expected) in [
        (
            "[mongodb]\nuri = [\"mongodb://user:hunter2/@host/\"]\n",
            "txnscope.toml:2: mongodb.uri: the URI is malformed",
        ),
        (
            "[mongodb]\nuri = [\"mongodb://a/\",\n\"mongodb://user:hunter2/@b/\"]\n",
            "txnscope.toml:3: mongodb.uri",
        ),
        ("[mongodb]\nuri_file = [\"uri\"]\n", "txnscope.toml:2: cannot use"),
        (
            "[targets.orders]\nuri = \"mongodb://user:hunter2/@b/\"\n",
            "txnscope.toml:2: targets.orders: the URI is malformed",
        ),
        (
            "[targets.orders]\nauth_module = \"a\"\n",
            "targets.orders: the URI is missing: give uri or uri_file",
        ),
        (
            "[targets.orders]\nuri = \"mongodb://b/\"\nauth_module = \"monitr\"\n[auth_modules.monitor]\nusername = \"a\"\npassword = \"hunter2\"\n",
            "txnscope.toml:3: unknown auth module; did you mean `monitor`?",
        ),
        (
            "[targets.orders]\nuri = \"mongodb://u:hunter2@b/\"\nauth_module = \"m\"\n[auth_modules.m]\nusername = \"a\"\npassword = \"hunter2\"\n",
            "txnscope.toml:2: targets.orders: the URI names a user",
        ),
        (
            "[mongodb]\nuri = [\"mongodb://a/\"]\n[web]\nlisten_address = [\"nowhere\"]\n",
            "txnscope.toml:4: web.listen_address",
        ),
        ("[mongodb]\nuri = [\"mongodb://a/\"]\n[web]\nconfig.file = \"web.yml\"\n", "web.yml"),
        ("[pol]\ninterval = \"5s\"\n", "txnscope.toml:1: unknown key `pol`; did you mean `poll`?"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = run(&["serve", "--check-config", &by_file]).await;
        let output_text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {output_text}");
        assert!(output_text.contains(expected), "{text}: {output_text}");
        assert!(
            !output_text.contains("hunter2") && !output_text.contains("panicked"),
            "{text}: {output_text}"
        );
    }
}

#[tokio::test]
async fn used_port_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("--web.listen-address={address}");
    let output = run(&["serve", "--mongodb.uri=mongodb://127.0.0.1:1/", &listen]).await;
    let output_text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{output_text}");
    assert!(output_text.contains(&address) && output_text.contains("in use"), "{output_text}");
}

#[tokio::test]
async fn catalog_is_printed() {
    let output = run(&["catalog"]).await;
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), txnscope_catalog::markdown());
    let names = String::from_utf8(run(&["catalog", "--format=names"]).await.stdout).unwrap();
    assert_eq!(names.lines().count(), txnscope_catalog::METRICS.len());
    let settings = String::from_utf8(run(&["catalog", "--format=settings"]).await.stdout).unwrap();
    let page = std::fs::read_to_string(testkit::workspace().join("docs/configuration.md")).unwrap();
    assert!(
        settings == page,
        "docs/configuration.md is not what the settings say; run `cargo xtask gen`:\n{settings}"
    );
}

#[tokio::test]
async fn unreachable_database_is_exported_and_signals_shut_down() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut serving =
            Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/", "--log.format=json"], &[]).await;
        assert_eq!(serving.get("/-/healthy").await.unwrap(), "txnscope is healthy\n");
        wait::until("a member that is down", async || {
            let up = Scrape::parse(&serving.get("/metrics").await?)?.value("mongodb_up", &[]);
            ensure!(up == Some(0.0), "{up:?}");
            Ok(())
        })
        .await
        .unwrap();
        serving.get("/-/ready").await.unwrap();
        serving.process.signal(signal).unwrap();
        let status = serving.process.wait().await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", serving.process.log());
        assert!(serving.process.log().contains("stopped"), "{}", serving.process.log());
    }
}

/// For every source of the URI, its password is in no log at any level, on no page, and not in ps.
#[tokio::test]
async fn password_is_in_no_log_page_or_process_list() {
    const SECRET: &str = "the-password-of-root";
    let set: ReplicaSet = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let uri = set.uri();
    assert!(uri.contains(SECRET), "the set requires no password");
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let by_file = format!("--mongodb.uri-file={}", write("uri", &format!("{uri}\n")));
    let plain = format!("--mongodb.uri={}", uri.replace(&format!("root:{SECRET}@"), ""));
    let password = format!("--mongodb.password-file={}", write("password", SECRET));
    let toml = format!("[mongodb]\nuri = [\"{uri}\"]\n");
    let toml = format!("--config.file={}", write("txnscope.toml", &toml));
    let files = "[mongodb]\nuri_file = [\"uri\"]\n";
    let files = format!("--config.file={}", write("files.toml", files));
    let other = "mongodb://user:another-password@127.0.0.1:1/";
    for (arguments, environment) in [
        (&[by_file.as_str()][..], &[][..]),
        (&[], &[("MONGODB_URI", uri.as_str())]),
        (&[], &[("TXNSCOPE_MONGODB_URI", uri.as_str()), ("MONGODB_URI", other)]),
        (&[by_file.as_str()], &[("MONGODB_URI", other)]),
        (&[plain.as_str(), "--mongodb.username=root", password.as_str()], &[("MONGODB_URI", other)]),
        (&[plain.as_str(), "--mongodb.username=root"], &[("TXNSCOPE_MONGODB_PASSWORD", SECRET)]),
        (&[toml.as_str()], &[]),
        (&[files.as_str()], &[]),
    ] {
        let mut serving = Serving::start(arguments, environment).await;
        serving.up().await.unwrap();
        let mut text = serving.command_line();
        for path in ["/metrics", "/", "/-/ready", "/probe?target=x"] {
            text += &reqwest::get(format!("http://{}{path}", serving.address))
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
        }
        serving.process.signal(Signal::TERM).unwrap();
        assert!(serving.process.wait().await.unwrap().success());
        text += &serving.process.log();
        assert!(text.contains("TRACE") || text.contains("level=trace"), "not at trace level: {text}");
        assert!(!text.contains(SECRET) && !text.contains("another-password"), "{text}");
    }

    let wrong = uri.replace(SECRET, "hunter2");
    let serving = Serving::start(&[], &[("MONGODB_URI", wrong.as_str())]).await;
    wait::until("the refusal", async || {
        let page = Scrape::parse(&serving.get("/metrics").await?)?;
        let refused = page.sum("txnscope_poll_errors_total", &[("reason", "authentication")]);
        ensure!(refused > 0.0, "none");
        Ok(())
    })
    .await
    .unwrap();
    let events = serving.first_event().await.unwrap();
    assert!(events.contains("authentication"), "{events}");
    let text =
        serving.command_line() + &events + &serving.process.log() + &serving.get("/metrics").await.unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn precedence_is_flag_variable_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    let text = "mongodb.uri = [\"mongodb://127.0.0.1:1/\"]\nweb.telemetry_path = \"/file\"\n";
    std::fs::write(&file, text).unwrap();
    let file = format!("--config.file={}", file.display());
    let variable = ("TXNSCOPE_WEB_TELEMETRY_PATH", "/variable");
    for (arguments, environment, path) in [
        (&[file.as_str()][..], &[][..], "/file"),
        (&[file.as_str()], &[variable], "/variable"),
        (
            &[file.as_str(), "--web.telemetry-path=/flag"],
            &[variable, ("TXNSCOPE_POL_INTERVAL", "1s")],
            "/flag",
        ),
    ] {
        let serving = Serving::start(arguments, environment).await;
        serving.get(path).await.unwrap();
        let warned = serving.process.log().contains("TXNSCOPE_POLL_INTERVAL");
        assert_eq!(warned, path == "/flag", "{}", serving.process.log());
    }
}

#[tokio::test]
async fn sighup_reloads_and_an_invalid_file_changes_nothing() {
    let (one, other) = tokio::try_join!(Mongod::standalone(), Mongod::standalone()).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    let write = |members: &[&Mongod], more: &str| {
        let uris: Vec<_> = members.iter().map(|member| format!("mongodb://{}/", member.address())).collect();
        std::fs::write(&file, format!("[mongodb]\nuri = {uris:?}\n{more}")).unwrap();
    };
    write(&[&one], "");
    let serving = Serving::start(&[&format!("--config.file={}", file.display())], &[]).await;
    let up = async |members: f64, reloaded: f64| {
        wait::until("the members", async || {
            let page = Scrape::parse(&serving.get("/metrics").await?)?;
            let found =
                (page.sum("mongodb_up", &[]), page.sum("txnscope_config_last_reload_successful", &[]));
            ensure!(found == (members, reloaded), "{found:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    up(1.0, 1.0).await;
    write(&[&one, &other], "");
    serving.process.signal(Signal::HUP).unwrap();
    up(2.0, 1.0).await;
    write(&[&one], "[wep]\n");
    serving.process.signal(Signal::HUP).unwrap();
    up(2.0, 0.0).await;
    let log = serving.process.log();
    assert!(log.contains("txnscope.toml:3: unknown key `wep`; did you mean `web`?"), "{log}");
    write(&[&other], "[web]\ntelemetry_path = \"/elsewhere\"\n");
    serving.process.signal(Signal::HUP).unwrap();
    up(1.0, 1.0).await;
    let log = serving.process.log();
    assert!(log.contains("needs a restart") && log.contains("web.telemetry-path"), "{log}");
}

/// As with systemd, the socket exists before the process, as its file descriptor 3.
#[tokio::test]
async fn systemd_socket_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let arguments =
        ["-c", script, PROGRAM, "serve", "--mongodb.uri=mongodb://127.0.0.1:1/", "--web.systemd-socket"];
    let arguments = arguments.map(str::to_owned);
    let folder = TempDir::new().unwrap();
    let handed = std::process::Stdio::from(std::os::fd::OwnedFd::from(listener));
    let process = Process::spawn_with(Path::new("sh"), &arguments, folder.path().join("log"), |command| {
        command.env_remove("MONGODB_URI").stdin(handed);
    });
    let mut process = process.await.unwrap();
    wait::until("an answer", async || {
        if let Err(ended) = process.check() {
            return Ok(Err(ended));
        }
        Ok(Ok(reqwest::get(format!("http://{address}/-/healthy")).await?.error_for_status()?))
    })
    .await
    .unwrap()
    .unwrap();

    let output = run(&["serve", "--mongodb.uri=mongodb://127.0.0.1:1/", "--web.systemd-socket"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(".socket"), "{}", stderr(&output));
}

/// Prometheus reads the protobuf format, compressed, as well as it reads the text.
#[tokio::test]
async fn prometheus_scrapes_protobuf() {
    let mongod = Mongod::standalone().await.unwrap();
    let serving = Serving::start(&[&format!("--mongodb.uri=mongodb://{}/", mongod.address())], &[]).await;
    serving.up().await.unwrap();
    let job = ScrapeJob { name: "txnscope".to_owned(), target: serving.address.clone() };
    let prometheus = Prometheus::start_with_protobuf(&[job]).await.unwrap();
    wait::until("the member in Prometheus", async || {
        let up = prometheus.value("mongodb_up{job=\"txnscope\"}").await?;
        ensure!(up == 1.0, "{up}");
        let buckets = prometheus.query("mongodb_transaction_duration_seconds_bucket").await?.len();
        ensure!(buckets > 5, "{buckets} buckets");
        Ok(())
    })
    .await
    .unwrap();
    let log = serving.process.log();
    assert!(log.contains("format=Protobuf"), "Prometheus did not request protobuf: {log}");

    let answer = reqwest::Client::new().get(format!("http://{}/metrics", serving.address));
    let answer = answer.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
}

/// The blocks of that language in the documentation.
fn blocks(language: &str) -> Vec<&'static str> {
    let text = include_str!("../../../../docs/sidecar.md");
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect()
}

#[tokio::test]
async fn examples_of_the_documentation_are_valid() {
    let folder = TempDir::new().unwrap();
    let checks = include_str!("../../../../examples/ledger/checks.toml");
    for (name, text) in
        [("orders.uri", "mongodb://db1/"), ("password", "hunter2"), ("web.yml", ""), ("checks.toml", checks)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let file = folder.path().join("txnscope.toml");
    let examples = blocks("toml");
    assert!(!examples.is_empty());
    for example in examples {
        std::fs::write(&file, example.replace("/etc/txnscope/", "")).unwrap();
        let output = run(&["serve", "--check-config", &format!("--config.file={}", file.display())]).await;
        assert!(output.status.success(), "{example}\n{}", stderr(&output));
    }
    let configs: Vec<_> =
        blocks("yaml").into_iter().filter(|block| block.contains("scrape_configs")).collect();
    assert!(!configs.is_empty());
    for config in configs {
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.replace("/etc/prometheus/", "")).unwrap();
        std::fs::write(folder.path().join("txnscope.password"), "hunter2").unwrap();
        promtool::check_config(&file).await.unwrap();
    }
}

/// The most common misconfigurations: a port without a listener, a name that DNS does not resolve, a server without TLS, a
/// port of a different service.
#[tokio::test(flavor = "multi_thread")]
async fn cause_of_an_unreachable_member_is_logged() {
    let plain = Mongod::standalone().await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for (uri, member, cause) in [
        ("mongodb://127.0.0.1:1/".to_owned(), "127.0.0.1:1".to_owned(), "refused"),
        ("mongodb://nowhere.invalid/".to_owned(), "nowhere.invalid:27017".to_owned(), "lookup"),
        (format!("mongodb://{}/?tls=true", plain.address()), plain.address(), "tls"),
        (format!("mongodb://{other_address}/"), other_address.to_string(), "wire protocol"),
    ] {
        let serving = Serving::start(&[&format!("--mongodb.uri={uri}"), "--poll.timeout=2s"], &[]).await;
        wait::until("the cause in the log", async || {
            let log = serving.process.log();
            let text: Vec<_> = log.lines().filter(|line| line.contains("polls fail")).collect();
            let is_logged = text.iter().any(|line| {
                line.contains(&member) && line.to_lowercase().contains(cause) && line.contains("level=warn")
            });
            ensure!(is_logged, "{uri}: no {cause} of {member} in {text:#?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}
