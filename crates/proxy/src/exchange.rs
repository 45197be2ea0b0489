//! One exchange with the backend, from the request's head to the last byte of the answer: the service that the
//! [`TransactionLayer`](txnscope::TransactionLayer) wraps.
//!
//! The exchange hands the head of the answer over as soon as there is one, and ends when the body has ended. It runs in no
//! task of its own: the caller's connection polls it until the head is there, and the body that the caller reads polls it
//! from then on. So it is dropped with either of the two when the caller leaves, which the layer counts as cancelled, and
//! what it holds of the backend's connection goes with it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tower_service::Service;
use txnscope::{Classification, ClassifyRequest, ClassifyResponse, OperationName, Reason, ResponseFuture};

use crate::body::{End, ResponseBody, TooSlow, length};
use crate::config::{ForwardedPolicy, UpstreamAddress, UpstreamSettings};
use crate::forwarded::{Caller, forwarded};
use crate::handover::Handover;
use crate::head_check::Refusal;
use crate::headers;
use crate::learn::Learner;
use crate::operations::{
    Head, Matched, UPSTREAM_RESET, UPSTREAM_TIMEOUT, UPSTREAM_UNREACHABLE, classify, needs_headers,
    wants_body,
};
use crate::timers::Timers;
use crate::tunnel::Tunnels;
use crate::upload::{Upload, UploadWatch};
use crate::upstream::{Lease, SendError, Upstream};

/// How long the backend may take to say `100 Continue` before the body is sent without.
const CONTINUE: Duration = Duration::from_secs(1);

/// A counted exchange that goes on.
pub(crate) type Operation = Pin<Box<ResponseFuture<Exchanging, Classifier>>>;

/// An exchange that goes on.
pub(crate) type Exchanging = Pin<Box<dyn Future<Output = Result<Classification, Infallible>> + Send>>;

/// What is exchanged, and where the answer goes.
pub(crate) struct ExchangeRequest {
    pub(crate) request: Request<Incoming>,
    pub(crate) matched: Option<Matched>,
    /// The authority that the request is for, or why it is refused.
    pub(crate) checked: Result<Option<Authority>, Refusal>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) caller: Arc<Caller>,
}

/// Exchanges requests and answers with the backend.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<Shared>);

struct Shared {
    upstream: Upstream,
    /// What a request is for that does not say it.
    authority: HeaderValue,
    scheme: Scheme,
    settings: UpstreamSettings,
    forwarded: ForwardedPolicy,
    max_body: Option<u64>,
    tunnels: Tunnels,
    timers: Timers,
    learner: Option<Arc<Learner>>,
}

/// Names the operation by what was matched, and takes the exchange's own word for what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classifier;

impl ClassifyRequest<ExchangeRequest> for Classifier {
    fn operation<'a>(&'a self, request: &'a ExchangeRequest) -> Option<OperationName<'a>> {
        request.matched.map(Matched::name)
    }
}

impl ClassifyResponse<Classification, Infallible> for Classifier {
    fn response(&self, ended: &Classification) -> Classification {
        ended.clone()
    }

    fn error(&self, never: &Infallible) -> Classification {
        match *never {}
    }
}

impl Service<ExchangeRequest> for Exchange {
    type Response = Classification;
    type Error = Infallible;
    type Future = Exchanging;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ExchangeRequest) -> Exchanging {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Ok(shared.exchange(request).await) })
    }
}

/// Why there is no answer of the backend's.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the backend did not answer within the time limit")]
    UpstreamTimeout,
    #[error("the caller did not send the rest of the request within the time limit")]
    CallerTimeout,
}

impl Exchange {
    pub(crate) fn new(
        upstream: Upstream,
        address: &UpstreamAddress,
        settings: UpstreamSettings,
        forwarded: ForwardedPolicy,
        max_body: Option<u64>,
        tunnels: Tunnels,
        learner: Option<Arc<Learner>>,
    ) -> Self {
        Self(Arc::new(Shared {
            upstream,
            authority: address.authority(),
            scheme: if address.is_tls() { Scheme::HTTPS } else { Scheme::HTTP },
            settings,
            forwarded,
            max_body,
            tunnels,
            timers: Timers::default(),
            learner,
        }))
    }

    /// Closes connections to the backend as they grow old, for as long as it is polled.
    pub(crate) async fn close_old_connections(&self) {
        let every = self.0.settings.idle_timeout.max(Duration::from_millis(100));
        self.0.upstream.close_old(every).await;
    }
}

impl Shared {
    async fn exchange(&self, exchange: ExchangeRequest) -> Classification {
        let ExchangeRequest { mut request, matched, checked, handover, caller } = exchange;
        let authority = match checked {
            Ok(authority) => authority,
            Err(refusal) => {
                handover.respond(answer(refusal.status, refusal.why));
                return Classification::rejected(Reason::INVALID_REQUEST).with_source(refusal.why);
            }
        };
        let wants_upgrade =
            (request.version() == Version::HTTP_11).then(|| headers::upgrade(request.headers())).flatten();
        let upgraded = wants_upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let learning =
            self.learner.as_ref().map(|_| (request.method().clone(), request.uri().path().to_owned()));
        let http2 = wants_upgrade.is_none() && (self.settings.http2 || is_grpc(&request));
        let (request, watch) = self.prepare(request, authority, wants_upgrade, http2, &caller);
        let (response, lease) = match self.head(request, http2, &watch).await {
            Ok(sent) => sent,
            Err(failure) => return failed(failure, &watch, &handover),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, upgraded, &handover);
        }
        let (mut head, inner) = response.into_parts();
        if let Err(why) = headers::settle_framing(&mut head.headers) {
            handover.respond(answer(StatusCode::BAD_GATEWAY, why));
            return Classification::failed(UPSTREAM_RESET).with_source(why);
        }
        headers::remove_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let status = head.status;
        let seen = Head { status, headers: &head.headers };
        let look = matched.is_some_and(|matched| wants_body(matched.rules(), seen))
            || (learning.is_some() && status.is_client_error());
        // What classifies is looked at when the body has ended, and nearly no success needs its headers for that.
        let needs_headers = matched.is_some_and(|matched| needs_headers(matched.rules(), seen));
        let kept = if needs_headers { head.headers.clone() } else { HeaderMap::new() };
        let body =
            ResponseBody::stream(inner, Arc::clone(&handover), lease, look, self.settings.read_timeout);
        handover.respond(Response::from_parts(head, body));
        let end = poll_fn(|_| handover.take_end().map_or(Poll::Pending, Poll::Ready)).await;
        watch.end();
        match end {
            End::Complete { body, trailers } => {
                if let (Some(learner), Some((method, path))) = (&self.learner, learning) {
                    learner.learn(&method, &path, status, body.as_deref());
                }
                let Some(matched) = matched else { return Classification::from_status(status) };
                let head = Head { status, headers: &kept };
                classify(matched.rules(), head, trailers.as_ref(), body.as_deref())
            }
            End::Reset(error) => Classification::failed(UPSTREAM_RESET).with_source(error),
            End::Timeout => Classification::failed(UPSTREAM_TIMEOUT).with_source(TooSlow),
        }
    }

    /// The request as the backend gets it.
    fn prepare(
        &self,
        request: Request<Incoming>,
        authority: Option<Authority>,
        upgrade: Option<HeaderValue>,
        http2: bool,
        caller: &Caller,
    ) -> (Request<Upload>, Arc<UploadWatch>) {
        let (mut head, body) = request.into_parts();
        let expects_continue = head.headers.get(EXPECT).is_some_and(is_continue) && !body.is_end_stream();
        headers::remove_hop_by_hop(&mut head.headers);
        headers::join_cookies(&mut head.headers);
        if let Some(host) = authority
            && head.headers.get(HOST).is_none_or(|given| given != host.as_str())
            && let Ok(host) = HeaderValue::from_str(host.as_str())
        {
            head.headers.insert(HOST, host);
        }
        forwarded(&mut head.headers, self.forwarded, caller);
        let target = head.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if http2 {
            head.version = Version::HTTP_2;
            head.headers.remove(EXPECT);
            let host = head.headers.remove(HOST).unwrap_or_else(|| self.authority.clone());
            let uri = Uri::builder().scheme(self.scheme.clone()).authority(host.as_bytes());
            head.uri = uri.path_and_query(target).build().unwrap_or_default();
        } else {
            head.version = Version::HTTP_11;
            if !head.headers.contains_key(HOST) {
                head.headers.insert(HOST, self.authority.clone());
            }
            head.uri = Uri::from(target);
        }
        if let Some(protocol) = upgrade {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol);
        }
        head.extensions.clear();
        let (upload, watch) = Upload::new(body, expects_continue && !http2, self.max_body);
        let mut request = Request::from_parts(head, upload);
        if expects_continue && !http2 {
            let watch = Arc::clone(&watch);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    watch.open();
                }
            });
        }
        (request, watch)
    }

    /// The head of the backend's answer.
    async fn head(
        &self,
        request: Request<Upload>,
        http2: bool,
        watch: &UploadWatch,
    ) -> Result<(Response<Incoming>, Option<Lease>), Failure> {
        let limit = self.settings.timeout;
        let expects_continue = request.headers().contains_key(EXPECT);
        let mut sending = pin!(self.upstream.send(request, http2));
        let mut timer = self.timers.start(if expects_continue { limit.min(CONTINUE) } else { limit });
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return Ok(sent?),
                () = &mut timer => {}
            }
            watch.open();
            let since = watch.since_progress();
            if since >= limit {
                let caller = watch.waits_for_caller();
                return Err(if caller { Failure::CallerTimeout } else { Failure::UpstreamTimeout });
            }
            timer.reset(limit - since);
        }
    }

    /// The backend speaks another protocol from here on: the operation has succeeded, and what follows is not counted.
    fn switch(
        &self,
        mut response: Response<Incoming>,
        caller: Option<OnUpgrade>,
        handover: &Handover,
    ) -> Classification {
        let protocol = headers::upgrade(response.headers());
        let (Some(caller), Some(protocol)) = (caller, protocol) else {
            let why = "the backend changed to a protocol that was not asked for";
            handover.respond(answer(StatusCode::BAD_GATEWAY, why));
            return Classification::failed(UPSTREAM_RESET).with_source(why);
        };
        self.tunnels.open(caller, hyper::upgrade::on(&mut response));
        let (mut head, _) = response.into_parts();
        headers::remove_hop_by_hop(&mut head.headers);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
        head.extensions.clear();
        handover.respond(Response::from_parts(head, ResponseBody::text("")));
        Classification::succeeded()
    }
}

/// gRPC is spoken by HTTP/2, as its status comes in trailers.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind.starts_with(b"application/grpc")
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

fn failed(failure: Failure, watch: &UploadWatch, handover: &Handover) -> Classification {
    let (status, classification) = match &failure {
        Failure::Send(SendError::Reset(_)) if watch.is_too_large() => {
            (StatusCode::PAYLOAD_TOO_LARGE, Classification::rejected(Reason::INVALID_REQUEST))
        }
        Failure::Send(SendError::Reset(_)) if watch.is_broken() => {
            (StatusCode::BAD_REQUEST, Classification::rejected(Reason::INVALID_REQUEST))
        }
        Failure::Send(SendError::Reset(_)) => {
            (StatusCode::BAD_GATEWAY, Classification::failed(UPSTREAM_RESET))
        }
        Failure::Send(SendError::Unreachable(error)) => {
            let is_slow = error.kind() == std::io::ErrorKind::TimedOut;
            let status = if is_slow { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
            (status, Classification::failed(UPSTREAM_UNREACHABLE))
        }
        Failure::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, Classification::failed(UPSTREAM_TIMEOUT)),
        Failure::CallerTimeout => {
            (StatusCode::REQUEST_TIMEOUT, Classification::rejected(Reason::INVALID_REQUEST))
        }
    };
    let why = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too large",
        StatusCode::BAD_REQUEST => "the body of the request is malformed",
        StatusCode::REQUEST_TIMEOUT => "the rest of the request did not come in time",
        StatusCode::GATEWAY_TIMEOUT => "the backend did not answer in time",
        _ => "the backend cannot be reached, or broke off before its answer",
    };
    handover.respond(answer(status, why));
    classification.with_source(failure)
}

/// An answer of the proxy's own, after which the caller's connection is closed where the request was at fault: what
/// follows on it may be the rest of what was refused.
pub(crate) fn answer(status: StatusCode, why: &'static str) -> Response<ResponseBody> {
    let text = format!("{why}\n");
    let length = length(&text);
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, length);
    if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
