//! The connection pools of the driver, from its events.
//!
//! A transaction holds a connection for each of its statements only, but a request that finds the pool empty waits for one
//! before the server sees anything of it: on the server, nothing waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::options::{ClientOptions, ServerAddress};
use serde::Serialize;

use super::listener::chain_handlers;
use crate::Registry;

/// The size of a pool whose options do not set one.
const DEFAULT_MAX_SIZE: u32 = 10;

/// Shows the use of a client's connection pools in the backend's table of open transactions, `GET /-/transactions`.
///
/// The driver sends an event for each connection that is taken from a pool or returned to it, and none for each command: this
/// listener costs far less than a [`TransactionListener`](super::TransactionListener).
///
/// ```no_run
/// use mongodb::{Client, options::ClientOptions};
/// use txnscope::ConnectionPoolListener;
///
/// # async fn connect() -> mongodb::error::Result<()> {
/// let mut options = ClientOptions::parse("mongodb://db1,db2,db3/?replicaSet=rs0").await?;
/// ConnectionPoolListener::new().install(&mut options);
/// let client = Client::with_options(options)?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConnectionPoolListener {
    registry: Registry,
}

impl ConnectionPoolListener {
    /// Creates a listener for the process's table of open transactions.
    #[must_use]
    pub fn new() -> Self {
        Self::with_registry(Registry::global())
    }

    /// Creates a listener for the table of `registry`.
    #[must_use]
    pub fn with_registry(registry: Registry) -> Self {
        Self { registry }
    }

    /// Installs the listener in the options of a client.
    ///
    /// A handler of connection pool events that is already set stays, and receives each event after the listener.
    pub fn install(&self, options: &mut ClientOptions) {
        // The handlers belong to one client, and so do its pools: they end with it.
        let pools = self.registry.open_transactions().pools().join();
        let on_event = move |event: &CmapEvent| pools.on_event(event);
        options.cmap_event_handler = Some(match options.cmap_event_handler.take() {
            None => EventHandler::callback(move |event| on_event(&event)),
            Some(theirs) => chain_handlers("ConnectionPoolListener", theirs, on_event),
        });
    }
}

impl Default for ConnectionPoolListener {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConnectionPoolListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPoolListener").finish_non_exhaustive()
    }
}

/// The use of the connections to one server, by all clients of the process that have a [`ConnectionPoolListener`].
///
/// How many requests wait for a connection is not known: the driver sends no event if a future that waits is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectionPool {
    /// Host and port of the server.
    pub server: String,
    /// Established connections, and those that are being established.
    pub connections: usize,
    /// Connections that a command uses.
    pub in_use: usize,
    /// The most connections; `None` without a limit.
    pub max_size: Option<u32>,
}

/// The pools of all clients.
#[derive(Debug, Default)]
pub(super) struct ConnectionPools(Mutex<Vec<Weak<ClientPools>>>);

impl ConnectionPools {
    fn join(&self) -> Arc<ClientPools> {
        let pools = Arc::default();
        let mut clients = self.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&pools));
        pools
    }

    /// Returns the use of each server's connections, sorted by server.
    pub(super) fn list(&self) -> Vec<ConnectionPool> {
        let clients: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let mut sums: BTreeMap<String, ConnectionPool> = BTreeMap::new();
        for client in clients {
            for (server, pool) in client.lock().iter() {
                let server = server.to_string();
                let sum = sums.entry(server.clone()).or_insert_with(|| ConnectionPool {
                    server,
                    connections: 0,
                    in_use: 0,
                    max_size: Some(0),
                });
                sum.connections += pool.all.len();
                sum.in_use += pool.in_use.len();
                sum.max_size = sum.max_size.zip(pool.max_size).map(|(sum, size)| sum.saturating_add(size));
            }
        }
        sums.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<ClientPools>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pools of one client, by server.
#[derive(Debug, Default)]
struct ClientPools(Mutex<HashMap<ServerAddress, Pool>>);

/// The connections of one pool, by id: an event that is repeated or missing does not move a count for good.
#[derive(Debug, Default)]
struct Pool {
    max_size: Option<u32>,
    all: HashSet<u32>,
    in_use: HashSet<u32>,
}

impl ClientPools {
    fn on_event(&self, event: &CmapEvent) {
        match event {
            CmapEvent::PoolCreated(event) => {
                let size = event.options.as_ref().and_then(|options| options.max_pool_size);
                let max_size = Some(size.unwrap_or(DEFAULT_MAX_SIZE)).filter(|size| *size > 0);
                self.lock().insert(event.address.clone(), Pool { max_size, ..Pool::default() });
            }
            CmapEvent::PoolClosed(event) => {
                self.lock().remove(&event.address);
            }
            CmapEvent::ConnectionCreated(event) => self.change(&event.address, |pool| {
                pool.all.insert(event.connection_id);
            }),
            CmapEvent::ConnectionCheckedOut(event) => self.change(&event.address, |pool| {
                pool.in_use.insert(event.connection_id);
            }),
            CmapEvent::ConnectionCheckedIn(event) => self.change(&event.address, |pool| {
                pool.in_use.remove(&event.connection_id);
            }),
            CmapEvent::ConnectionClosed(event) => self.change(&event.address, |pool| {
                pool.all.remove(&event.connection_id);
                pool.in_use.remove(&event.connection_id);
            }),
            _ => {}
        }
    }

    fn change(&self, server: &ServerAddress, change: impl FnOnce(&mut Pool)) {
        if let Some(pool) = self.lock().get_mut(server) {
            change(pool);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerAddress, Pool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
