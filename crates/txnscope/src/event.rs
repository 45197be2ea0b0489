//! The one log event of an operation that did not succeed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tracing::Span;

use crate::{Outcome, Verdict};

/// Emits it inside the span that the handler attached, so that it carries that span's fields.
///
/// A fault is an error; what the caller or a business rule ended is information, and nobody is paged for it.
pub(crate) fn emit(operation: &'static str, verdict: &Verdict, elapsed: Duration, span: Option<&Span>) {
    let (outcome, reason) = (verdict.outcome().as_str(), verdict.reason().as_str());
    let error = verdict.source().map(|source| tracing::field::display(Chain(source)));
    let elapsed_seconds = elapsed.as_secs_f64();
    macro_rules! say {
        ($level:ident, $text:literal) => {
            tracing::$level!(operation, outcome, reason, error, elapsed_seconds, $text)
        };
    }
    let say = || match verdict.outcome() {
        Outcome::Failed => say!(error, "operation failed"),
        Outcome::Panicked => say!(error, "operation panicked"),
        Outcome::Rejected => say!(info, "operation rejected"),
        Outcome::Cancelled => say!(info, "operation cancelled"),
        Outcome::Succeeded => {}
    };
    match span {
        Some(span) => span.in_scope(say),
        None => say(),
    }
}

/// An error with its sources, on one line.
struct Chain<'a>(&'a (dyn Error + Send + Sync + 'static));

impl fmt::Display for Chain<'_> {
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
