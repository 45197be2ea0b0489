//! Our layer, and nothing in its place.

use axum::Router;
use tower_layer::Layer;
use txnscope::{Registry, TransactionLayer};

use crate::{Contender, NoOp, router};

/// The service that does nothing, without a layer.
#[must_use]
pub fn without() -> Contender {
    Contender::new("no layer", NoOp)
}

/// The router without a layer.
#[must_use]
pub fn router_without() -> Contender {
    Contender::new("no layer", router())
}

/// Our layer around the service that does nothing: operations are method and route template.
#[must_use]
pub fn routed(registry: Registry) -> Contender {
    Contender::new("**txnscope**", TransactionLayer::with_registry(registry).layer(NoOp))
}

/// Our layer around the service that does nothing: every request is the same operation.
#[must_use]
pub fn named(registry: Registry) -> Contender {
    Contender::new("txnscope, one name", TransactionLayer::named_with_registry("job", registry).layer(NoOp))
}

/// Our layer on the router.
#[must_use]
pub fn on_router(registry: Registry) -> Contender {
    let router: Router = router().layer(TransactionLayer::with_registry(registry));
    Contender::new("**txnscope**", router)
}
