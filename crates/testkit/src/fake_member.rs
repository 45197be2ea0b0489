//! A scripted server, for states, errors and addresses that a real server cannot be made to show.
//!
//! It speaks MongoDB's wire protocol (`OP_MSG`, and `OP_QUERY` for the legacy hello) without storage and
//! authentication. Tests use a real server wherever that is possible.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// More than any command of a test.
const MAX_LENGTH: usize = 1 << 20;

/// The field of a reply whose bytes are sent instead of a message; they need not be a valid one.
const BYTES: &str = "$bytes";

/// Maps the name of a command and the command to its reply. `None` closes the connection.
type Script = dyn Fn(&str, &Document) -> Option<Document> + Send + Sync;

struct State {
    script: Arc<Script>,
    commands: BTreeMap<String, u64>,
}

/// A scripted member. Dropping it stops it.
pub struct FakeMember {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for FakeMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeMember").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FakeMember {
    /// Listens on a free port of 127.0.0.1. Until [`answer`](Self::answer) sets a script, the member responds to
    /// hello like a standalone and rejects all other commands.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start() -> Result<Self> {
        Self::listen("127.0.0.1:0").await
    }

    /// As [`start`](Self::start), on a free port of the IPv6 loopback address.
    ///
    /// # Errors
    ///
    /// If no port is free, or IPv6 is not available.
    pub async fn start_ipv6() -> Result<Self> {
        Self::listen("[::1]:0").await
    }

    /// As [`start`](Self::start), on a given address, such as that of a real server that was stopped.
    ///
    /// # Errors
    ///
    /// If the address is in use.
    pub async fn listen(address: &str) -> Result<Self> {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("a fake member on {address}"))?;
        let address = listener.local_addr()?;
        let script: Arc<Script> = Arc::new(|name, _| Some(standalone(name)));
        let state = Arc::new(Mutex::new(State { script, commands: BTreeMap::new() }));
        let cut = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, Arc::clone(&state), cut.clone()));
        Ok(Self { address, state, cut, task })
    }

    /// Host and port, with brackets around an IPv6 address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets the script for all connections, present and future.
    pub fn answer(&self, script: impl Fn(&str, &Document) -> Option<Document> + Send + Sync + 'static) {
        locked(&self.state).script = Arc::new(script);
    }

    /// How often the command was received.
    #[must_use]
    pub fn count(&self, command: &str) -> u64 {
        locked(&self.state).commands.get(command).copied().unwrap_or_default()
    }

    /// All commands that were received, and how often.
    #[must_use]
    pub fn commands(&self) -> BTreeMap<String, u64> {
        locked(&self.state).commands.clone()
    }

    /// Closes all present connections.
    pub fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }
}

impl Drop for FakeMember {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reply that consists of these bytes only and need not be a valid message.
#[must_use]
pub fn raw_reply(bytes: Vec<u8>) -> Document {
    doc! {BYTES: Binary {subtype: BinarySubtype::Generic, bytes}}
}

/// A reply to hello with the common fields, and those that describe the member.
#[must_use]
pub fn hello_reply(who: Document) -> Document {
    let mut reply = doc! {
        "helloOk": true, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0,
        "maxWireVersion": 17, "readOnly": false, "ok": 1.0,
    };
    reply.extend(who);
    reply
}

/// An error reply as a MongoDB server formats it.
#[must_use]
pub fn error_reply(code: i32, code_name: &str, message: &str) -> Document {
    doc! {"ok": 0.0, "errmsg": message, "code": code, "codeName": code_name}
}

/// Whether the command is hello or one of its legacy names.
#[must_use]
pub fn is_hello(command: &str) -> bool {
    ["hello", "isMaster", "ismaster"].contains(&command)
}

fn standalone(command: &str) -> Document {
    if is_hello(command) {
        hello_reply(doc! {"isWritablePrimary": true, "ismaster": true})
    } else {
        error_reply(59, "CommandNotFound", &format!("no such command: '{command}'"))
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, cut: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, mut cut) = (Arc::clone(&state), cut.subscribe());
        connections.spawn(async move {
            tokio::select! {
                _ = converse(stream, state) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await?;
        let length = usize::try_from(integer(&header, 0)?)?;
        ensure!(
            (HEADER..=MAX_LENGTH).contains(&length),
            "a message of {length} bytes is too short or too long"
        );
        let mut body = vec![0; length - HEADER];
        stream.read_exact(&mut body).await?;
        let (request, code) = (integer(&header, 4)?, integer(&header, 12)?);
        let command = command(code, &body)?;
        let name = command.keys().next().cloned().unwrap_or_default();
        let script = {
            let mut state = locked(&state);
            *state.commands.entry(name.clone()).or_default() += 1;
            Arc::clone(&state.script)
        };
        let Some(reply) = script(&name, &command) else { return Ok(()) };
        match reply.get(BYTES) {
            Some(Bson::Binary(raw_reply)) => stream.write_all(&raw_reply.bytes).await?,
            _ => stream.write_all(&message(code, request, &reply)?).await?,
        }
    }
}

/// Parses the command of a message. It follows four bytes of flags and the kind of the section or, in a legacy query,
/// its flags, the collection name and two numbers.
fn command(code: i32, body: &[u8]) -> Result<Document> {
    let at = match code {
        OP_MSG => 5,
        OP_QUERY => {
            4 + body.iter().skip(4).position(|byte| *byte == 0).context("a name without terminator")? + 9
        }
        other => anyhow::bail!("a message of kind {other}"),
    };
    Ok(Document::from_reader(body.get(at..).context("a truncated message")?)?)
}

fn message(code: i32, request: i32, reply: &Document) -> Result<Vec<u8>> {
    let (code, mut body) = if code == OP_QUERY {
        // Flags, cursor, position, and the number of documents.
        let mut body = vec![0; 20];
        body[16] = 1;
        (OP_REPLY, body)
    } else {
        (OP_MSG, vec![0; 5])
    };
    reply.to_writer(&mut body)?;
    let length = i32::try_from(HEADER + body.len())?;
    let header = [length, 1, request, code].map(i32::to_le_bytes).concat();
    Ok([header, body].concat())
}

fn integer(bytes: &[u8], at: usize) -> Result<i32> {
    let four = bytes.get(at..at + 4).context("a truncated message")?;
    Ok(i32::from_le_bytes(four.try_into()?))
}
