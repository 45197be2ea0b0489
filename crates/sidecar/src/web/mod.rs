//! HTTP server: metrics, probes of targets, health checks, reload, and the live page.

mod access;
mod connections;
mod encode;
mod file;
mod headers;
mod listen;
mod live;
mod logins;
mod origin;
mod peer;
mod policy;
mod serve;
mod stream;
mod tls;
mod users;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;

pub(crate) use self::access::AccessControl;
pub(crate) use self::listen::listeners;
pub(crate) use self::live::LiveFeed;
pub(crate) use self::logins::Logins;
pub(crate) use self::policy::WebPolicy;
pub(crate) use self::serve::Server;
use crate::config::is_name;
use crate::deployments::{DeploymentManager, ProbeError};
use crate::reload::{Reloader, WebReloadError};
use crate::snapshot::MemberState;
use crate::store::MetricStore;

/// The header with Prometheus's scrape timeout, in seconds.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// How much of the scrape timeout is reserved for the response.
const RESPONSE_MARGIN: Duration = Duration::from_millis(500);

/// The state shared by all handlers.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    store: MetricStore,
    deployments: Arc<DeploymentManager>,
    reloader: Arc<Reloader>,
    live: Arc<LiveFeed>,
    telemetry_path: Arc<str>,
    ready: Arc<AtomicBool>,
}

impl Web {
    pub(crate) fn new(
        store: MetricStore,
        deployments: Arc<DeploymentManager>,
        reloader: Arc<Reloader>,
        live: Arc<LiveFeed>,
        telemetry_path: &str,
    ) -> Self {
        let telemetry_path = telemetry_path.into();
        Self { store, deployments, reloader, live, telemetry_path, ready: Arc::default() }
    }

    fn router(self) -> Router {
        Router::new()
            .route(&self.telemetry_path, get(metrics))
            .route("/probe", get(probe))
            .merge(live::routes())
            .layer(CompressionLayer::new())
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .route("/-/reload", post(reload).put(reload))
            .with_state(self)
    }

    /// The server for these routes, under this access control.
    pub(crate) fn server(
        self,
        access: Arc<AccessControl>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Server {
        let guard = middleware::from_fn_with_state(Arc::clone(&access), access::guard);
        Server::new(self.router().layer(guard), access, tasks, stop)
    }

    /// Whether every collector of every member has been polled once. It stays true when members join later.
    fn is_ready(&self) -> bool {
        if !self.ready.load(Ordering::Relaxed) && self.store.all_polled() {
            self.ready.store(true, Ordering::Relaxed);
        }
        self.ready.load(Ordering::Relaxed)
    }
}

async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Response {
    encode::page(&web.store, &headers)
}

/// Probes a configured target by its name. URIs and passwords are not accepted in a query: they would be in the
/// log of every proxy, and a client could have the credentials sent anywhere.
async fn probe(
    State(web): State<Web>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    // The parser's message is not used, since it may repeat the query.
    let Ok(Query(query)) = query else {
        return (StatusCode::BAD_REQUEST, "the query cannot be read\n").into_response();
    };
    let (target, auth_module) = match parse_probe_query(&query) {
        Ok(names) => names,
        Err(refused) => return (StatusCode::BAD_REQUEST, refused).into_response(),
    };
    match web.deployments.probe(target, auth_module, scrape_timeout(&headers)).await {
        Ok(store) => encode::page(&store, &headers),
        Err(error) => {
            let status = match &error {
                ProbeError::Target | ProbeError::AuthModule => StatusCode::NOT_FOUND,
                ProbeError::TwoUsers => StatusCode::BAD_REQUEST,
                ProbeError::Forbidden => StatusCode::FORBIDDEN,
                ProbeError::Start => StatusCode::INTERNAL_SERVER_ERROR,
                ProbeError::Busy => {
                    let retry = [(RETRY_AFTER, "1")];
                    return (StatusCode::SERVICE_UNAVAILABLE, retry, format!("{error}\n")).into_response();
                }
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

/// The names of the target and of the auth module, or why the query is rejected.
fn parse_probe_query(query: &HashMap<String, String>) -> Result<(&str, Option<&str>), &'static str> {
    if query.keys().any(|name| name != "target" && name != "auth_module") {
        return Err("unknown parameter: use target and auth_module\n");
    }
    let Some(target) = query.get("target").filter(|target| !target.is_empty()) else {
        return Err("which target? /probe?target=NAME, with a name from the configuration\n");
    };
    if !is_name(target) {
        return Err("target must be a configured name; URIs are not accepted here\n");
    }
    Ok((target, query.get("auth_module").map(String::as_str)))
}

/// The time that the client waits, if it says so.
fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    Some(Duration::try_from_secs_f64(seconds).ok()?.saturating_sub(RESPONSE_MARGIN))
}

/// Parses untrusted text, for fuzzing: the query of a probe, the scrape timeout, `Host`, `Origin` and
/// `Authorization`, and the web configuration file.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(text: &str) {
    if let Ok(uri) = format!("/probe?{text}").parse()
        && let Ok(Query(query)) = Query::try_from_uri(&uri)
        && let Ok((target, _)) = parse_probe_query(&query)
    {
        assert!(is_name(target), "an invalid name was accepted");
    }
    if let Ok(value) = text.parse() {
        scrape_timeout(&HeaderMap::from_iter([(axum::http::HeaderName::from_static(SCRAPE_TIMEOUT), value)]));
    }
    if let Ok(value) = axum::http::HeaderValue::try_from(text) {
        use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
        let mut request = axum::extract::Request::default();
        for name in [HOST, ORIGIN, AUTHORIZATION] {
            request.headers_mut().insert(name, value.clone());
        }
        origin::is_cross_site(request.headers());
        origin::has_allowed_host(&request, &[], true);
        users::read(request.headers());
    }
    let _ = file::WebFile::parse(std::path::Path::new("web.yml"), text);
}

/// Liveness: the process answers.
async fn healthy() -> &'static str {
    "txnscope is healthy\n"
}

/// Readiness: the first polls have ended. An unreachable database does not make the sidecar unready: reporting
/// that is its job.
async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    if !web.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first polls have not ended\n".to_owned());
    }
    let mut text = "txnscope is ready\n".to_owned();
    let now = Instant::now();
    for member in web.store.members() {
        let _ = writeln!(text, "{}: {}", member.address(), state(&member, now));
    }
    (StatusCode::OK, text)
}

/// Reloads the configuration. Requests from pages of other sites are rejected, and the rate is limited.
async fn reload(State(web): State<Web>, headers: HeaderMap) -> Response {
    if origin::is_cross_site(&headers) {
        let text = "this is a cross-site request, which may not reload the configuration\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match web.reloader.reload_from_web().await {
        Ok(()) => (StatusCode::OK, "the configuration has been read again\n").into_response(),
        Err(WebReloadError::RateLimited) => {
            let text = "too many reloads: try again in a second\n";
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], text).into_response()
        }
        Err(WebReloadError::Refused(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

fn state(member: &MemberState, now: Instant) -> &'static str {
    match member.up(now) {
        Some(true) => "up",
        Some(false) => "down",
        None => "not asked yet",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::config::Config;
    use crate::error::PollErrorReason;
    use crate::reload::ReloadStatus;
    use crate::sample_set::SampleSet;
    use crate::snapshot::Snapshot;

    async fn get(web: &Web, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = web.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn web() -> (Web, Snapshot) {
        let (snapshot, record) = (Snapshot::default(), Arc::new(ReloadStatus::new()));
        let store = MetricStore::from(snapshot.clone());
        let deployments = DeploymentManager::new(store.clone(), TaskTracker::new(), CancellationToken::new());
        let access = AccessControl::new(&Config::default(), Arc::default(), Arc::clone(&record)).unwrap();
        let deployments = Arc::new(deployments);
        let reloader =
            Reloader::new(Config::default(), None, Arc::clone(&deployments), Arc::new(access), record);
        let live = Arc::new(LiveFeed::new(Arc::clone(&deployments), store.clone(), "/metrics"));
        (Web::new(store, deployments, Arc::new(reloader), live, "/metrics"), snapshot)
    }

    #[tokio::test]
    async fn sidecar_is_ready_after_the_first_polls() {
        let (web, snapshot) = web();
        assert_eq!(get(&web, "/-/healthy").await.0, StatusCode::OK);
        assert_eq!(get(&web, "/-/ready").await.0, StatusCode::SERVICE_UNAVAILABLE, "no member is known");
        let member = MemberState::new("db1:27017".into(), String::new(), [].into_iter());
        let member = Arc::new(member);
        snapshot.insert(Arc::clone(&member));
        assert_eq!(get(&web, "/-/ready").await.0, StatusCode::SERVICE_UNAVAILABLE, "no poll has ended");
        let second = std::time::Duration::from_secs(1);
        member.status().record(Instant::now(), second, Err(PollErrorReason::Network));
        let (status, body) = get(&web, "/-/ready").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("db1:27017: down"), "{body}");
        member.status().record(Instant::now(), second, Ok(SampleSet::default()));
        assert!(get(&web, "/-/ready").await.1.contains("db1:27017: up"));
        snapshot.insert(Arc::new(MemberState::new("db2:27017".into(), String::new(), [].into_iter())));
        assert_eq!(
            get(&web, "/-/ready").await.0,
            StatusCode::OK,
            "a joining member does not affect readiness"
        );
    }

    /// A reverse proxy may serve the page under a prefix, so that only relative URLs are right.
    #[tokio::test]
    async fn live_page_has_relative_urls_that_exist() {
        let (web, _) = web();
        for path in ["/", "/live"] {
            let (status, page) = get(&web, path).await;
            assert_eq!(status, StatusCode::OK);
            let after = |attribute: &'static str| {
                page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next())
            };
            let urls: Vec<_> = after("href=\"").chain(after("src=\"")).collect();
            assert!(urls.contains(&"metrics") && urls.contains(&"live/page.js"), "{urls:?}");
            for url in urls {
                let is_relative = !url.starts_with('/') && !url.contains(':');
                assert!(is_relative || url.starts_with("https://github.com/txnscope/"), "{url}");
                if is_relative && url != "-/ready" {
                    assert_eq!(get(&web, &format!("/{url}")).await.0, StatusCode::OK, "{url}");
                }
            }
        }
        assert_eq!(get(&web, "/nowhere").await.0, StatusCode::NOT_FOUND);
        assert_eq!(get(&web, "/live/nowhere").await.0, StatusCode::NOT_FOUND);
    }
}
