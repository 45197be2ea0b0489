//! A network that fails on command: a TCP proxy that holds, slows or cuts what passes through it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the proxy does with what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Passes it on.
    Open,
    /// Passes requests on and holds the replies.
    RepliesHeld,
    /// Holds everything, both ways.
    Held,
    /// Passes each piece on after that time, both ways.
    Slow(Duration),
}

/// What happens to whom.
#[derive(Debug, Clone)]
struct Rules {
    everybody: Flow,
    /// Whoever gives that name in the first thing that he says.
    named: Option<(String, Flow)>,
}

/// A proxy in front of one server. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    cut: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1, and leads to that address.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a proxy")?;
        let address = listener.local_addr()?;
        let rules = Arc::new(watch::Sender::new(Rules { everybody: Flow::Open, named: None }));
        let cut = Arc::new(watch::Sender::new(0));
        let task = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&rules), Arc::clone(&cut)));
        Ok(Self { address, rules, cut, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does so with everybody, on the connections that there are and on new ones.
    pub fn set(&self, flow: Flow) {
        self.rules.send_replace(Rules { everybody: flow, named: None });
    }

    /// From now on it does so with that application alone: with a driver whose `appName` this is. All others pass.
    pub fn set_for(&self, application: &str, flow: Flow) {
        let named = Some((application.to_owned(), flow));
        self.rules.send_replace(Rules { everybody: Flow::Open, named });
    }

    /// Closes every connection that there is.
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
            let greeting = Arc::new(OnceLock::new());
            let gate = |replies| Gate { rules: rules.subscribe(), greeting: Arc::clone(&greeting), replies };
            tokio::select! {
                () = pump(from_client, to_server, gate(false)) => {}
                () = pump(from_server, to_client, gate(true)) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One way of one connection.
struct Gate {
    rules: watch::Receiver<Rules>,
    /// The first thing that the client has said.
    greeting: Arc<OnceLock<Vec<u8>>>,
    replies: bool,
}

impl Gate {
    /// Waits until the next piece may pass. `false` if the proxy is gone.
    async fn passes(&mut self) -> bool {
        loop {
            let flow = self.flow();
            let held = match flow {
                Flow::Held => true,
                Flow::RepliesHeld => self.replies,
                Flow::Open | Flow::Slow(_) => false,
            };
            if held {
                if self.rules.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            if let Flow::Slow(time) = flow {
                tokio::time::sleep(time).await;
            }
            return true;
        }
    }

    fn flow(&mut self) -> Flow {
        let rules = self.rules.borrow_and_update();
        match (&rules.named, self.greeting.get()) {
            (Some((name, flow)), Some(said))
                if said.windows(name.len()).any(|part| part == name.as_bytes()) =>
            {
                *flow
            }
            _ => rules.everybody,
        }
    }
}

async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mut gate: Gate) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length) = from.read(&mut buffer).await else { return };
        if !gate.replies {
            gate.greeting.get_or_init(|| buffer[..length].to_vec());
        }
        if !gate.passes().await {
            return;
        }
        // What a client that has left wrote before is passed on all the same, as a network does.
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
