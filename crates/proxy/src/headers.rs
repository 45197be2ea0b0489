//! Headers of one hop, which end here.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// The headers of one hop, whether `Connection` names them or not.
static HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
];

/// What a caller does not name away: to whom the request goes and where it ends.
const NOT_NAMED_AWAY: [&str; 2] = ["host", "content-length"];

/// Removes what is said of one connection, and what its `Connection` header names. `Trailer` stays, as trailers do, and so
/// does `TE: trailers`.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most requests have none of them, and to look each one up costs more than all else that is done to a head.
    let mut found = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        if let Some(place) = HOP_BY_HOP.iter().position(|hop_by_hop| *hop_by_hop == name.as_str()) {
            found[place] = true;
        }
    }
    if !found.contains(&true) {
        return;
    }
    let is_one_of = |option: &str, names: &[&str]| names.iter().any(|name| option.eq_ignore_ascii_case(name));
    let options: Vec<_> = tokens(headers, &CONNECTION)
        .filter(|option| !is_one_of(option, &HOP_BY_HOP) && !is_one_of(option, &NOT_NAMED_AWAY))
        .map(str::to_ascii_lowercase)
        .collect();
    let wants_trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    for option in options {
        headers.remove(option);
    }
    for (name, found) in HOP_BY_HOP.iter().zip(found) {
        if found {
            headers.remove(*name);
        }
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

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + 'a {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The protocol that a message wants to change to, or has changed to. HTTP/2 over an upgrade is not passed on: its
/// requests would pass uncounted and unchecked through the tunnel.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    if !tokens(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let is_http = tokens(headers, &UPGRADE)
        .map(str::to_ascii_lowercase)
        .any(|token| token.starts_with("h2c") || token.starts_with("http"));
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(*name, HeaderValue::from_static(value));
            map
        })
    }

    pub(crate) fn text(headers: &HeaderMap, name: &str) -> String {
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
    fn cookies_in_pieces_become_one_header() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(text(&headers, "cookie"), "a=1; b=2");
    }
}
