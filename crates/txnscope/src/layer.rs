//! The tower layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Whether the methods that are safe in HTTP pass through uncounted.
    skips_safe_methods: bool,
    /// The declared operations with such a method, if there are any. One pointer, since a router may clone the layer for
    /// each request.
    uncounted: Option<Arc<Uncounted>>,
}

/// Declared operations that are never counted.
#[derive(Debug, Clone, Default)]
struct Uncounted {
    operations: Vec<&'static str>,
    /// Whether the warning about them was logged: a router applies clones of the layer, one to each route.
    warned: Arc<AtomicBool>,
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
        Self { classify, registry, skips_safe_methods: false, uncounted: None }
    }

    /// Declares operations: their series, including failures, are exported as zero before the first request.
    ///
    /// An operation of a safe method (GET, HEAD, OPTIONS, TRACE) is never counted, unless the layer has a
    /// [filter](TransactionLayer::filter): the layer then logs one warning when it is applied.
    #[must_use]
    pub fn declare(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        let operations: Vec<_> = operations.into_iter().collect();
        let safe = operations.iter().map(Operation::name).filter(|name| has_safe_method(name));
        for operation in safe {
            Arc::make_mut(self.uncounted.get_or_insert_default()).operations.push(operation);
        }
        self.registry.declare(operations);
        self
    }
}

impl Uncounted {
    #[cold]
    fn warn(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                operations = %self.operations.join(", "),
                "these declared operations stay at 0, because requests with GET, HEAD, OPTIONS and TRACE are not counted: do not \
                 declare them, or count them with TransactionLayer::filter"
            );
        }
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
        Self::with_registry(Registry::global())
    }

    /// Creates a layer for an HTTP service, counting into `registry`.
    #[must_use]
    pub fn with_registry(registry: Registry) -> Self {
        let layer = Self::with_classifier_and_registry(Http::default(), registry);
        Self { skips_safe_methods: true, ..layer }
    }

    /// Counts the requests for which `filter` returns `true`, instead of those with an unsafe method.
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.classify.set_filter(filter);
        self.skips_safe_methods = false;
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
        if let Some(uncounted) = self.uncounted.as_deref().filter(|_| self.skips_safe_methods) {
            uncounted.warn();
        }
        TransactionService::new(inner, self.classify.clone(), self.registry)
    }
}

/// Whether the name is that of a route with a method that is safe in HTTP.
fn has_safe_method(name: &str) -> bool {
    name.split_once(' ').is_some_and(|(method, _)| ["GET", "HEAD", "OPTIONS", "TRACE"].contains(&method))
}
