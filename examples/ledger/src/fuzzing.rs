//! Entry points for the fuzzer. They are not part of the public API and change with the code behind them.

use std::cell::OnceCell;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use mongodb::bson::oid::ObjectId;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use crate::bank_accounts::NewBankAccount;
use crate::bank_transfers::NewTransfer;
use crate::error::AppError;
use crate::extract::{EntityId, MAX_BODY, Nothing, PageQuery, Posted};
use crate::payments::NewPayment;
use crate::retainer_movements::Kind;
use crate::retainers::{NewMovement, NewRetainer};

/// Sends a request, given as text: the method and the path, headers, an empty line, the body.
///
/// # Panics
///
/// If the response is neither a client error nor a success.
pub fn request(bytes: &[u8]) {
    thread_local!(static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() });
    let Some(request) = read(bytes) else { return };
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("the runtime must start")
        });
        let answer = runtime.block_on(doorstep().oneshot(request));
        let status = answer.expect("a router is infallible").status();
        assert!(status == StatusCode::NO_CONTENT || status.is_client_error(), "{status}");
    });
}

/// The routes, up to the point where the database would be used.
fn doorstep() -> Router {
    Router::new()
        .route("/api/retainers", post(async |Posted { body, .. }: Posted<NewRetainer>| done(body.check())))
        .route("/api/retainers/{id}", get(async |EntityId(_): EntityId| StatusCode::NO_CONTENT))
        .route("/api/retainers/{id}/movements", get(async |_: EntityId, _: PageQuery| StatusCode::NO_CONTENT))
        .route(
            "/api/retainers/{id}/consume",
            post(async |EntityId(id): EntityId, Posted { body, .. }: Posted<NewMovement>| {
                done(body.check(id, Kind::Consumption))
            }),
        )
        .route("/api/payments", post(async |Posted { body, .. }: Posted<NewPayment>| done(body.check())))
        .route(
            "/api/payments/{id}/complete",
            post(async |_: EntityId, _: Posted<Nothing>| StatusCode::NO_CONTENT),
        )
        .route(
            "/api/bank-accounts",
            post(async |Posted { body, .. }: Posted<NewBankAccount>| done(body.check())),
        )
        .route(
            "/api/bank-transfers",
            post(async |Posted { body, .. }: Posted<NewTransfer>| done(body.check(ObjectId::new()))),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

fn done<T>(checked: Result<T, AppError>) -> Result<StatusCode, AppError> {
    checked.map(|_| StatusCode::NO_CONTENT)
}

fn read(bytes: &[u8]) -> Option<Request<Body>> {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = bytes[..at].split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let mut request = Request::builder().method(&first[..space]).uri(&first[space + 1..]);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(Body::from(bytes[at + 2..].to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without accepted requests the fuzz target would be ineffective.
    #[tokio::test]
    async fn well_formed_requests_reach_the_database() {
        for file in std::fs::read_dir(testkit::workspace().join("fuzz/seeds/ledger")).unwrap() {
            let path = file.unwrap().path();
            let request = read(&std::fs::read(&path).unwrap()).unwrap();
            let answer = doorstep().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", path.display());
        }
    }

    #[test]
    fn malformed_request_is_never_a_server_error() {
        testkit::assert_no_panic("ledger", &[], 4_000, request);
    }
}
