//! The root cause of a failed poll.
//!
//! When a connection cannot be made, the driver clears the member's pool, and other callers get an error that
//! says only that the pool was cleared, or that no server can be selected. The cause is in the server
//! description, which the driver publishes before it clears the pool.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{PollError, PollErrorReason};

/// How long to wait for the event. A task of the driver delivers it, perhaps a moment after the error.
const EVENT_DELAY: Duration = Duration::from_millis(250);

/// The last error in the driver's description of a member.
#[derive(Clone, Default)]
pub(crate) struct FailureCause(Arc<Shared>);

#[derive(Default)]
struct Shared {
    last: watch::Sender<Option<PollError>>,
    /// Whether the log has reported that the member refuses the credentials. All collectors of a member share
    /// this, so that it is logged once.
    refused: AtomicBool,
}

impl FailureCause {
    /// A handler for the driver's events about the one server of its client.
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

    /// The error itself, or the error that caused it.
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
            // The selection timed out, independent of how the last connection ended. Wrong credentials, however, are
            // not a matter of time.
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

    /// The error for a poll that timed out. While a member refuses the credentials, each attempt delays the
    /// next: then that is the cause.
    pub(crate) fn for_timeout(&self, limit: Duration) -> PollError {
        let last = self.0.last.borrow();
        let refused = last.as_ref().filter(|cause| cause.reason == PollErrorReason::Authentication);
        refused.cloned().unwrap_or_else(|| PollError::timeout(limit))
    }

    /// The member has answered: earlier errors cannot be the cause of later ones.
    pub(crate) fn clear(&self) {
        self.0.last.send_if_modified(|last| last.take().is_some());
    }

    /// Whether the refusal of the credentials has not been logged yet. Marks it as logged.
    pub(crate) fn should_log_refusal(&self) -> bool {
        !self.0.refused.swap(true, Ordering::Relaxed)
    }

    /// Whether a refusal was logged before. Clears the mark.
    pub(crate) fn take_logged_refusal(&self) -> bool {
        self.0.refused.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cause").field(&*self.0.last.borrow()).finish()
    }
}
