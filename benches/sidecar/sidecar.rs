//! A process of the sidecar's binary.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use testkit::{Process, wait};

pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Sidecar {
    /// Starts a sidecar, and waits until it has polled this many members.
    pub(crate) async fn start(uri: &str, members: usize, interval: Duration, more: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut arguments = vec![
            "serve".to_owned(),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            format!("--poll.interval={}ms", interval.as_millis()),
            // In proportion as by default, so that a poll costs what it costs by default.
            format!("--collector.replication.interval={}ms", interval.as_millis()),
            format!("--collector.storage-engine.interval={}ms", 3 * interval.as_millis()),
            format!("--collector.parameters.interval={}ms", 12 * interval.as_millis()),
            format!("--mongodb.uri={uri}"),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let log: PathBuf = folder.path().join("log");
        let mut process = Process::spawn(&program()?, &arguments, log).await?;
        let address = wait::until("the sidecar's address", async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            let log = process.log();
            let line = log.lines().find(|line| line.contains("listening")).context("not yet")?;
            let (_, rest) = line.split_once("address=").context("no address")?;
            Ok(Ok(rest.split(' ').next().unwrap_or_default().to_owned()))
        })
        .await??;
        let sidecar = Self { process, address, _folder: folder };
        wait::until("the first polls", async || {
            let ready = reqwest::get(format!("http://{}/-/ready", sidecar.address)).await?;
            let text = ready.error_for_status()?.text().await?;
            if text.matches(": up").count() == members { Ok(()) } else { bail!("{text}") }
        })
        .await?;
        Ok(sidecar)
    }

    /// The metrics page.
    pub(crate) async fn page(&self) -> Result<String> {
        let answer = reqwest::get(format!("http://{}/metrics", self.address)).await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}

/// The sidecar's binary, which `cargo xtask bench` builds next to this program.
pub(crate) fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.parent().context("a program has a folder")?.join("txnscope");
    ensure!(program.exists(), "{} is not there: run `cargo xtask bench sidecar`", program.display());
    Ok(program)
}
