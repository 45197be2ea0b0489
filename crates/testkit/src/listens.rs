//! Determines which process listens on a port, from `/proc`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// Whether the process listens on the port, on any address.
///
/// # Errors
///
/// If the system is not Linux.
pub(crate) fn on(pid: u32, port: u16) -> Result<bool> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => sockets.extend(text.lines().filter_map(|line| listening(line, port))),
            // A kernel without IPv6 lacks the second table.
            Err(_) if table.ends_with('6') => {}
            Err(error) => return Err(error).with_context(|| format!("{table}: this needs Linux")),
        }
    }
    // A process that has ended has no files.
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Ok(false) };
    Ok(files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|file| {
        let file = file.to_string_lossy();
        let inode = file.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| sockets.contains(inode))
    }))
}

/// The inode of the socket, if it listens on the port.
fn listening(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let found = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
    found.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listening_process_is_detected() {
        let own = std::process::id();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert!(on(own, port).unwrap(), "{address}");
            let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            assert!(!on(other.id(), port).unwrap(), "{address}");
            other.kill().unwrap();
            other.wait().unwrap();
            assert!(!on(other.id(), port).unwrap(), "{address}");
            drop(listener);
            assert!(!on(own, port).unwrap(), "{address}");
        }
    }
}
