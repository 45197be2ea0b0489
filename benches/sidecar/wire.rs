//! A proxy between the sidecar and mongod that counts messages by command.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use mongodb::bson::{RawBsonRef, RawDocument};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The length of a message header: length, request id, response id, and kind.
const HEADER: usize = 16;

/// The offset of the document behind the header: flags, and the kind of the section.
const BEFORE_DOCUMENT: usize = 5;

/// The counted traffic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: u64,
    /// The number and size of replies, by the command that they answer.
    pub(crate) replies: BTreeMap<String, (u64, u64)>,
}

/// The proxy.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    traffic: Arc<Mutex<Traffic>>,
}

impl Wire {
    pub(crate) async fn to(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a proxy")?;
        let wire = Self { address: listener.local_addr()?, traffic: Arc::default() };
        let own = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                own.note(|traffic| traffic.connections += 1);
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
                own.join(client, server);
            }
        });
        Ok(wire)
    }

    /// The traffic since the last call.
    pub(crate) fn take(&self) -> Traffic {
        let mut taken = Traffic::default();
        self.note(|traffic| std::mem::swap(traffic, &mut taken));
        taken
    }

    fn note(&self, how: impl FnOnce(&mut Traffic)) {
        how(&mut self.traffic.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn join(&self, client: TcpStream, server: TcpStream) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let asked = Arc::new(Mutex::new(HashMap::<i32, String>::new()));
        let known = Arc::clone(&asked);
        tokio::spawn(pump(from_client, to_server, move |message| {
            let name = command(message).unwrap_or_else(|| "handshake".to_owned());
            known.lock().unwrap_or_else(PoisonError::into_inner).insert(number(message, 4), name);
        }));
        let wire = self.clone();
        tokio::spawn(pump(from_server, to_client, move |message| {
            let answers = asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&number(message, 8));
            let Some(name) = answers else { return };
            wire.note(|traffic| {
                let (replies, bytes) = traffic.replies.entry(name).or_default();
                *replies += 1;
                *bytes += message.len() as u64;
            });
        }));
    }
}

/// Forwards messages, and reports each.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut show: impl FnMut(&[u8])) {
    let mut message = vec![0; HEADER];
    loop {
        message.resize(HEADER, 0);
        if from.read_exact(&mut message).await.is_err() {
            return;
        }
        let length = usize::try_from(number(&message, 0)).unwrap_or(0).max(HEADER);
        message.resize(length, 0);
        if from.read_exact(&mut message[HEADER..]).await.is_err() {
            return;
        }
        show(&message);
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

fn number(message: &[u8], at: usize) -> i32 {
    let bytes = message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i32::from_le_bytes)
}

/// The command's name, with the requested sections of `serverStatus`.
fn command(message: &[u8]) -> Option<String> {
    const OP_MSG: i32 = 2013;
    if number(message, 12) != OP_MSG {
        return None;
    }
    let document = message.get(HEADER + BEFORE_DOCUMENT..)?;
    let length = usize::try_from(number(document, 0)).ok()?;
    let document = RawDocument::from_bytes(document.get(..length)?).ok()?;
    let (name, _) = document.iter().next()?.ok()?;
    let has = |part| document.get(part).ok().flatten();
    Some(match name.as_str() {
        "serverStatus" if matches!(has("opLatencies"), Some(RawBsonRef::Document(_))) => {
            "`serverStatus`, transactions and waits".to_owned()
        }
        "serverStatus" if matches!(has("oplog"), Some(RawBsonRef::Int32(1))) => {
            "`serverStatus`, replication".to_owned()
        }
        "serverStatus" if has("opLatencies").is_some() => "`serverStatus`, storage engine".to_owned(),
        name => format!("`{name}`"),
    })
}
