//! The route that serves the open transactions, for the sidecar.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::open_transactions::OpenTransactions;
use crate::Registry;

impl OpenTransactions {
    /// Returns the table as JSON:
    /// `{"transactions":[{"lsid":"…","txnNumber":7,"operation":"…","sinceSeconds":…,"openSeconds":…}],
    /// "queues":[{"key":"…","operation":"…","waiting":3}],
    /// "pools":[{"server":"…","connections":10,"inUse":4,"maxSize":10}]}`. The JSON contains names, session ids and the keys
    /// of [`queues`](Self::queues), and no data otherwise.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "transactions": self.list(),
            "queues": self.queues(),
            "pools": self.connection_pools(),
        })
        .to_string()
    }
}

impl Registry {
    /// Returns a router with `GET /-/transactions`, to merge into the application's: the open transactions, which the
    /// sidecar joins with the server's `$currentOp`.
    ///
    /// The route responds to callers on this machine only. It needs the application to be served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`; without that it rejects every request. Proxies on this
    /// machine forward requests of others: a request with a proxy's header (`Forwarded`, `X-Forwarded-For`, `Via` and
    /// the like) is rejected, and so is a request whose `Host` is neither an address of this machine nor `localhost`
    /// (DNS rebinding). An application with its own access control can serve [`OpenTransactions::to_json`] at a route
    /// of its own.
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
    let refused = |why: &'static str| (StatusCode::FORBIDDEN, why).into_response();
    match request.extensions().get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(peer)) if peer.ip().to_canonical().is_loopback() => {}
        Some(_) => return refused("for callers on this machine only\n"),
        None => {
            return refused(
                "serve the application with into_make_service_with_connect_info::<SocketAddr>()\n",
            );
        }
    }
    if is_forwarded(request.headers()) {
        return refused("for callers on this machine only, and this request comes through a proxy\n");
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let hosts = request.headers().get_all(header::HOST).iter();
    let mut hosts = hosts.map(|host| host.to_str().ok().map(str::to_owned)).chain(authority.map(Some));
    if !hosts.all(|host| host.is_some_and(|host| is_this_machine(&host))) {
        return refused(
            "use an address of this machine or localhost as the host, such as http://127.0.0.1:3000\n",
        );
    }
    ([(header::CONTENT_TYPE, "application/json")], open.to_json()).into_response()
}

/// Whether a proxy forwards the request of another client.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const OTHERS: &[&str] = &["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip"];
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded") || name.ends_with("-connecting-ip") || OTHERS.contains(&name)
    })
}

/// Whether the host can only mean this machine; any other name may resolve to it as well.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}
