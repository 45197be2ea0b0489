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
use crate::{bank_accounts, bank_transfers, health, payments, retainers};

/// The whole service as a router: `/api` behind the token, `/metrics`, `/-/healthy` and `/-/ready` without it, and
/// `/-/transactions` for callers on this machine.
///
/// The layer counts into the registry of those metrics.
pub fn app(ledger: Ledger, metrics: &Metrics) -> Router {
    #[cfg(not(feature = "mutants"))]
    let contested = contested();
    #[cfg(feature = "mutants")]
    let contested = match ledger.mutant() {
        Some(Mutant::ChecksOutside) => fault_injection::contested(),
        Some(Mutant::NoTransaction) | None => contested(),
    };
    let api = Router::new()
        .route("/retainers", post(retainers::create))
        .route("/retainers/{id}", get(retainers::read))
        .route("/retainers/{id}/replenish", post(retainers::replenish))
        .route("/payments", post(payments::create))
        .route("/payments/{id}", get(payments::read))
        .route("/bank-accounts", post(bank_accounts::create))
        .route("/bank-accounts/{id}", get(bank_accounts::read))
        .merge(contested)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Unknown paths want the token too: without it nobody learns which routes there are.
        .layer(middleware::from_fn_with_state(ledger.clone(), require_token));
    Router::new()
        .nest("/api", api)
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .merge(metrics.router())
        .merge(metrics.registry().open_transactions_router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_route)
        // Outermost, so that what the token or the router refuses is counted as well.
        .layer(TransactionLayer::with_registry(metrics.registry()).declare(OPERATIONS.iter().copied()))
        .with_state(ledger)
}

/// What must not be done twice, however many ask for it.
fn contested() -> Router<Ledger> {
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
