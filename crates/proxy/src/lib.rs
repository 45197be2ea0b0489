//! A reverse proxy that counts the operations of any HTTP backend.
//!
//! The proxy stands in front of a backend in any language and wraps it, from outside, with the same
//! [`TransactionLayer`] that a backend in Rust has around its router: each request to a route that an
//! operations file names is counted and timed once, however it ends. Everything else passes uncounted, or as `unmatched`.
//!
//! ```no_run
//! use std::path::Path;
//! use txnscope_proxy::{Config, Metrics, Operations, Proxy};
//!
//! # async fn shutdown_signal() {}
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::new("http://127.0.0.1:3000".parse()?);
//! config.listen_addresses = vec!["0.0.0.0:8080".parse()?];
//! config.web_listen_addresses = vec!["127.0.0.1:9918".parse()?];
//! config.operations = Operations::read(Path::new("operations.toml"))?;
//! let proxy = Proxy::start(config, &Metrics::install()?)?;
//! shutdown_signal().await; // by SIGTERM, say
//! proxy.drain().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What an operation is here
//!
//! An operation lasts from the head of the request to the last byte of the answer that the caller's connection takes, which
//! is longer than inside a backend, where the layer is done with the answer's head. A caller who leaves before is counted as
//! `cancelled`, and the backend's connection is closed. A backend that cannot be reached, is too slow or breaks off is
//! counted as `failed`, with the reason [`upstream_unreachable`](UPSTREAM_UNREACHABLE),
//! [`upstream_timeout`](UPSTREAM_TIMEOUT) or [`upstream_reset`](UPSTREAM_RESET).
//!
//! No request is sent twice, unless not one byte of it was written the first time.

mod body;
mod config;
mod connection;
mod error;
mod event_loop;
mod exchange;
mod forwarded;
mod framing;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handover;
mod head_check;
mod headers;
mod in_flight;
mod learn;
mod listen;
mod operations;
mod serve;
mod timers;
mod tunnel;
mod upload;
mod upstream;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer as _;
use txnscope::TransactionLayer;
pub use txnscope::{InstallError, Metrics};

pub use crate::config::{AddressError, Config, ForwardedPolicy, Limits, UpstreamAddress, UpstreamSettings};
pub use crate::error::StartError;
use crate::event_loop::EventLoop;
use crate::exchange::{Classifier, Exchange};
pub use crate::learn::Learner;
pub use crate::operations::{FileError, Operations, UPSTREAM_RESET, UPSTREAM_TIMEOUT, UPSTREAM_UNREACHABLE};
use crate::serve::Server;
use crate::tunnel::Tunnels;
use crate::upstream::{Connector, Upstream};

/// A proxy that runs. Dropped without [`drain`](Self::drain), it ends at once, and cuts what is in flight.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    web_addresses: Vec<SocketAddr>,
    /// Connections and tunnels.
    tasks: TaskTracker,
    /// Those who accept.
    acceptors: TaskTracker,
    drain: CancellationToken,
    drain_timeout: Duration,
    end: CancellationToken,
    _end_on_drop: tokio_util::sync::DropGuard,
}

impl Proxy {
    /// Starts a proxy. It listens when this returns.
    ///
    /// # Errors
    ///
    /// If it cannot listen, or cannot connect to the backend as configured.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(config: Config, metrics: &Metrics) -> Result<Self, StartError> {
        Self::start_learning(config, metrics, None)
    }

    /// The same, with a learner who sees what passes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_learning(
        config: Config,
        metrics: &Metrics,
        learner: Option<Arc<Learner>>,
    ) -> Result<Self, StartError> {
        let connector = Arc::new(Connector::new(&config.upstream, &config.upstream_settings)?);
        let listeners = listen::listeners(&config)?;
        let web_listeners = listen::web_listeners(&config)?;
        let (tasks, acceptors) = (TaskTracker::new(), TaskTracker::new());
        let end = CancellationToken::new();
        // What ends everything ends the accepting, too.
        let drain = end.child_token();
        let end_on_drop = end.clone().drop_guard();
        let layer = TransactionLayer::with_classifier_and_registry(Classifier, metrics.registry())
            .declare(config.operations.declarations());
        let threads = config.event_loops();
        let mut settings = config.upstream_settings;
        settings.max_idle = settings.max_idle.div_ceil(threads);
        let event_loops = (0..threads).map(|_| {
            let exchange = Exchange::new(
                Upstream::new(Arc::clone(&connector), &settings),
                &config.upstream,
                settings.clone(),
                config.forwarded,
                config.limits.max_body,
                Tunnels { tasks: tasks.clone(), end: end.clone() },
                learner.clone(),
            );
            EventLoop::start(layer.layer(exchange.clone()), exchange, end.clone())
        });
        let server = Arc::new(Server::new(
            event_loops.collect::<Result<_, _>>()?,
            config.operations,
            config.limits,
            config.drain_timeout,
            tasks.clone(),
            (drain.clone(), end.clone()),
        ));
        let in_flight: Vec<_> = server.event_loops.iter().map(|one| Arc::clone(&one.in_flight)).collect();
        let addresses = listeners.iter().map(|(address, _)| *address).collect();
        for (_, listener) in listeners {
            acceptors.spawn(Arc::clone(&server).accept(listener, config.systemd_socket));
        }
        let web_addresses = web_listeners.iter().map(|(address, _)| *address).collect();
        for (_, listener) in web_listeners {
            let pages = web::router(metrics, in_flight.clone(), drain.clone());
            tokio::spawn(web(listener, pages, end.clone()));
        }
        let drain_timeout = config.drain_timeout;
        Ok(Self {
            addresses,
            web_addresses,
            tasks,
            acceptors,
            drain,
            drain_timeout,
            end,
            _end_on_drop: end_on_drop,
        })
    }

    /// Where requests come in.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where `/metrics` and the operations in flight (`/-/operations`) are.
    #[must_use]
    pub fn web_addresses(&self) -> &[SocketAddr] {
        &self.web_addresses
    }

    /// Ends in order: accepts nothing more, lets requests in flight end, and cuts what is left after
    /// [`Config::drain_timeout`]. `true` if nothing had to be cut.
    ///
    /// # Cancellation
    ///
    /// Dropped before its end, everything ends at once.
    pub async fn drain(self) -> bool {
        self.drain.cancel();
        self.acceptors.close();
        self.acceptors.wait().await;
        self.tasks.close();
        let is_empty = tokio::time::timeout(self.drain_timeout, self.tasks.wait()).await.is_ok();
        self.end.cancel();
        self.tasks.wait().await;
        is_empty
    }
}

/// Serves the proxy's own pages, also while it is drained.
async fn web(listener: TcpListener, pages: axum::Router, end: CancellationToken) {
    let served = axum::serve(listener, pages).into_future();
    if let Some(Err(error)) = end.run_until_cancelled(served).await {
        tracing::error!(%error, "the web listener has ended");
    }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
