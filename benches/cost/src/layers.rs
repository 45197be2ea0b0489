//! The services with and without the txnscope layer.

use axum::Router;
use tower_layer::Layer;
use txnscope::{Registry, TransactionLayer};

use crate::{Contender, NoOp, router};

/// The no-op service without a layer.
#[must_use]
pub fn without() -> Contender {
    Contender::new("no layer", NoOp)
}

/// The router without a layer.
#[must_use]
pub fn router_without() -> Contender {
    Contender::new("no layer", router())
}

/// The layer around the no-op service: operations are method and route template.
#[must_use]
pub fn routed(registry: Registry) -> Contender {
    Contender::new("**txnscope**", TransactionLayer::with_registry(registry).layer(NoOp))
}

/// The layer around the no-op service: every request is the same operation.
#[must_use]
pub fn named(registry: Registry) -> Contender {
    Contender::new("txnscope, one name", TransactionLayer::named_with_registry("job", registry).layer(NoOp))
}

/// The layer on the router.
#[must_use]
pub fn on_router(registry: Registry) -> Contender {
    let router: Router = router().layer(TransactionLayer::with_registry(registry));
    Contender::new("**txnscope**", router)
}
