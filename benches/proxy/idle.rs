//! The memory that idle connections take.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::servers::{PATH, Server};

pub(crate) const CONNECTIONS: usize = 512;

/// Megabytes of all processes of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) proportional: f64,
}

/// Without a connection, and with connections that have had one request each.
pub(crate) async fn measure(server: &Server) -> Result<Vec<Memory>> {
    let before = server.memory()?;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(&server.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            ensure!(stream.read_buf(&mut answer).await? > 0, "{} has closed a connection", server.name);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{} has not answered", server.name);
        kept.push(stream);
    }
    server.sent(u64::try_from(CONNECTIONS).context("a small number")?);
    Ok(vec![before, server.memory()?])
}
