//! Between an operation and those who drive it: the answer's head comes out of it, and the body's end goes in.
//!
//! The side that puts something in polls the operation right afterwards, so that no waker is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Response;

use crate::body::{End, ResponseBody};

/// The two things that are handed over.
#[derive(Debug, Default)]
pub(crate) struct Handover(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    head: Option<Response<ResponseBody>>,
    end: Option<End>,
}

impl Handover {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn respond(&self, response: Response<ResponseBody>) {
        self.slots().head = Some(response);
    }

    pub(crate) fn take_response(&self) -> Option<Response<ResponseBody>> {
        self.slots().head.take()
    }

    pub(crate) fn end(&self, end: End) {
        self.slots().end = Some(end);
    }

    pub(crate) fn take_end(&self) -> Option<End> {
        self.slots().end.take()
    }
}
