//! Why a proxy cannot start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}; is another process there? --proxy.reuse-port shares it with one that does the same"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// systemd's sockets are not there, or are something else.
    #[error("{0}")]
    Socket(String),
    /// The system has no more threads or file descriptors.
    #[error("cannot start a thread that serves requests; --proxy.threads is their number")]
    Thread(#[source] io::Error),
    /// There is nowhere to listen.
    #[error("there is no address to listen on: give --proxy.listen-address")]
    NoAddress,
    /// The backend's name is none that a certificate can have.
    #[error("the host of --upstream is no name that a certificate can be for")]
    UpstreamName,
    /// The file of authorities cannot be used.
    #[error("the certificates of --upstream.ca-file cannot be used: {file:?}: {why}")]
    UpstreamAuthorities {
        /// The file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// The system has no authorities.
    #[error(
        "the system has no certificates of authorities to check the backend's with: give --upstream.ca-file"
    )]
    NoAuthorities,
}
