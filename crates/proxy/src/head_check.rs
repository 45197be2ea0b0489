//! What is refused before it reaches the backend: requests of which two readers could think differently.
//!
//! hyper refuses most of it: two lengths that differ, a length that is no number, folded lines, bare carriage returns,
//! control characters, spaces in names. What it lets through and a backend may read otherwise is refused here.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};

use crate::config::Limits;
use crate::framing::Reading;

/// A request that is refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
}

impl Refusal {
    /// The head is too large.
    pub(crate) fn is_of_head(self) -> bool {
        self.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    }
}

const fn bad(why: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, why }
}

/// The authority that the request is for.
///
/// # Errors
///
/// If the request is refused.
pub(crate) fn check<B>(request: &Request<B>, limits: &Limits) -> Result<Option<Authority>, Refusal>
where
    B: http_body::Body,
{
    // hyper does so as well, but only of a head that it has read in pieces.
    if length(request) > limits.max_head {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal { status, why: "the head of the request is too large" });
    }
    if request.method() == Method::CONNECT {
        return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why: "CONNECT is not offered" });
    }
    let uri = request.uri();
    let is_asterisk = uri.path() == "*";
    if is_asterisk && request.method() != Method::OPTIONS {
        return Err(bad("`*` is a target of OPTIONS only"));
    }
    if !is_asterisk && !uri.path().starts_with('/') {
        return Err(bad("the target of the request is no path"));
    }
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("the scheme of the target is neither http nor https"));
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() {
            return Err(bad("there are two Transfer-Encoding headers"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            let why = "a transfer coding other than chunked is not offered";
            return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, why });
        }
    }
    if let (Some(most), Some(length)) = (limits.max_body, request.body().size_hint().exact())
        && length > most
    {
        return Err(Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, why: "the body is too large" });
    }
    authority(request)
}

/// The bytes of the head as HTTP/1.1 writes it.
fn length<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let line = request.method().as_str().len() + " ".len() + target + " HTTP/1.1\r\n".len();
    let headers =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + headers.sum::<usize>() + "\r\n".len()
}

/// What the second reader of the caller's bytes has found.
///
/// # Errors
///
/// If the request is refused: it is ambiguous, or it has chunks and it is unknown whether it had a length, too.
pub(crate) fn second_reader<B>(request: &Request<B>, reading: Reading) -> Result<(), Refusal> {
    match reading {
        Reading::Clear => Ok(()),
        Reading::Ambiguous(why) => Err(bad(why)),
        Reading::Unknown if request.headers().contains_key(TRANSFER_ENCODING) => {
            Err(bad("the connection cannot be followed any more"))
        }
        Reading::Unknown => Ok(()),
    }
}

fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match hosts.next() {
        None => None,
        // An empty name is legal in HTTP/1.1, where the target has none.
        Some(host) if host.is_empty() => None,
        Some(host) => {
            let host =
                Authority::try_from(host.as_bytes()).map_err(|_| bad("the Host header is malformed"))?;
            if host.as_str().contains('@') {
                return Err(bad("the Host header is malformed"));
            }
            Some(host)
        }
    };
    if hosts.next().is_some() {
        return Err(bad("there are two Host headers"));
    }
    let target = request.uri().authority();
    if target.is_some_and(|target| target.as_str().contains('@')) {
        return Err(bad("the authority of the target has a user"));
    }
    let has_host = request.headers().contains_key(HOST);
    match request.version() {
        Version::HTTP_11 if !has_host => Err(bad("the Host header is missing")),
        Version::HTTP_2 => match (target, &host) {
            (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
                Err(bad("the authority and the Host header differ"))
            }
            (None, None) => Err(bad("the authority is missing")),
            (target, host) => Ok(target.or(host.as_ref()).cloned()),
        },
        // An absolute target goes before the header.
        _ => Ok(target.cloned().or(host)),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    fn refused(request: http::request::Builder) -> Option<&'static str> {
        check(&request.body(Empty::<bytes::Bytes>::new()).unwrap(), &Limits::default())
            .err()
            .map(|refusal| refusal.why)
    }

    #[test]
    fn a_request_that_can_be_read_in_two_ways_is_refused() {
        let get = |target: &str| Request::get(target.to_owned());
        assert_eq!(refused(get("/").header("host", "shop:80")), None);
        assert_eq!(refused(get("http://shop/").header("host", "other")), None);
        assert_eq!(refused(Request::options("*").header("host", "shop")), None);
        assert_eq!(refused(get("/")), Some("the Host header is missing"));
        assert_eq!(refused(get("/").version(Version::HTTP_10)), None);
        for (request, why) in [
            (get("/").header("host", "a").header("host", "a"), "two Host"),
            (get("/").header("host", "a b"), "malformed"),
            (get("/").header("host", "a@b"), "malformed"),
            (get("/").header("host", "a/b"), "malformed"),
            (get("*").header("host", "a"), "OPTIONS"),
            (get("a:80").header("host", "a"), "no path"),
            (get("ftp://a/").header("host", "a"), "scheme"),
            (get("/").header("host", "a").header("transfer-encoding", "gzip, chunked"), "transfer coding"),
            (get("/").header("host", "a").header("transfer-encoding", "chunked, chunked"), "transfer coding"),
            (get("/").version(Version::HTTP_2), "authority is missing"),
            (get("http://a/").version(Version::HTTP_2).header("host", "b"), "differ"),
            (Request::connect("a:80").header("host", "a"), "CONNECT"),
            (get("/").header("host", "a").header("x", "y".repeat(64 * 1024)), "too large"),
        ] {
            let shown = format!("{request:?}");
            let found = refused(request).unwrap_or_default();
            assert!(found.contains(why), "{shown}: {found:?}");
        }
    }
}
