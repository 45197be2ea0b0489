//! How a layer reads requests and responses: what names the operation, and what became of it.

use crate::{Classification, OperationName, Reason};

/// Names the operation of a request.
pub trait ClassifyRequest<Req> {
    /// The operation, or `None` to pass the request through uncounted. The name must come from a bounded set.
    fn operation<'a>(&'a self, request: &'a Req) -> Option<OperationName<'a>>;

    /// The operation under which a service counts that was not ready, before any request named one.
    fn not_ready(&self) -> OperationName<'_> {
        OperationName::NOT_READY
    }
}

/// Says what became of an operation.
///
/// A classification that is only presumed [yields](Classification::overridable) to a reason noted in the scope.
pub trait ClassifyResponse<Res, E> {
    /// The classification on a response.
    fn response(&self, response: &Res) -> Classification;

    /// The classification on an error of the inner service. The error itself passes through untouched.
    fn error(&self, error: &E) -> Classification;
}

/// Every request is the same operation, and every response is a success: for services without routes, such as a
/// consumer of a queue. A service whose responses can say no brings a classifier of its own:
///
/// ```
/// use txnscope::{ClassifyRequest, ClassifyResponse, OperationName, Reason, TransactionLayer, Classification};
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
///     fn response(&self, reply: &Reply) -> Classification {
///         match reply {
///             Reply::Done => Classification::succeeded(),
///             Reply::Refused => Classification::rejected(Reason::APPLICATION).overridable(),
///         }
///     }
///     fn error(&self, _: &E) -> Classification {
///         Classification::failed(Reason::OTHER).overridable()
///     }
/// }
///
/// let layer = TransactionLayer::with_classifier(Transfers);
/// # drop(layer);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct StaticOperation(pub(crate) &'static str);

impl<Req> ClassifyRequest<Req> for StaticOperation {
    fn operation<'a>(&'a self, _: &'a Req) -> Option<OperationName<'a>> {
        Some(OperationName::named(self.0))
    }

    fn not_ready(&self) -> OperationName<'_> {
        OperationName::named(self.0)
    }
}

impl<Res, E> ClassifyResponse<Res, E> for StaticOperation {
    fn response(&self, _: &Res) -> Classification {
        Classification::succeeded()
    }

    fn error(&self, _: &E) -> Classification {
        unknown_failure::<E>()
    }
}

/// A failure of which nothing is known but the type of its error.
pub(crate) fn unknown_failure<E>() -> Classification {
    Classification::failed(Reason::OTHER).overridable().with_source(std::any::type_name::<E>())
}
