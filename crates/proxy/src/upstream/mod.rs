//! The backend: its connections, and requests sent over them, each once.
//!
//! A request is sent a second time only where it can be shown that no byte of it was written: a kept connection that the
//! backend closed before hyper took the request up gives it back whole, and it goes over another connection. Everything else
//! fails, whatever its method is.

mod connect;
mod early_answer;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Mutex;

pub(crate) use self::connect::Connector;
pub(crate) use self::pool::Lease;
use self::pool::Pool;
use crate::config::UpstreamSettings;
use crate::upload::Upload;

/// The backend.
pub(crate) struct Upstream {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    shared: Mutex<Option<http2::SendRequest<Upload>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the backend takes no connection")]
    Unreachable(#[source] io::Error),
    #[error("the backend broke off before its answer")]
    Reset(#[source] hyper::Error),
}

impl Upstream {
    pub(crate) fn new(connector: Arc<Connector>, settings: &UpstreamSettings) -> Self {
        let pool = Arc::new(Pool::new(settings.idle_timeout, settings.max_idle));
        Self { connector, pool, shared: Mutex::default() }
    }

    /// Sends the request, and returns the head of the answer. By HTTP/1.1 there comes with it the connection, to be given
    /// back once the answer was read to its end.
    pub(crate) async fn send(
        &self,
        request: Request<Upload>,
        http2: bool,
    ) -> Result<(Response<Incoming>, Option<Lease>), SendError> {
        // In boxes, as most requests need neither HTTP/2 nor a new connection: they would make room for themselves in the future
        // of every request, which is copied when it begins.
        if http2 {
            return Box::pin(self.send_http2(request)).await.map(|response| (response, None));
        }
        let mut request = request;
        loop {
            let (mut sender, kept) = match self.pool.take() {
                Some(sender) => (sender, true),
                None => (Box::pin(self.open()).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Some(Lease { pool: Arc::clone(&self.pool), sender }))),
                Err(mut error) => match error.take_message() {
                    // hyper gives it back: it was not taken up, and nothing of it was written.
                    Some(unsent) if kept => request = unsent,
                    Some(_) | None => return Err(SendError::Reset(error.into_error())),
                },
            }
        }
    }

    async fn open(&self) -> Result<http1::SendRequest<Upload>, SendError> {
        let io = self.connector.connect(false).await.map_err(SendError::Unreachable)?;
        let (sender, connection) = http1::handshake(io).await.map_err(SendError::Reset)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the backend has ended early");
            }
        });
        Ok(sender)
    }

    async fn send_http2(&self, request: Request<Upload>) -> Result<Response<Incoming>, SendError> {
        let mut request = request;
        loop {
            let (mut sender, kept) = self.shared_sender().await?;
            if sender.ready().await.is_err() && kept {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => request = unsent,
                    Some(_) | None => return Err(SendError::Reset(error.into_error())),
                },
            }
        }
    }

    /// The one connection by HTTP/2, and whether it was there before.
    async fn shared_sender(&self) -> Result<(http2::SendRequest<Upload>, bool), SendError> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok((sender.clone(), true));
        }
        let io = self.connector.connect(true).await.map_err(SendError::Unreachable)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .handshake(io)
            .await
            .map_err(SendError::Reset)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the backend has ended early");
            }
        });
        *shared = Some(sender.clone());
        Ok((sender, false))
    }

    /// Closes kept connections as they grow old, for as long as it is polled.
    pub(crate) async fn close_old(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.pool.close_old();
        }
    }
}
