//! Addresses to listen on.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, anyhow};

/// `host:port`, `[::1]:port`, or `:port` for every address.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>> {
    if let Some(port) = text.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| anyhow!("the port must be a number from 0 to 65535"))?;
        // IPv6 and IPv4, if the machine has IPv6.
        let both = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let has_both =
            std::net::TcpListener::bind(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))).is_ok();
        return Ok(vec![if has_both { both } else { (std::net::Ipv4Addr::UNSPECIFIED, port).into() }]);
    }
    let mut found = text.to_socket_addrs().context("invalid address: use host:port")?;
    // A name may have several addresses; clients usually take the first as well.
    Ok(vec![found.next().context("the name has no address")?])
}
