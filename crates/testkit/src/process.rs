//! Child processes that end with their parent, even if the parent is killed.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::oneshot;

use crate::listens;

/// A running server. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with arguments in the current folder, with its output in a log file.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub async fn spawn(program: &Path, arguments: &[String], log: PathBuf) -> Result<Self> {
        Self::spawn_with(program, arguments, log, |_| {}).await
    }

    /// As [`spawn`](Self::spawn), with a customized environment or working directory.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub async fn spawn_with(
        program: &Path,
        arguments: &[String],
        log: PathBuf,
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let name = program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        // The kernel kills the child when its parent ends, even if the parent was killed and ran no destructor.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        // Ctrl-C at the terminal is for the parent, which shuts down its children in its own order.
        command.process_group(0);
        adjust(&mut command);
        let child = spawn_from_lasting_thread(command)
            .await
            .with_context(|| format!("cannot start {name} (through setpriv of util-linux)"))?;
        Ok(Self { name, child, log })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. After SIGSTOP, this returns only when the process has stopped: the system stops thread after
    /// thread, which takes a while on a busy machine.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        if signal == Signal::STOP {
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid), stopped).with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(())
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    ///
    /// If the system does not report it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask after {}", self.name))
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        crate::wait::until(&format!("the end of {name}"), async || {
            self.ended()?.with_context(|| format!("{name} runs"))
        })
        .await
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub async fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::KILL)?;
            self.wait().await?;
        }
        Ok(())
    }

    /// Fails with the end of the log if the process has ended.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            Some(status) => {
                bail!("{} ended with {status}; its log ends with:\n{}", self.name, self.log_tail())
            }
            None => Ok(()),
        }
    }

    /// Waits until the process listens on the port and `ask` succeeds. A response alone is no proof, because it may
    /// come from another process with that port. If the process ends, this fails at once with the end of its log.
    ///
    /// # Errors
    ///
    /// If the process ends, or does not respond in time.
    pub async fn answers(&mut self, port: u16, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let what = format!("{} to answer on port {port}", self.name);
        crate::wait::until(&what, async || {
            if let Err(ended) = self.check() {
                return Ok(Err(ended));
            }
            ensure!(listens::on(self.pid(), port)?, "process {} does not listen there", self.pid());
            ask().await?;
            Ok(Ok(()))
        })
        .await?
    }

    /// As [`answers`](Self::answers), for an HTTP page whose status tells whether the process is ready.
    ///
    /// # Errors
    ///
    /// If the process ends, or is not ready in time.
    pub async fn wait_ready(&mut self, port: u16, path: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{port}{path}");
        self.answers(port, async || Ok(reqwest::get(&url).await?.error_for_status().map(drop)?)).await
    }

    /// The output of the process so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may be stopped; SIGKILL ends it all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Order = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts all processes on one thread that never ends. For the kernel, the parent is the *thread* that started a
/// child, and a thread of a test or of a runtime ends long before the child should.
async fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, started) = oneshot::channel();
    orders.send((command, reply)).map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    Ok(started.await??)
}
