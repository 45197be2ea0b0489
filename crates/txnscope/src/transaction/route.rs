//! The table of open transactions as a page, for the sidecar.

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
    /// `into_make_service_with_connect_info::<SocketAddr>()`; without that it refuses everybody. A proxy on this machine
    /// calls for others: a request with a header that proxies add (`Forwarded`, `X-Forwarded-For`, `Via` and the like) is
    /// refused, and so is one whose `Host` is neither an address of this machine nor `localhost`, as that of a browser
    /// that was led here by a foreign name. An application that has another way to tell friend from foe serves
    /// [`OpenTransactions::to_json`] at a route of its own.
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
        return refused("ask by an address of this machine or by localhost, as in http://127.0.0.1:3000\n");
    }
    ([(header::CONTENT_TYPE, "application/json")], open.to_json()).into_response()
}

/// Whether a proxy says that it asks for somebody else.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const OTHERS: &[&str] = &["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip"];
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded") || name.ends_with("-connecting-ip") || OTHERS.contains(&name)
    })
}

/// Whether only this machine is called so: a name of somebody else's may lead here as well.
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
