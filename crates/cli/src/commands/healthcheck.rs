//! `txnscope healthcheck`: whether the sidecar on this machine responds, for a container engine or an orchestrator.
//!
//! A container of the sidecar has no shell and no other HTTP client.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use txnscope_sidecar::Config;

use crate::args::exit_status::ExitStatus;
use crate::config::file::ConfigFile;
use crate::config::listen::{ListenAddress, listen_addresses};
use crate::config::sections::ConfigPath;
use crate::output::{print_result, report_error};

const TIMEOUT: Duration = Duration::from_secs(3);

/// The length of `HTTP/1.1 200`.
const STATUS: usize = 12;

/// The first byte of a TLS alert, with which a TLS server rejects a request in plain text.
const TLS_ALERT: u8 = 0x15;

#[derive(Debug, Args)]
#[command(mut_arg("config.file", |argument| argument.help(
    "The configuration file of the sidecar, which may have its listen address"
)))]
pub(crate) struct HealthcheckArgs {
    #[command(flatten)]
    config: ConfigPath,

    #[command(flatten)]
    listen_address: ListenAddress,
}

pub(crate) fn run(args: &HealthcheckArgs) -> ExitStatus {
    let address = match address(args) {
        Ok(address) => address,
        Err(error) => return report_error(&error, ExitStatus::Error),
    };
    match request(&as_reached(address)) {
        Ok(()) => print_result("healthy\n"),
        Err(error) => {
            let error = error.context(format!("the sidecar at {address} is not healthy"));
            report_error(&error, ExitStatus::Failure)
        }
    }
}

/// The first address of the sidecar.
fn address(args: &HealthcheckArgs) -> Result<SocketAddr> {
    let file = ConfigFile::load(args.config.file.as_deref())?;
    let mut addresses = listen_addresses(args.listen_address.0.as_deref(), &file)?;
    if addresses.is_empty() {
        addresses = Config::default().listen_addresses;
    }
    addresses.first().copied().context("the sidecar has no address to listen on")
}

/// How this machine reaches a server at that address.
fn as_reached(address: SocketAddr) -> Vec<SocketAddr> {
    let loopback: &[IpAddr] = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // Such a socket accepts IPv4 as well, unless the machine is set otherwise; a container may have no IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => {
            &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        }
        _ => return vec![address],
    };
    loopback.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect()
}

/// Requests `/-/healthy`, in plain text and without a password: a server that requires TLS or a password is alive if it
/// rejects the request for that reason.
fn request(addresses: &[SocketAddr]) -> Result<()> {
    let (first, others) = addresses.split_first().context("the sidecar has no address to listen on")?;
    let connect = |address: &SocketAddr| Ok((*address, TcpStream::connect_timeout(address, TIMEOUT)?));
    let first: std::io::Result<_> = connect(first);
    let connected = others.iter().fold(first, |tried, address| tried.or_else(|_| connect(address)));
    let (address, mut stream) =
        connected.context("cannot connect: is --web.listen-address that of the sidecar?")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("cannot set a timeout")?;
    let head = format!("GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).context("cannot send a request")?;
    let mut response = Vec::new();
    stream.take(STATUS as u64).read_to_end(&mut response).context("it does not respond")?;
    match response.as_slice() {
        b"HTTP/1.1 200" | b"HTTP/1.1 401" | [TLS_ALERT, ..] => Ok(()),
        [b'H', b'T', b'T', b'P', .., a, b, c] => {
            bail!("it responds with the status {}", [*a, *b, *c].escape_ascii())
        }
        _ => bail!("it does not respond with HTTP: another program listens there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_reached_by_loopback_of_both_families() {
        for (address, expected) in [
            ("0.0.0.0:1", &["127.0.0.1:1"][..]),
            ("[::]:1", &["127.0.0.1:1", "[::1]:1"]),
            ("[::1]:1", &["[::1]:1"]),
            ("10.0.0.1:1", &["10.0.0.1:1"]),
        ] {
            let reached: Vec<_> =
                as_reached(address.parse().unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(reached, expected);
        }
    }

    #[test]
    fn sidecar_of_ipv6_only_is_healthy() {
        let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
        let server = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            }
        });
        let port = listener.local_addr().unwrap().port();
        // Nothing listens on port 1.
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), (Ipv6Addr::LOCALHOST, port).into()];
        request(&addresses).unwrap();
        server.join().unwrap();
    }
}
