//! A network that fails on command: a TCP proxy that holds or cuts what passes through it.

use std::net::SocketAddr;
use std::sync::Arc;

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
}

/// A proxy in front of one server. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    flow: Arc<watch::Sender<Flow>>,
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
        let (flow, cut) = (Arc::new(watch::Sender::new(Flow::Open)), Arc::new(watch::Sender::new(0)));
        let task = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&flow), Arc::clone(&cut)));
        Ok(Self { address, flow, cut, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does so, on the connections that there are and on new ones.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
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
    flow: Arc<watch::Sender<Flow>>,
    cut: Arc<watch::Sender<u64>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (target, flow, mut cut) = (target.clone(), Arc::clone(&flow), cut.subscribe());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pump(from_client, to_server, flow.subscribe(), |flow| flow == Flow::Held) => {}
                () = pump(from_server, to_client, flow.subscribe(), |flow| flow != Flow::Open) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut flow: watch::Receiver<Flow>,
    is_held: impl Fn(Flow) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length) = from.read(&mut buffer).await else { return };
        if flow.wait_for(|flow| !is_held(*flow)).await.is_err() {
            return;
        }
        // What a client that has left wrote before is passed on all the same, as a network does.
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
