//! Where requests come in: configured addresses, or sockets that systemd hands over.

use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;
use crate::error::StartError;

/// How many callers may wait to be accepted; the system's own limit may be lower.
pub(crate) const BACKLOG: u32 = 4096;

/// # Errors
///
/// If an address cannot be listened on, or systemd's sockets are not there.
pub(crate) fn listeners(config: &Config) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    if config.systemd_socket {
        return handed_over();
    }
    if config.listen_addresses.is_empty() {
        return Err(StartError::NoAddress);
    }
    if config.reuse_port && !migrates() {
        tracing::warn!(
            "net.ipv4.tcp_migrate_req is 0: when a proxy with --proxy.reuse-port ends, the system resets connections that are \
             just being made to it. Set it to 1, or take the socket from systemd (--proxy.systemd-socket)"
        );
    }
    config.listen_addresses.iter().map(|address| bind(*address, config.reuse_port)).collect()
}

/// Whether the system gives connections that were not accepted yet to another socket of the same port, when theirs is closed.
fn migrates() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req").is_ok_and(|value| value.trim() == "1")
}

/// Where the proxy's own pages are. Their port is shared, too, so that a new process has them from its start on.
///
/// # Errors
///
/// If an address cannot be listened on.
pub(crate) fn web_listeners(config: &Config) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    config.web_listen_addresses.iter().map(|address| bind(*address, config.reuse_port)).collect()
}

fn bind(address: SocketAddr, reuse_port: bool) -> Result<(SocketAddr, TcpListener), StartError> {
    let refused = |source| StartError::Listen { address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(refused)?;
    socket.set_reuseaddr(true).map_err(refused)?;
    socket.set_reuseport(reuse_port).map_err(refused)?;
    socket.bind(address).map_err(refused)?;
    let listener = socket.listen(BACKLOG).map_err(refused)?;
    Ok((listener.local_addr().map_err(refused)?, listener))
}

fn handed_over() -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return Err(StartError::Socket(
            "systemd has handed over no socket: --proxy.systemd-socket wants a unit of type .socket that starts this \
             service (it sets LISTEN_FDS and LISTEN_PID)"
                .into(),
        ));
    }
    let invalid = |error: std::io::Error| {
        StartError::Socket(format!("a socket from systemd is no TCP socket that listens: {error}"))
    };
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        let Some(listener) = handed.take_tcp_listener(index).map_err(invalid)? else { continue };
        listener.set_nonblocking(true).map_err(invalid)?;
        let address = listener.local_addr().map_err(invalid)?;
        listeners.push((address, TcpListener::from_std(listener).map_err(invalid)?));
    }
    Ok(listeners)
}
