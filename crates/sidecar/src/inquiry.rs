//! The question who a server is, put within a time.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::collector::hello;
use crate::error::PollError;
use crate::identity::Identity;
use crate::snapshot::MemberState;
use crate::topology::Answer;
use crate::uri::MemberClient as Client;

/// How long closing the connections may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A question to a server: who it is.
pub(crate) struct Inquiry {
    client: Client,
    /// Of a member that is watched: it is known how to put the question to it.
    state: Option<Arc<MemberState>>,
}

impl Inquiry {
    /// To a member that is watched.
    pub(crate) fn of(client: Client, state: &Arc<MemberState>) -> Self {
        Self { client, state: Some(Arc::clone(state)) }
    }

    /// To a server of which nothing is known.
    pub(crate) fn of_stranger(client: Client) -> Self {
        Self { client, state: None }
    }

    /// # Errors
    ///
    /// If there is no answer within that time.
    pub(crate) async fn put(&self, limit: Duration) -> Result<Answer, PollError> {
        let nobody = Identity::default();
        let identity = self.state.as_ref().map_or(&nobody, |state| state.identity());
        let admin = self.client.database("admin");
        match timeout(limit, hello(&admin, identity)).await {
            Ok(Err(error)) => Err(self.client.cause().of(error).await),
            Ok(answer) => answer,
            Err(_) => Err(self.client.cause().of_timeout(limit)),
        }
    }
}

/// Closes a client's connections.
pub(crate) async fn farewell(client: Client) {
    let _ = timeout(FAREWELL, client.into_client().shutdown().immediate(true).into_future()).await;
}
