//! The table of open transactions as a page, for the sidecar.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::open::OpenTransactions;
use crate::Registry;

impl OpenTransactions {
    /// The table as JSON: `{"transactions":[{"lsid":"…","txnNumber":7,"operation":"…","sinceSeconds":…,"openSeconds":…}]}`,
    /// the oldest first. It holds names and ids of sessions, and nothing of the data.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "transactions": self.list() }).to_string()
    }
}

impl Registry {
    /// A router with `GET /-/transactions`, to merge into the application's: the table of open transactions, which the
    /// sidecar joins with what the server says.
    ///
    /// It answers callers on this machine only. To know who calls, it wants the application to be served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`; without that it refuses everybody. An application that
    /// has another way to tell friend from foe serves [`OpenTransactions::to_json`] at a route of its own.
    ///
    /// ```no_run
    /// # use std::net::SocketAddr;
    /// # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let app: axum::Router = axum::Router::new().merge(txnscope::Registry::global().open_transactions_router());
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    /// # }
    /// ```
    pub fn open_transactions_router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let open = self.open_transactions();
        Router::new().route("/-/transactions", get(async move |request: Request| table(open, &request)))
    }
}

fn table(open: &OpenTransactions, request: &Request) -> Response {
    match request.extensions().get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(peer)) if peer.ip().to_canonical().is_loopback() => {
            ([(header::CONTENT_TYPE, "application/json")], open.to_json()).into_response()
        }
        Some(_) => (StatusCode::FORBIDDEN, "for callers on this machine only\n").into_response(),
        None => {
            let advice = "serve the application with into_make_service_with_connect_info::<SocketAddr>()\n";
            (StatusCode::FORBIDDEN, advice).into_response()
        }
    }
}
