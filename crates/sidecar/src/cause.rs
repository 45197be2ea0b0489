//! The first cause of a failure.
//!
//! When a connection cannot be made, the driver clears the member's pool, and whoever waits for another connection is told
//! that it was cleared, or that no server can be selected. Why, stands in the description of the server, which the driver
//! publishes before it clears the pool.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{PollError, PollErrorReason};

/// What is published is handed on by a task of the driver's, which may come a moment after the error.
const EVENT_DELAY: Duration = Duration::from_millis(250);

/// Why the driver last gave up on a member.
#[derive(Clone, Default)]
pub(crate) struct FailureCause(Arc<Shared>);

#[derive(Default)]
struct Shared {
    last: watch::Sender<Option<PollError>>,
    /// Whether it was logged that the member refuses the credentials: that is one fact, however many collectors meet it.
    refused: AtomicBool,
}

impl FailureCause {
    /// Listens to what the driver says of the one server that its client has.
    pub(crate) fn handler(&self) -> EventHandler<SdamEvent> {
        let shared = Arc::clone(&self.0);
        EventHandler::callback(move |event| {
            if let SdamEvent::ServerDescriptionChanged(event) = event
                && let Some(error) = event.new_description.error()
            {
                shared.last.send_replace(Some(PollError::from(error.clone()).for_handshake()));
            }
        })
    }

    /// The error, or the one that it is a consequence of.
    pub(crate) async fn root_cause_of(&self, error: PollError) -> PollError {
        if !error.is_consequence() {
            return error;
        }
        let mut last = self.0.last.subscribe();
        let known = match timeout(EVENT_DELAY, last.wait_for(Option::is_some)).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        match known {
            // Nobody was found in time, whatever the last connection ended with; but for a refusal, time is no cure.
            Some(cause)
                if error.reason == PollErrorReason::ServerSelection
                    && cause.reason != PollErrorReason::Authentication =>
            {
                error.caused_by(&cause)
            }
            Some(cause) => cause,
            None => error,
        }
    }

    /// What a poll ended with that had no answer in time. While a member refuses the credentials, each try holds up the
    /// next: that is the cause.
    pub(crate) fn for_timeout(&self, limit: Duration) -> PollError {
        let last = self.0.last.borrow();
        let refused = last.as_ref().filter(|cause| cause.reason == PollErrorReason::Authentication);
        refused.cloned().unwrap_or_else(|| PollError::timeout(limit))
    }

    /// The member has answered: what was before is no cause of what comes.
    pub(crate) fn clear(&self) {
        self.0.last.send_if_modified(|last| last.take().is_some());
    }

    /// Whether the refusal of the credentials is news.
    pub(crate) fn should_log_refusal(&self) -> bool {
        !self.0.refused.swap(true, Ordering::Relaxed)
    }

    /// Whether it is news that they are taken.
    pub(crate) fn take_logged_refusal(&self) -> bool {
        self.0.refused.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cause").field(&*self.0.last.borrow()).finish()
    }
}
