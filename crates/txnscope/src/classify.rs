//! The traits by which a layer names operations and classifies responses.

use crate::{Classification, OperationName, Reason};

/// Names the operation of a request.
pub trait ClassifyRequest<Req> {
    /// Returns the operation, or `None` to pass the request through uncounted. The name must come from a bounded set.
    fn operation<'a>(&'a self, request: &'a Req) -> Option<OperationName<'a>>;

    /// Returns the operation under which a failed `poll_ready` counts, before any request named one.
    fn not_ready(&self) -> OperationName<'_> {
        OperationName::NOT_READY
    }
}

/// Classifies responses and errors.
///
/// Mark a classification that was only derived as [overridable](Classification::overridable): a reason noted in the
/// scope then replaces its reason.
pub trait ClassifyResponse<Res, E> {
    /// Classifies a response.
    fn response(&self, response: &Res) -> Classification;

    /// Classifies an error of the inner service. The error itself passes through untouched.
    fn error(&self, error: &E) -> Classification;
}

/// A classifier for services without routes, such as a consumer of a queue: every request is the same operation, and
/// every response is a success. A service whose responses can be rejections needs a classifier of its own:
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

/// A failure of which only the error's type is known.
pub(crate) fn unknown_failure<E>() -> Classification {
    Classification::failed(Reason::OTHER).overridable().with_source(std::any::type_name::<E>())
}
