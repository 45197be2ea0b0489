//! Ports that are reserved across processes.
//!
//! A port that was free a moment ago may be taken: another test may draw it as well, and the kernel gives it to any
//! outgoing connection. A port is therefore reserved by a lock on a file for as long as the reservation lives, and is
//! drawn from below the ephemeral range of the kernel.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The first port. It is below the ephemeral range of Linux (`net.ipv4.ip_local_port_range`, which starts at 32768 by
/// default), which serves outgoing connections and requests for port 0.
const FIRST: u16 = 18_000;
const PORTS: u16 = 14_000;

/// A port of 127.0.0.1 that is reserved until this value is dropped, even while no process listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The lock file, which the kernel unlocks when the process ends.
    _lock: File,
}

impl Port {
    /// Reserves a port on which no process listens.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes that start at different positions rarely collide.
        let begin = std::process::id().wrapping_mul(101) % u32::from(PORTS);
        for _ in 0..PORTS {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = u16::try_from((begin + step) % u32::from(PORTS)).context("an offset")?;
            if let Some(port) = Self::try_reserve(FIRST + offset)? {
                return Ok(port);
            }
        }
        bail!("no port of 127.0.0.1 from {FIRST} to {} is free", FIRST + PORTS - 1)
    }

    /// Reserves the given port, or another one if it is in use.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn near(usual: u16) -> Result<Self> {
        match Self::try_reserve(usual)? {
            Some(port) => Ok(port),
            None => Self::reserve(),
        }
    }

    fn try_reserve(number: u16) -> Result<Option<Self>> {
        let file = folder()?.join(number.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
        let lock = lock.with_context(|| format!("cannot open {}", file.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", file.display())),
        }
        match TcpListener::bind(("127.0.0.1", number)) {
            Ok(_) => Ok(Some(Self { number, _lock: lock })),
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("cannot listen on 127.0.0.1:{number}")),
        }
    }

    /// The port number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// One folder for each user, because a user cannot lock the files of another one. `cargo xtask bare` shares that of root.
fn folder() -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("txnscope-ports-{user}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn reserved_port_is_exclusive_until_dropped() {
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (0..50).map(|_| Port::reserve().unwrap()).collect::<Vec<_>>()))
            .collect();
        let ports: Vec<Port> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 400);
        let number = ports[0].number();
        assert!(Port::try_reserve(number).unwrap().is_none());
        assert_ne!(Port::near(number).unwrap().number(), number);
        drop(ports);
        // A process that another thread has just forked holds the locks until it executes its program, and another
        // test program may reserve any of these ports at once.
        let again = crate::wait::until("one of the ports to be reserved again", || async {
            let is_usual = |number: &u16| Port::near(*number).unwrap().number() == *number;
            numbers.iter().any(is_usual).then_some(()).context("all are reserved")
        });
        again.await.unwrap();
    }

    #[test]
    fn port_in_use_is_not_reserved() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = stranger.local_addr().unwrap().port();
        assert_ne!(Port::near(number).unwrap().number(), number);
    }
}
