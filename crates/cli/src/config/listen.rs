//! The addresses of the web server, which `serve` listens on and `healthcheck` connects to.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::args::addresses::addresses;
use crate::config::file::ConfigFile;

/// The addresses that the flags or the variable name, or else the file; none if none of them names any.
///
/// # Errors
///
/// If an address is invalid. The error names the flag, or the line of the file.
pub(crate) fn listen_addresses(flags: Option<&[String]>, file: &ConfigFile) -> Result<Vec<SocketAddr>> {
    if let Some(flags) = flags.filter(|flags| !flags.is_empty()) {
        let found = flags.iter().map(|text| addresses(text).context("--web.listen-address"));
        return Ok(found.collect::<Result<Vec<_>>>()?.concat());
    }
    let found = file.web.listen_address.iter().flatten().enumerate().map(|(index, text)| {
        addresses(text).map_err(|error| {
            let at = ["web", "listen_address", &index.to_string()];
            file.error_at(&at, format!("web.listen_address: {error:#}"))
        })
    });
    Ok(found.collect::<Result<Vec<_>, _>>()?.concat())
}
