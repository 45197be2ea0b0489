//! The routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use txnscope::{Metrics, TransactionLayer};

use crate::auth::require_token;
use crate::error::AppError;
use crate::extract::MAX_BODY;
#[cfg(feature = "mutants")]
use crate::fault_injection::{self, Mutant};
use crate::operations::OPERATIONS;
use crate::state::Ledger;
use crate::{bank_accounts, bank_transfers, health, payments, retainer_movements, retainers};

/// The whole service as a router: `/api` with the token, `/metrics`, `/-/healthy` and `/-/ready` without it, and
/// `/-/transactions` for clients on this machine only.
///
/// The layer records into the registry of these metrics.
pub fn app(ledger: Ledger, metrics: &Metrics) -> Router {
    #[cfg(not(feature = "mutants"))]
    let concurrent_writes = concurrent_writes();
    #[cfg(feature = "mutants")]
    let concurrent_writes = match ledger.mutant() {
        Some(Mutant::ChecksOutside) => fault_injection::concurrent_writes(),
        Some(Mutant::NoTransaction) | None => concurrent_writes(),
    };
    let api = Router::new()
        .route("/retainers", post(retainers::create))
        .route("/retainers/{id}", get(retainers::read))
        .route("/retainers/{id}/movements", get(retainer_movements::page))
        .route("/retainers/{id}/replenish", post(retainers::replenish))
        .route("/payments", post(payments::create))
        .route("/payments/{id}", get(payments::read))
        .route("/bank-accounts", post(bank_accounts::create))
        .route("/bank-accounts/{id}", get(bank_accounts::read))
        .merge(concurrent_writes)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Unknown paths need the token as well, so that the routes are not disclosed without it.
        .layer(middleware::from_fn_with_state(ledger.clone(), require_token));
    Router::new()
        .nest("/api", api)
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .merge(metrics.router())
        .merge(metrics.registry().open_transactions_router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_route)
        // The outermost layer, so that requests rejected by the token or the router are counted as well.
        .layer(TransactionLayer::with_registry(metrics.registry()).declare(OPERATIONS.iter().copied()))
        .with_state(ledger)
}

/// The routes whose effect must happen at most once under concurrent requests.
fn concurrent_writes() -> Router<Ledger> {
    Router::new()
        .route("/retainers/{id}/consume", post(retainers::consume))
        .route("/payments/{id}/complete", post(payments::complete))
        .route("/bank-transfers", post(bank_transfers::create))
        .route("/bank-transfers/{id}/cancel", post(bank_transfers::cancel))
}

async fn no_such_route() -> AppError {
    AppError::NoSuchRoute
}

async fn method_not_allowed() -> AppError {
    AppError::MethodNotAllowed
}
