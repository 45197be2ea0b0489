//! Protection against requests that another site's page makes a browser send.
//!
//! Cross-site requests are recognized by `Sec-Fetch-Site` and `Origin`. DNS rebinding (a foreign host name that
//! resolves to this machine) is recognized by `Host`.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// Whether a browser marks the request as coming from another site's page.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (&origin, host) {
        (Some(origin), Some(host)) if origin.scheme().is_some() => {
            !origin.authority().is_some_and(|origin| origin.as_str().eq_ignore_ascii_case(host))
        }
        // `null`, or a malformed origin.
        (Some(_) | None, _) => true,
    }
}

/// Whether the request's `Host` is allowed: an address, `localhost`, or a name in `allowed`. If `allowed` is
/// empty, every name is, except on loopback addresses.
pub(super) fn has_allowed_host(request: &Request, allowed: &[String], is_local: bool) -> bool {
    if allowed.is_empty() && !is_local {
        return true;
    }
    let may = |authority: &str| {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        // A DNS name may end with a dot.
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_address = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => name.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        is_address
            || name == "localhost"
            || name.ends_with(".localhost")
            || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
    };
    let hosts = request.headers().get_all(HOST).iter();
    // HTTP/1.0 has no `Host`; no browser uses it.
    let mut hosts = hosts.map(|host| host.to_str());
    let is_right = hosts.all(|host| host.is_ok_and(may));
    is_right && request.uri().authority().is_none_or(|authority| may(authority.as_str()))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let of = of.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), axum::http::HeaderValue::from_str(value).unwrap())
        });
        of.collect()
    }

    #[test]
    fn cross_site_request_is_detected() {
        for ours in [
            &[][..],
            &[("host", "a:1")],
            &[("host", "a:1"), ("origin", "http://a:1")],
            &[("host", "A:1"), ("origin", "https://a:1"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!is_cross_site(&headers(ours)), "{ours:?}");
        }
        for theirs in [
            &[("host", "a:1"), ("origin", "http://b:1")][..],
            &[("host", "a:1"), ("origin", "http://a:2")],
            &[("host", "a:1"), ("origin", "null")],
            &[("host", "a:1"), ("origin", "")],
            &[("origin", "http://a:1")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(is_cross_site(&headers(theirs)), "{theirs:?}");
        }
    }

    #[test]
    fn dns_rebinding_host_is_rejected() {
        let is_right = |uri: &str, host: Option<&str>, allowed: &[String], is_local| {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            has_allowed_host(&request.body(Body::empty()).unwrap(), allowed, is_local)
        };
        let ours = ["txnscope.example".to_owned()];
        for host in [
            "127.0.0.1:9917",
            "127.0.0.1",
            "[::1]:9917",
            "localhost",
            "LocalHost:9917",
            "localhost.",
            "a.localhost",
            "10.0.0.1:1",
        ] {
            assert!(is_right("/", Some(host), &[], true), "{host}");
            assert!(is_right("/", Some(host), &ours, false), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9917",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
        ] {
            assert!(!is_right("/", Some(host), &[], true), "{host}");
            assert!(!is_right("/", Some(host), &ours, true), "{host}");
            assert!(!is_right("/", Some(host), &ours, false), "{host}");
        }
        assert!(is_right("/", Some("TXNSCOPE.example:80"), &ours, true));
        assert!(is_right("/", Some("sidecar.monitoring.svc"), &[], false), "Prometheus asks by names");
        assert!(is_right("/", None, &[], true));
        assert!(!is_right("http://evil.example/", Some("localhost"), &[], true));
    }
}
