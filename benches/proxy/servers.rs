//! The servers: the backend alone, and both proxies in front of it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::measure;
use tempfile::TempDir;
use testkit::{Port, Process, Scrape, Signal};
use tokio::time::Instant;
use txnscope_catalog as catalog;

use crate::idle::Memory;

pub(crate) const PATH: &str = "/api/retainers/65f1c0ffee65f1c0ffee1234/consume";
const OPERATION: &str = "POST /api/retainers/{id}/consume";

/// Connections are kept however long the load is.
const FOREVER: &str = "keepalive_requests 1000000000; keepalive_timeout 75s;";

const ANSWER: &str =
    r#"{"retainer":{"_id":"65f1c0ffee65f1c0ffee1234","clientId":"c","currentBalance":1987.5}}"#;

/// A running nginx.
struct Nginx {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Nginx {
    /// `http` is what stands in its section of that name; `PORT` in it is the port.
    async fn start(workers: u32, http: &str) -> Result<Self> {
        let program = std::env::var_os("TXNSCOPE_NGINX").map(PathBuf::from);
        let program = program.context("TXNSCOPE_NGINX names no nginx: run `cargo xtask bench proxy`")?;
        let (folder, port) = (TempDir::new()?, Port::reserve()?);
        let mut config = format!("worker_processes {workers}; daemon off; pid pid; error_log stderr crit;\n");
        if std::env::var_os("USER").is_none_or(|user| user == "root") {
            // Its workers would be another user, who cannot write here.
            config.push_str("user root;\n");
        }
        config.push_str("events { worker_connections 4096; }\nhttp { access_log off; server_tokens off;\n");
        for folder in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _ = writeln!(config, "{folder}_temp_path {folder};");
        }
        config.push_str(&http.replace("PORT", &port.to_string()));
        config.push_str("\n}\n");
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let own = folder.path().display().to_string();
        let arguments = ["-p", &own, "-e", "stderr", "-c", "nginx.conf"].map(str::to_owned);
        let mut process = Process::spawn(&program, &arguments, folder.path().join("log")).await?;
        let url = format!("http://{}{PATH}", port.address());
        let ready =
            async || Ok(reqwest::Client::new().post(&url).send().await?.error_for_status().map(drop)?);
        process.answers(port.number(), ready).await?;
        Ok(Self { process, port, _folder: folder })
    }
}

impl Drop for Nginx {
    /// Ends it in order: if it was killed, its workers would go on.
    fn drop(&mut self) {
        let begin = Instant::now();
        if self.process.signal(Signal::TERM).is_ok() {
            while matches!(self.process.ended(), Ok(None)) && begin.elapsed() < Duration::from_secs(10) {
                std::thread::yield_now();
            }
        }
    }
}

/// One constant answer.
pub(crate) struct Backend(Nginx);

impl Backend {
    pub(crate) async fn start() -> Result<Self> {
        let http = format!(
            "{FOREVER} server {{ listen 127.0.0.1:PORT backlog=4096; default_type application/json; return 200 '{ANSWER}'; }}"
        );
        Nginx::start(1, &http).await.map(Self)
    }

    fn address(&self) -> String {
        self.0.port.address()
    }
}

enum Kind {
    Direct,
    Ours { process: Process, web: Port, sent: AtomicU64, _port: Port, _folder: TempDir },
    Nginx(Nginx),
}

/// What is measured.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    kind: Kind,
}

impl Server {
    pub(crate) fn direct(backend: &Backend) -> Self {
        Self { name: "the backend alone", address: backend.address(), kind: Kind::Direct }
    }

    pub(crate) async fn nginx(backend: &Backend, workers: u32) -> Result<Self> {
        let http = format!(
            "{FOREVER}
             upstream backend {{ server {}; keepalive 512; {FOREVER} }}
             server {{
                 listen 127.0.0.1:PORT backlog=4096;
                 location / {{
                     proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection '';
                     proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
                     proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
                 }}
             }}",
            backend.address()
        );
        let nginx = Nginx::start(workers, &http).await?;
        Ok(Self { name: "nginx", address: nginx.port.address(), kind: Kind::Nginx(nginx) })
    }

    pub(crate) async fn ours(backend: &Backend, workers: u32) -> Result<Self> {
        let own = std::env::current_exe()?;
        let program = own.parent().context("a program has a folder")?.join("txnscope");
        ensure!(program.exists(), "{} is not there: run `cargo xtask bench proxy`", program.display());
        let (folder, port, web) = (TempDir::new()?, Port::reserve()?, Port::reserve()?);
        let file = folder.path().join("operations.toml");
        std::fs::write(&file, format!("[[operation]]\nname = \"{OPERATION}\"\n"))?;
        let arguments = [
            "proxy".to_owned(),
            format!("--upstream=http://{}", backend.address()),
            format!("--operations.file={}", file.display()),
            format!("--proxy.listen-address={}", port.address()),
            format!("--web.listen-address={}", web.address()),
        ];
        let log = folder.path().join("log");
        let mut process = Process::spawn_with(&program, &arguments, log, |command| {
            command.arg(format!("--proxy.threads={workers}"));
        })
        .await?;
        process.wait_ready(web.number(), "/-/ready").await?;
        let address = port.address();
        let kind = Kind::Ours { process, web, sent: AtomicU64::new(0), _port: port, _folder: folder };
        Ok(Self { name: "**txnscope proxy**", address, kind })
    }

    /// All processes of it.
    fn processes(&self) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Direct => Ok(Vec::new()),
            Kind::Ours { process, .. } => Ok(vec![process.pid()]),
            Kind::Nginx(nginx) => {
                let pid = nginx.process.pid();
                let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
                let workers = children.split_whitespace().map(str::parse);
                std::iter::once(Ok(pid)).chain(workers).collect::<Result<_, _>>().context("ids are numbers")
            }
        }
    }

    /// CPU milliseconds so far.
    pub(crate) fn on_processor(&self) -> Result<f64> {
        self.processes()?.into_iter().map(measure::on_processor).sum()
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let processes = self.processes()?;
        let sum = |of: fn(u32) -> Result<f64>| processes.iter().map(|pid| of(*pid)).sum::<Result<f64>>();
        Ok(Memory { resident: sum(measure::resident)?, proportional: sum(measure::proportional)? })
    }

    /// Remembers that requests were sent.
    pub(crate) fn sent(&self, requests: u64) {
        if let Kind::Ours { sent, .. } = &self.kind {
            sent.fetch_add(requests, Ordering::Relaxed);
        }
    }

    /// Verifies that the proxy has counted what was sent: what counts nothing would be cheaper.
    pub(crate) async fn counted_all(&self) -> Result<()> {
        let Kind::Ours { web, sent, .. } = &self.kind else { return Ok(()) };
        let page = Scrape::get(&format!("http://{}/metrics", web.address())).await?;
        let counted = page.sum(catalog::TRANSACTION_ATTEMPTS.name, &[("operation", OPERATION)]);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let sent = sent.load(Ordering::Relaxed) as f64;
        // wrk does not report the answers that come after its last one.
        ensure!(counted >= sent, "{counted} of {sent} requests were counted");
        Ok(())
    }
}
