//! The events of the live page, for one viewer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::feed::Events;
use crate::web::Web;
use crate::web::connections::Connection;
use crate::web::origin::is_cross_site;
use crate::web::policy::WebPolicy;

/// Proxies close a connection on which nothing happens, typically after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// nginx buffers a response unless this header says otherwise.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// One viewer.
struct Viewer {
    events: watch::Receiver<Events>,
    sent: Events,
    /// The users, TLS settings and headers under which the viewer was admitted.
    policy: Option<Arc<WebPolicy>>,
    stop: CancellationToken,
}

/// Server-sent events: `report` with the live reports, `sidecar` with members, collectors and checks. The stream ends when
/// the sidecar stops, and when other users, TLS settings or headers are in force: the browser then logs in again.
pub(super) async fn events(
    State(web): State<Web>,
    policy: Option<Extension<Arc<WebPolicy>>>,
    connection: Option<Extension<Arc<Connection>>>,
    headers: HeaderMap,
) -> Response {
    // Another site cannot read the events, but could make the sidecar poll.
    if is_cross_site(&headers) {
        let text = "this is a cross-site request, which may not read the events\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let Some(events) = web.live.watch() else {
        let text = "too many users have the live page open; close some of them\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], text).into_response();
    };
    let stop = connection.as_ref().map(|connection| connection.stop.clone()).unwrap_or_default();
    if let Some(connection) = connection {
        connection.stream();
    }
    let policy = policy.map(|Extension(policy)| policy);
    let viewer = Viewer { events, sent: Events::default(), policy, stop };
    let body = Body::from_stream(unfold(viewer, async |mut viewer| {
        let bytes = viewer.next().await?;
        Some((Ok::<_, Infallible>(bytes), viewer))
    }));
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), NO_BUFFERING], body).into_response()
}

impl Viewer {
    /// The next events. A viewer that reads slowly skips those that are out of date by then.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let superseded = async {
                match &self.policy {
                    Some(policy) => policy.superseded().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The order matters: a user who was removed gets no further event.
                biased;
                () = self.stop.cancelled() => return None,
                () = superseded => return None,
                changed = self.events.changed() => changed.ok()?,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b":\n\n")),
            }
            let now = self.events.borrow_and_update().clone();
            let bytes = now.since(&self.sent);
            self.sent = now;
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
    }
}
