//! The live page: open transactions, waiting operations and who blocks whom, in a browser.
//!
//! The page and its files are part of the program. It reads server-sent events and changes nothing. One poller serves
//! all viewers, and polls only while there are viewers.

mod document;
mod events;
mod feed;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::Html;
use axum::routing::get;

pub(crate) use self::feed::LiveFeed;
use super::Web;

const PAGE: &str = include_str!("page/page.html");

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page: path, content type and content.
const FILES: &[(&str, &str, &str)] = &[
    ("/live/page.css", CSS, include_str!("page/page.css")),
    ("/live/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/live/page.js", JAVASCRIPT, include_str!("page/page.js")),
    ("/live/connection.js", JAVASCRIPT, include_str!("page/connection.js")),
    ("/live/dom.js", JAVASCRIPT, include_str!("page/dom.js")),
    ("/live/overview.js", JAVASCRIPT, include_str!("page/overview.js")),
    ("/live/rows.js", JAVASCRIPT, include_str!("page/rows.js")),
    ("/live/table.js", JAVASCRIPT, include_str!("page/table.js")),
    ("/live/text.js", JAVASCRIPT, include_str!("page/text.js")),
    ("/live/tree.js", JAVASCRIPT, include_str!("page/tree.js")),
];

/// A new version of the program has new files under the same names.
const NOT_CACHED: (HeaderName, &str) = (CACHE_CONTROL, "no-cache");

/// The routes of the page. The links of the page are relative to `/`, so that they work below the prefix of a reverse proxy.
pub(super) fn routes() -> Router<Web> {
    let mut routes = Router::new()
        .route("/", get(page))
        .route("/live", get(page))
        .route("/live/", get(async || (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "../live")])))
        .route("/live/events", get(events::events));
    for &(path, content_type, content) in FILES {
        routes = routes.route(path, get(async move || ([(CONTENT_TYPE, content_type), NOT_CACHED], content)));
    }
    routes
}

async fn page(State(web): State<Web>) -> ([(HeaderName, &'static str); 1], Html<String>) {
    // Path and version have no character that HTML would need escaped.
    let telemetry_path = web.telemetry_path.trim_start_matches('/');
    let page = PAGE.replace("{metrics}", telemetry_path).replace("{version}", env!("CARGO_PKG_VERSION"));
    ([NOT_CACHED], Html(page))
}
