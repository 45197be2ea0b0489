//! How a layer reads requests and responses: what names the operation, and what became of it.

use crate::{OperationName, Reason, Verdict};

/// Names the operation of a request.
pub trait ClassifyRequest<Req> {
    /// The operation, or `None` to pass the request through uncounted. The name must come from a bounded set.
    fn operation<'a>(&'a self, request: &'a Req) -> Option<OperationName<'a>>;

    /// The operation under which a service counts that was not ready, before any request named one.
    fn unready(&self) -> OperationName<'_> {
        OperationName::UNREADY
    }
}

/// Says what became of an operation.
///
/// A verdict that is only presumed [yields](Verdict::yielding) to a reason noted in the scope.
pub trait ClassifyResponse<Res, E> {
    /// The verdict on a response.
    fn response(&self, response: &Res) -> Verdict;

    /// The verdict on an error of the inner service. The error itself passes through untouched.
    fn error(&self, error: &E) -> Verdict;
}

/// Every request is the same operation, and every response is a success: for services without routes, such as a
/// consumer of a queue. A service whose responses can say no brings a classifier of its own:
///
/// ```
/// use txnscope::{ClassifyRequest, ClassifyResponse, OperationName, Reason, TransactionLayer, Verdict};
///
/// struct Transfer { cents: i64 }
/// enum Reply { Done, Refused }
///
/// #[derive(Clone)]
/// struct Transfers;
///
/// impl ClassifyRequest<Transfer> for Transfers {
///     fn operation(&self, _: &Transfer) -> Option<OperationName<'static>> {
///         Some(OperationName::named("transfer"))
///     }
/// }
///
/// impl<E> ClassifyResponse<Reply, E> for Transfers {
///     fn response(&self, reply: &Reply) -> Verdict {
///         match reply {
///             Reply::Done => Verdict::succeeded(),
///             Reply::Refused => Verdict::rejected(Reason::APPLICATION).yielding(),
///         }
///     }
///     fn error(&self, _: &E) -> Verdict {
///         Verdict::failed(Reason::OTHER).yielding()
///     }
/// }
///
/// let layer = TransactionLayer::with_classifier(Transfers);
/// # drop(layer);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Named(pub(crate) &'static str);

impl<Req> ClassifyRequest<Req> for Named {
    fn operation<'a>(&'a self, _: &'a Req) -> Option<OperationName<'a>> {
        Some(OperationName::named(self.0))
    }

    fn unready(&self) -> OperationName<'_> {
        OperationName::named(self.0)
    }
}

impl<Res, E> ClassifyResponse<Res, E> for Named {
    fn response(&self, _: &Res) -> Verdict {
        Verdict::succeeded()
    }

    fn error(&self, _: &E) -> Verdict {
        presume_failed::<E>()
    }
}

/// A failure of which nothing is known but the type of its error.
pub(crate) fn presume_failed<E>() -> Verdict {
    Verdict::failed(Reason::OTHER).yielding().with_source(std::any::type_name::<E>())
}
