//! The tower layer.

use tower_layer::Layer;

use crate::classify::StaticOperation;
#[cfg(feature = "http")]
use crate::http::{Http, RequestHead};
use crate::{Operation, Registry, TransactionService};

/// Counts and times the operations of the wrapped service. See the [crate's page](crate) for an example.
///
/// `C` classifies requests and responses: [`Http`](crate::Http), [`StaticOperation`](crate::StaticOperation), or a
/// type of the application.
#[derive(Debug, Clone)]
pub struct TransactionLayer<C> {
    classify: C,
    registry: Registry,
}

impl<C> TransactionLayer<C> {
    /// Creates a layer for any service, which classifies requests and responses with `classify`.
    #[must_use]
    pub fn with_classifier(classify: C) -> Self {
        Self::with_classifier_and_registry(classify, Registry::global())
    }

    /// Creates a layer for any service, which classifies requests and responses with `classify` and counts into
    /// `registry` instead of the process's global one.
    #[must_use]
    pub fn with_classifier_and_registry(classify: C, registry: Registry) -> Self {
        Self { classify, registry }
    }

    /// Declares operations: their series, including failures, are exported as zero before the first request.
    #[must_use]
    pub fn declare(self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.registry.declare(operations);
        self
    }
}

impl TransactionLayer<StaticOperation> {
    /// Creates a layer for a service without routes: every request is an operation of this name.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tower::{ServiceBuilder, service_fn};
    /// use txnscope::TransactionLayer;
    ///
    /// let consumer = ServiceBuilder::new()
    ///     .layer(TransactionLayer::named("consume_invoice_message"))
    ///     .service(service_fn(|message: Vec<u8>| async move { Ok::<_, Infallible>(message.len()) }));
    /// # drop(consumer);
    /// ```
    #[must_use]
    pub fn named(operation: &'static str) -> Self {
        Self::named_with_registry(operation, Registry::global())
    }

    /// Creates a layer for a service without routes, counting into `registry`.
    #[must_use]
    pub fn named_with_registry(operation: &'static str, registry: Registry) -> Self {
        Self::with_classifier_and_registry(StaticOperation(operation), registry)
            .declare([Operation::new(operation)])
    }
}

#[cfg(feature = "http")]
impl TransactionLayer<Http> {
    /// Creates a layer for an HTTP service, counting into the global recorder.
    #[must_use]
    pub fn new() -> Self {
        Self::with_classifier(Http::default())
    }

    /// Creates a layer for an HTTP service, counting into `registry`.
    #[must_use]
    pub fn with_registry(registry: Registry) -> Self {
        Self::with_classifier_and_registry(Http::default(), registry)
    }

    /// Counts the requests for which `filter` returns `true`, instead of those with an unsafe method.
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.classify.set_filter(filter);
        self
    }

    /// Names operations. Where `name` returns `None`, the method and the route template name the operation. The names
    /// must come from a bounded set: after 200 names, every further one is counted as `overflow`.
    #[must_use]
    pub fn name_operations(
        mut self,
        name: impl for<'a> Fn(RequestHead<'a>) -> Option<&'a str> + Send + Sync + 'static,
    ) -> Self {
        self.classify.set_name(name);
        self
    }
}

#[cfg(feature = "http")]
impl Default for TransactionLayer<Http> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, C: Clone> Layer<S> for TransactionLayer<C> {
    type Service = TransactionService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        TransactionService::new(inner, self.classify.clone(), self.registry)
    }
}
