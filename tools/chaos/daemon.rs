//! A process of one of our own programs, which can be killed and started again.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{Port, Process, Signal};

use crate::clock::{self, Clock};

/// A running program. Dropping it kills the process.
pub(crate) struct Daemon {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    port: Port,
    address: String,
    /// Its own wall clock, if it does not use the machine's.
    clock: Option<Clock>,
    process: Process,
}

impl Daemon {
    /// Starts the program on a port that it keeps, and waits until it is ready.
    pub(crate) async fn start(
        name: &'static str,
        program: PathBuf,
        mut arguments: Vec<String>,
        environment: Vec<(&'static str, String)>,
        folder: &TempDir,
    ) -> Result<Self> {
        ensure!(program.exists(), "{} is not built; run it as: cargo xtask chaos", program.display());
        let port = Port::reserve()?;
        let address = port.address();
        arguments.push(format!("--web.listen-address={address}"));
        let log = folder.path().join(format!("{name}.log"));
        let process = spawn(&program, &arguments, &environment, None, &log).await?;
        let mut daemon =
            Self { name, program, arguments, environment, log, port, address, clock: None, process };
        daemon.ready().await?;
        Ok(daemon)
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts the program again on the same port, after [`kill`](Self::kill).
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let Self { program, arguments, environment, clock, log, .. } = &*self;
        self.process = spawn(program, arguments, environment, clock.as_ref(), log).await?;
        self.ready().await?;
        if self.clock.is_some() {
            clock::tidy(self.pid());
        }
        Ok(())
    }

    /// Makes the program use a wall clock of its own, or the machine's again. If this is a change, the program is
    /// shut down and started again.
    pub(crate) async fn go_by_own_clock(&mut self, own: bool) -> Result<()> {
        if own == self.clock.is_some() {
            return Ok(());
        }
        self.clock = if own { Some(Clock::new(self.log.with_extension("clock"))?) } else { None };
        self.end().await?;
        self.restart().await
    }

    /// Sets the offset of its own wall clock in seconds.
    pub(crate) fn turn(&self, seconds: i64) -> Result<()> {
        self.clock
            .as_ref()
            .with_context(|| format!("{} goes by the machine's clock", self.name))?
            .turn(seconds)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Shuts the program down gracefully.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.end().await
    }

    async fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "{} ended with {status}; its log:\n{}", self.name, self.process.log());
        Ok(())
    }

    pub(crate) async fn ready(&mut self) -> Result<()> {
        self.process.wait_ready(self.port.number(), "/-/ready").await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

async fn spawn(
    program: &std::path::Path,
    arguments: &[String],
    environment: &[(&'static str, String)],
    clock: Option<&Clock>,
    log: &std::path::Path,
) -> Result<Process> {
    Process::spawn_with(program, arguments, log.to_owned(), |command| {
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.envs(clock.map(Clock::environment).unwrap_or_default());
    })
    .await
}

/// A program that was built next to this one.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where is this program?")?;
    let folder = own.parent().context("a folder of built programs")?;
    Ok(folder.join(name))
}
