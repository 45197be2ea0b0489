//! The single log event of an operation that did not succeed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tracing::Span;
use txnscope_catalog::Line;

use crate::{Classification, Outcome};

/// Logs an operation that did not succeed, inside the span that the handler attached, so that the event carries that
/// span's fields.
///
/// Failures and panics are logged at the level `error`; rejections and cancellations at `info`, since they need no
/// alert.
pub(crate) fn log_failure(
    operation: &'static str,
    classification: &Classification,
    elapsed: Duration,
    span: Option<&Span>,
) {
    let (outcome, reason) = (classification.outcome().as_str(), classification.reason().as_str());
    let error = classification.source().map(|source| tracing::field::display(ErrorChain::new(source)));
    let elapsed_seconds = elapsed.as_secs_f64();
    macro_rules! emit_event {
        ($level:ident, $text:literal) => {
            tracing::$level!(operation, outcome, reason, error, elapsed_seconds, $text)
        };
    }
    let emit_event = || match classification.outcome() {
        Outcome::Failed => emit_event!(error, "operation failed"),
        Outcome::Panicked => emit_event!(error, "operation panicked"),
        Outcome::Rejected => emit_event!(info, "operation rejected"),
        Outcome::Cancelled => emit_event!(info, "operation cancelled"),
        Outcome::Succeeded => {}
    };
    match span {
        Some(span) => span.in_scope(emit_event),
        None => emit_event(),
    }
}

/// An error with its sources, for a log: on one line, at most 2,000 bytes long, with everything escaped that could
/// forge a line of the log or steer a terminal. Error texts often repeat input of a caller or of a server.
///
/// The layer's own event has this text as its field `error`. A backend that logs errors itself should log them in
/// this form.
///
/// ```
/// use txnscope::ErrorChain;
///
/// let error = std::io::Error::other("no such user: ann\nlevel=INFO all is well \u{1b}[2J");
/// assert_eq!(ErrorChain::new(&error).to_string(), r"no such user: ann\nlevel=INFO all is well \u001b[2J");
/// ```
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(&'a (dyn Error + 'static));

/// The maximum length of a logged error, in bytes.
const MAX_ERROR_BYTES: usize = 2_000;

impl<'a> ErrorChain<'a> {
    /// Wraps an error and its chain of sources.
    #[must_use]
    pub fn new(error: &'a (dyn Error + 'static)) -> Self {
        Self(error)
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::new(SourceChain(self.0), MAX_ERROR_BYTES).fmt(f)
    }
}

struct SourceChain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for SourceChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}
