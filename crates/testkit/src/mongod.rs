//! One `mongod` process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::binaries::{Binary, older_mongod};
use crate::port::Port;
use crate::process::Process;

/// The options of a `mongod`.
#[derive(Debug, Clone, Default)]
pub struct MongodOptions {
    pub(crate) set: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) arguments: Vec<String>,
    /// An older version than the default of the tests.
    pub(crate) version: Option<String>,
    /// Whether the server also listens on the IPv6 loopback address.
    pub(crate) ipv6: bool,
}

/// A running `mongod`, with failpoints enabled.
#[derive(Debug)]
pub struct Mongod {
    process: Process,
    /// The port, which stays reserved while the server is down.
    port: Port,
    options: MongodOptions,
    folder: TempDir,
}

/// Whether mongod reports that its port was in use. The case of the message depends on whether bind or listen failed.
fn taken(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}

impl Mongod {
    /// Starts a standalone server, which has no transactions.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn standalone() -> Result<Self> {
        Self::start(MongodOptions::default()).await
    }

    /// Starts a server with `--replSet rs0` that is not initiated, of an older version if one is given.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn uninitiated(version: Option<&str>) -> Result<Self> {
        let version = version.map(str::to_owned);
        Self::start(MongodOptions { set: Some("rs0".to_owned()), version, ..MongodOptions::default() }).await
    }

    pub(crate) async fn start(options: MongodOptions) -> Result<Self> {
        let mut folder =
            tempfile::Builder::new().prefix("txnscope-mongod-").tempdir().context("no temporary folder")?;
        std::fs::create_dir(folder.path().join("data"))?;
        if let Some(key) = &options.key {
            write_key(&folder.path().join("key"), key)?;
        }
        // A process that reserves no ports may have taken this one meanwhile: another port is tried then. Any other
        // failure is final.
        loop {
            let port = Port::reserve()?;
            let process = spawn(&options, &folder, port.number()).await?;
            let mut mongod = Self { process, port, options: options.clone(), folder };
            match mongod.answers().await {
                Ok(()) => return Ok(mongod),
                Err(_) if taken(&mongod.process.log()) => folder = mongod.folder,
                Err(error) => return Err(error),
            }
        }
    }

    async fn answers(&mut self) -> Result<()> {
        let client = client(self.port.number(), "testkit").await?;
        let hello = async || Ok(client.database("admin").run_command(doc! {"hello": 1}).await.map(drop)?);
        self.process.answers(self.port.number(), hello).await
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// A URI for a direct connection to this member.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address())
    }

    /// The folder of its data and its log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Pauses the process (SIGSTOP): connections stay open, and nothing is answered.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Resumes the process (SIGCONT).
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Kills the process (SIGKILL). Its data is kept.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts the server again on its port and data, after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.process = spawn(&self.options, &self.folder, self.port.number()).await?;
        self.answers().await
    }

    /// A client with a direct connection to this member, without credentials.
    ///
    /// # Errors
    ///
    /// If the driver rejects the options.
    pub async fn client(&self) -> Result<Client> {
        client(self.port.number(), "testkit").await
    }

    /// Runs a command on `admin`.
    ///
    /// # Errors
    ///
    /// If the server rejects the command.
    pub async fn admin(&self, command: Document) -> Result<Document> {
        let name = command.keys().next().cloned().unwrap_or_default();
        let reply = self.client().await?.database("admin").run_command(command).await;
        reply.with_context(|| format!("{name} on {}", self.address()))
    }
}

async fn spawn(options: &MongodOptions, folder: &TempDir, port: u16) -> Result<Process> {
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut arguments: Vec<String> = vec!["--dbpath".into(), at("data"), "--port".into(), port.to_string()];
    let fixed = "--nounixsocket --oplogSize 64 --wiredTigerCacheSizeGB 0.25 \
                 --setParameter enableTestCommands=1";
    arguments.extend(fixed.split_whitespace().map(str::to_owned));
    const DIAGNOSTICS: &str = "diagnosticDataCollectionEnabled";
    if !options.arguments.iter().any(|argument| argument.starts_with(DIAGNOSTICS)) {
        arguments.extend(["--setParameter".to_owned(), format!("{DIAGNOSTICS}=false")]);
    }
    let addresses: &[&str] =
        if options.ipv6 { &["--ipv6", "--bind_ip", "127.0.0.1,::1"] } else { &["--bind_ip", "127.0.0.1"] };
    arguments.extend(addresses.iter().map(|argument| (*argument).to_owned()));
    if let Some(set) = &options.set {
        arguments.extend(["--replSet".into(), set.clone()]);
    }
    if options.key.is_some() {
        arguments.extend(["--keyFile".into(), at("key")]);
    }
    arguments.extend(options.arguments.iter().cloned());
    let program = match &options.version {
        Some(version) => older_mongod(version)?,
        None => Binary::Mongod.path()?,
    };
    Process::spawn(&program, &arguments, folder.path().join("log")).await
}

/// A client with short timeouts, so that tests fail fast.
async fn client(port: u16, app_name: &str) -> Result<Client> {
    let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let mut options = ClientOptions::parse(uri).await?;
    options.app_name = Some(app_name.to_owned());
    options.server_selection_timeout = Some(Duration::from_secs(2));
    Ok(Client::with_options(options)?)
}

fn write_key(path: &std::path::Path, key: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(key.as_bytes())?)
}
