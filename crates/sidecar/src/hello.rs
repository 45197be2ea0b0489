//! `hello` requests with a timeout.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::collector::hello;
use crate::error::PollError;
use crate::identity::Identity;
use crate::snapshot::MemberState;
use crate::topology::HelloReply;
use crate::uri::MemberClient as Client;

/// The timeout for closing a client's connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A `hello` request to one server.
pub(crate) struct HelloRequest {
    client: Client,
    /// The state of a monitored member, which knows whether the server needs `isMaster`.
    state: Option<Arc<MemberState>>,
}

impl HelloRequest {
    /// A request to a monitored member.
    pub(crate) fn to_member(client: Client, state: &Arc<MemberState>) -> Self {
        Self { client, state: Some(Arc::clone(state)) }
    }

    /// A request to a server that is not monitored.
    pub(crate) fn to_unknown_server(client: Client) -> Self {
        Self { client, state: None }
    }

    /// # Errors
    ///
    /// If there is no reply in time.
    pub(crate) async fn send(&self, limit: Duration) -> Result<HelloReply, PollError> {
        let unknown = Identity::default();
        let identity = self.state.as_ref().map_or(&unknown, |state| state.identity());
        let admin = self.client.database("admin");
        match timeout(limit, hello(&admin, identity)).await {
            Ok(Err(error)) => Err(self.client.cause().root_cause_of(error).await),
            Ok(reply) => reply,
            Err(_) => Err(self.client.cause().for_timeout(limit)),
        }
    }
}

/// Closes a client's connections.
pub(crate) async fn close_client(client: Client) {
    let _ = timeout(CLOSE_TIMEOUT, client.into_client().shutdown().immediate(true).into_future()).await;
}
