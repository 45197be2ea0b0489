//! What is served: the metrics, two probes, and a page for people.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus::TEXT_FORMAT;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::export::Page;
use crate::snapshot::{MemberState, Snapshot};

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    pub(crate) page: Page,
    pub(crate) snapshot: Snapshot,
    telemetry_path: Arc<str>,
    ready: Arc<AtomicBool>,
}

impl Web {
    pub(crate) fn new(page: Page, snapshot: Snapshot, telemetry_path: &str) -> Self {
        Self { page, snapshot, telemetry_path: telemetry_path.into(), ready: Arc::default() }
    }

    fn router(self) -> Router {
        Router::new()
            .route(&self.telemetry_path, get(metrics))
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .route("/", get(landing))
            .with_state(self)
    }

    /// Serves until it is told to stop and the requests in flight are answered.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(stop).await
    }

    /// Every source of every member has been asked once. It stays so: who joins later makes nobody wait.
    fn is_ready(&self) -> bool {
        let polled = |members: Vec<Arc<MemberState>>| {
            !members.is_empty() && members.iter().all(|member| member.polled())
        };
        if !self.ready.load(Ordering::Relaxed) && polled(self.snapshot.members()) {
            self.ready.store(true, Ordering::Relaxed);
        }
        self.ready.load(Ordering::Relaxed)
    }
}

async fn metrics(State(web): State<Web>) -> Response {
    match web.page.render() {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered; see the log\n").into_response()
        }
    }
}

/// The process answers.
async fn healthy() -> &'static str {
    "txnscope is healthy\n"
}

/// The page says what there is to say. A database that is away does not make the sidecar unready: that is
/// just what its page has to tell.
async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    if !web.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first polls have not ended\n".to_owned());
    }
    let mut text = "txnscope is ready\n".to_owned();
    let now = Instant::now();
    for member in web.snapshot.members() {
        let _ = writeln!(text, "{}: {}", member.address(), state(&member, now));
    }
    (StatusCode::OK, text)
}

fn state(member: &MemberState, now: Instant) -> &'static str {
    match member.up(now) {
        Some(true) => "up",
        Some(false) => "down",
        None => "not asked yet",
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ddd}\
    .bad{color:#b00020}";

async fn landing(State(web): State<Web>) -> Html<String> {
    let now = Instant::now();
    let mut rows = String::new();
    for member in web.snapshot.members() {
        let state = state(&member, now);
        let class = if state == "down" { " class=\"bad\"" } else { "" };
        let (rs, address) = (escaped(&member.rs()), escaped(member.address()));
        let sources = member.sources().iter().map(|source| {
            let record = source.record();
            let how = match record.last.map(|last| last.failure) {
                None => "not asked yet",
                Some(None) => "ok",
                Some(Some(reason)) => reason.as_str(),
            };
            let age = record.age(now).map(|age| format!(", {:.0} s old", age.as_secs_f64()));
            format!("{}: {how}{}", source.name(), age.unwrap_or_default())
        });
        let sources = sources.collect::<Vec<_>>().join("<br>");
        let _ =
            write!(rows, "<tr><td>{address}</td><td>{rs}</td><td{class}>{state}</td><td>{sources}</td></tr>");
    }
    let version = env!("CARGO_PKG_VERSION");
    let path = &web.telemetry_path;
    Html(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>txnscope</title>\
         <style>{STYLE}</style></head><body><h1>txnscope {version}</h1>\
         <p>MongoDB transactions, as the servers themselves count them.</p>\
         <p><a href=\"{path}\">Metrics</a> · <a href=\"/-/healthy\">Healthy</a> · <a href=\"/-/ready\">Ready</a></p>\
         <table><thead><tr><th>member</th><th>replica set</th><th>state</th><th>last polls</th></tr></thead>\
         <tbody>{rows}</tbody></table></body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::error::Reason;
    use crate::reading::Reading;

    async fn get(web: &Web, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = web.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn web() -> (Web, Snapshot) {
        let snapshot = Snapshot::default();
        (Web::new(Page::new(snapshot.clone()).unwrap(), snapshot.clone(), "/metrics"), snapshot)
    }

    #[tokio::test]
    async fn it_is_ready_when_the_first_polls_have_ended_however_they_ended() {
        let (web, snapshot) = web();
        assert_eq!(get(&web, "/-/healthy").await.0, StatusCode::OK);
        assert_eq!(get(&web, "/-/ready").await.0, StatusCode::SERVICE_UNAVAILABLE, "no member is known");
        let member = MemberState::new("db1:27017".into(), String::new(), ["server_status"].into_iter());
        let member = Arc::new(member);
        snapshot.insert(Arc::clone(&member));
        assert_eq!(get(&web, "/-/ready").await.0, StatusCode::SERVICE_UNAVAILABLE, "nobody has asked it");
        let second = std::time::Duration::from_secs(1);
        member.sources()[0].note(Instant::now(), second, Err(Reason::Network));
        let (status, body) = get(&web, "/-/ready").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("db1:27017: down"), "{body}");
        member.sources()[0].note(Instant::now(), second, Ok(Reading::default()));
        assert!(get(&web, "/-/ready").await.1.contains("db1:27017: up"));
        snapshot.insert(Arc::new(MemberState::new("db2:27017".into(), String::new(), ["x"].into_iter())));
        assert_eq!(get(&web, "/-/ready").await.0, StatusCode::OK, "a member that joins makes nobody wait");
    }

    #[tokio::test]
    async fn the_landing_page_escapes_what_the_set_says() {
        let (web, snapshot) = web();
        let evil = "<script>alert('&')</script>";
        snapshot.insert(Arc::new(MemberState::new(evil.into(), evil.into(), ["server_status"].into_iter())));
        let (status, page) = get(&web, "/").await;
        assert_eq!(status, StatusCode::OK);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("href=\"/metrics\"") && page.contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(get(&web, "/nowhere").await.0, StatusCode::NOT_FOUND);
    }
}
