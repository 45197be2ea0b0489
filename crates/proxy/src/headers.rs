//! Headers of one hop, which end here, and those that tell the backend who has called.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

use crate::config::ForwardedPolicy;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what is said of one connection, and what its `Connection` header names. `Trailer` stays, as trailers do, and so
/// does `TE: trailers`.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        // A caller does not name away what says to whom the request goes and where it ends.
        if let Ok(name) = HeaderName::try_from(name)
            && name != HOST
            && name != CONTENT_LENGTH
            && name != TE
        {
            headers.remove(name);
        }
    }
    let wants_trailers = tokens(headers, &TE).any(|token| token == "trailers");
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
        TE,
    ] {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Readies the head of an answer for being framed again. A length beside chunks is removed, as RFC 9112 asks of those who
/// pass such an answer on: hyper has read the chunks.
///
/// # Errors
///
/// If the body has a coding that would be lost.
pub(crate) fn settle_framing(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("the answer of the backend has a transfer coding other than chunked");
    }
    headers.remove(CONTENT_LENGTH);
    Ok(())
}

fn connection_options(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, &CONNECTION).collect()
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'a {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
}

/// The protocol that a message wants to change to, or has changed to. HTTP/2 over an upgrade is not passed on: its
/// requests would pass uncounted and unchecked through the tunnel.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    if !tokens(headers, &CONNECTION).any(|option| option == "upgrade") {
        return None;
    }
    let is_http =
        tokens(headers, &UPGRADE).any(|token| token.starts_with("h2c") || token.starts_with("http"));
    (!is_http).then(|| protocol.clone())
}

/// The cookies of HTTP/2, which may come in pieces, as HTTP/1.1 has them: in one header.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Tells the backend who has called.
pub(crate) fn forwarded(headers: &mut HeaderMap, policy: ForwardedPolicy, peer: Option<IpAddr>) {
    if policy == ForwardedPolicy::Off {
        return;
    }
    let peer = peer.map(|peer| peer.to_canonical());
    let host = headers.get(HOST).cloned();
    if policy == ForwardedPolicy::Replace {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            headers.remove(name);
        }
    }
    if let Some(peer) = peer {
        append(headers, X_FORWARDED_FOR, peer.to_string());
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let Some(host) = &host
        && !headers.contains_key(X_FORWARDED_HOST)
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    append(headers, FORWARDED, element(peer, host.as_ref()));
}

/// An element of `Forwarded`: `for=192.0.2.7;host="example.org";proto=http`.
fn element(peer: Option<IpAddr>, host: Option<&HeaderValue>) -> String {
    let mut element = match peer {
        Some(IpAddr::V4(address)) => format!("for={address}"),
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        None => "for=unknown".to_owned(),
    };
    if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\'])) {
        element.extend([";host=\"", host, "\""]);
    }
    element.push_str(";proto=http");
    element
}

/// Adds to the list in one header, whatever lines it came in.
fn append(headers: &mut HeaderMap, name: HeaderName, element: String) {
    let mut list: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    list.retain(|elements| !elements.is_empty());
    let value = if list.is_empty() {
        HeaderValue::try_from(element)
    } else {
        list.push(element.as_bytes());
        HeaderValue::try_from(list.join(&b", "[..]))
    };
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(*name, HeaderValue::from_static(value));
            map
        })
    }

    fn text(headers: &HeaderMap, name: &str) -> String {
        let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        values.join(" | ")
    }

    #[test]
    fn headers_of_one_hop_end_here() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("host", "shop"),
            ("content-length", "3"),
            ("trailer", "x-sum"),
            ("authorization", "Bearer x"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host", "te", "trailer"]);
        assert_eq!(text(&headers, "te"), "trailers");
    }

    #[test]
    fn only_a_named_upgrade_that_is_not_to_http_is_one() {
        let upgrades = |pairs: &[(&'static str, &'static str)]| upgrade(&map(pairs)).is_some();
        assert!(upgrades(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!upgrades(&[("upgrade", "websocket")]));
        assert!(!upgrades(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]));
        assert!(!upgrades(&[("connection", "upgrade"), ("upgrade", "websocket, HTTP/2.0")]));
    }

    #[test]
    fn what_a_caller_claims_is_replaced_extended_or_left() {
        let claimed = [
            ("host", "shop"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=6.6.6.6"),
        ];
        let peer = Some(IpAddr::from([192, 0, 2, 7]));
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Replace, peer);
        assert_eq!(text(&headers, "x-forwarded-for"), "192.0.2.7");
        assert_eq!(text(&headers, "x-forwarded-proto"), "http");
        assert_eq!(text(&headers, "x-forwarded-host"), "shop");
        assert_eq!(text(&headers, "forwarded"), "for=192.0.2.7;host=\"shop\";proto=http");
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Append, peer);
        assert_eq!(text(&headers, "x-forwarded-for"), "6.6.6.6, 192.0.2.7");
        assert_eq!(text(&headers, "x-forwarded-proto"), "https");
        assert_eq!(text(&headers, "forwarded"), "for=6.6.6.6, for=192.0.2.7;host=\"shop\";proto=http");
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Off, peer);
        assert_eq!(headers, map(&claimed));
    }

    #[test]
    fn cookies_in_pieces_become_one_header() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(text(&headers, "cookie"), "a=1; b=2");
    }
}
