//! Listening sockets: configured addresses, or sockets from systemd.

use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::error::StartError;

/// # Errors
///
/// If an address cannot be listened on, or systemd's sockets are missing.
pub(crate) async fn listeners(config: &Config) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    if config.systemd_socket {
        return systemd_listeners();
    }
    let mut listeners = Vec::new();
    for address in config.listen_addresses.iter().copied() {
        let refused = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        listeners.push((listener.local_addr().map_err(refused)?, listener));
    }
    Ok(listeners)
}

fn systemd_listeners() -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        return Err(StartError::Socket(
            "systemd has passed no socket: --web.systemd-socket needs a unit of type .socket that starts this \
             service (it sets LISTEN_FDS and LISTEN_PID)"
                .into(),
        ));
    }
    let unusable = |error: std::io::Error| {
        StartError::Socket(format!("a socket from systemd is not a listening TCP socket: {error}"))
    };
    let mut listeners = Vec::new();
    for index in 0..sockets.len() {
        let Some(listener) = sockets.take_tcp_listener(index).map_err(unusable)? else { continue };
        listener.set_nonblocking(true).map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        listeners.push((address, TcpListener::from_std(listener).map_err(unusable)?));
    }
    Ok(listeners)
}
