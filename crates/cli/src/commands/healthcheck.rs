//! `txnscope healthcheck`: whether the sidecar on this machine responds, for a container engine or an orchestrator.
//!
//! A container of the sidecar has no shell and no other HTTP client.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use txnscope_sidecar::Config;

use crate::args::exit_status::ExitStatus;
use crate::config::file::ConfigFile;
use crate::config::listen::listen_addresses;
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

    /// Address that the sidecar listens on: host:port, or :port for all addresses. Default: 127.0.0.1:9917.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_WEB_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    listen_addresses: Vec<String>,
}

pub(crate) fn run(args: &HealthcheckArgs) -> ExitStatus {
    let address = match address(args) {
        Ok(address) => address,
        Err(error) => return report_error(&error, ExitStatus::Error),
    };
    match request(address) {
        Ok(()) => print_result("healthy\n"),
        Err(error) => {
            let error = error.context(format!("the sidecar at {address} is not healthy"));
            report_error(&error, ExitStatus::Failure)
        }
    }
}

/// The first address of the sidecar, as this machine reaches it.
fn address(args: &HealthcheckArgs) -> Result<SocketAddr> {
    let file = ConfigFile::load(args.config.file.as_deref())?;
    let mut addresses = listen_addresses(Some(&args.listen_addresses), &file)?;
    if addresses.is_empty() {
        addresses = Config::default().listen_addresses;
    }
    let mut address = *addresses.first().context("the sidecar has no address to listen on")?;
    if address.ip().is_unspecified() {
        // A socket for all IPv6 addresses accepts IPv4 as well, and a container may have no IPv6.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}

/// Requests `/-/healthy`, in plain text and without a password: a server that requires TLS or a password is alive if it
/// rejects the request for that reason.
fn request(address: SocketAddr) -> Result<()> {
    let connected = TcpStream::connect_timeout(&address, TIMEOUT);
    let mut stream = connected.context("cannot connect: is --web.listen-address that of the sidecar?")?;
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
