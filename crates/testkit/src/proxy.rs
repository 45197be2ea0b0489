//! A faulty network: a TCP proxy that holds back, delays or cuts connections on command.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How the proxy treats the bytes that it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// Forwards everything at once.
    Forward,
    /// Forwards requests and holds back the replies.
    HoldReplies,
    /// Holds back everything in both directions.
    HoldAll,
    /// Forwards each chunk after a delay, in both directions.
    Delay(Duration),
}

/// The mode of each connection.
#[derive(Debug, Clone)]
struct Rules {
    default: ProxyMode,
    /// The mode of connections whose first message contains this application name.
    named: Option<(String, ProxyMode)>,
}

/// A TCP proxy in front of one server. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    cut: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1 that forwards to `target`.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a proxy")?;
        let address = listener.local_addr()?;
        let rules = Arc::new(watch::Sender::new(Rules { default: ProxyMode::Forward, named: None }));
        let cut = Arc::new(watch::Sender::new(0));
        let task = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&rules), Arc::clone(&cut)));
        Ok(Self { address, rules, cut, task })
    }

    /// The address on which the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the mode of all connections, present and future.
    pub fn set(&self, mode: ProxyMode) {
        self.rules.send_replace(Rules { default: mode, named: None });
    }

    /// Sets the mode of the connections of one application, which is a driver with that `appName`. All others are
    /// forwarded.
    pub fn set_for(&self, application: &str, mode: ProxyMode) {
        let named = Some((application.to_owned(), mode));
        self.rules.send_replace(Rules { default: ProxyMode::Forward, named });
    }

    /// Closes all present connections.
    pub fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    rules: Arc<watch::Sender<Rules>>,
    cut: Arc<watch::Sender<u64>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (target, rules, mut cut) = (target.clone(), Arc::clone(&rules), cut.subscribe());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let first_message = Arc::new(OnceLock::new());
            let valve = |replies| Valve {
                rules: rules.subscribe(),
                first_message: Arc::clone(&first_message),
                replies,
            };
            tokio::select! {
                () = copy(from_client, to_server, valve(false)) => {}
                () = copy(from_server, to_client, valve(true)) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One direction of one connection.
struct Valve {
    rules: watch::Receiver<Rules>,
    /// The first bytes of the client, which contain its application name.
    first_message: Arc<OnceLock<Vec<u8>>>,
    /// Whether this is the direction from the server to the client.
    replies: bool,
}

impl Valve {
    /// Waits until the next chunk may be forwarded. `false` if the proxy was dropped.
    async fn wait_open(&mut self) -> bool {
        loop {
            let mode = self.mode();
            let held = match mode {
                ProxyMode::HoldAll => true,
                ProxyMode::HoldReplies => self.replies,
                ProxyMode::Forward | ProxyMode::Delay(_) => false,
            };
            if held {
                if self.rules.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            if let ProxyMode::Delay(time) = mode {
                tokio::time::sleep(time).await;
            }
            return true;
        }
    }

    fn mode(&mut self) -> ProxyMode {
        let rules = self.rules.borrow_and_update();
        match (&rules.named, self.first_message.get()) {
            (Some((name, mode)), Some(message))
                if message.windows(name.len()).any(|part| part == name.as_bytes()) =>
            {
                *mode
            }
            _ => rules.default,
        }
    }
}

async fn copy(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mut valve: Valve) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length) = from.read(&mut buffer).await else { return };
        if !valve.replies {
            valve.first_message.get_or_init(|| buffer[..length].to_vec());
        }
        if !valve.wait_open().await {
            return;
        }
        // Bytes of a client that has already closed its side are still forwarded, as a network does.
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
