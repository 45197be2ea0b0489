//! Whether a request is what it seems: a browser that shows somebody else's page can be made to send requests here.
//!
//! Against pages of other sites there is what browsers say of a request's origin. Against a name of somebody else's that
//! leads to this machine (DNS rebinding) there is the name by which we are called, in `Host`.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// Whether a browser says that another site's page has made it send this.
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
        // `null`, or something odd.
        (Some(_) | None, _) => true,
    }
}

/// Whether we may be called by the name that the request calls us. `allowed` are names besides addresses and
/// `localhost`; if there is none, every name will do, but not where only this machine reaches us.
pub(super) fn has_allowed_host(request: &Request, allowed: &[String], is_local: bool) -> bool {
    if allowed.is_empty() && !is_local {
        return true;
    }
    let may = |authority: &str| {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        // A name may end with a dot, as those of DNS do.
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
    // HTTP/1.0 has no `Host`; no browser speaks it.
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
    fn a_page_of_another_site_is_told_by_what_the_browser_says() {
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
    fn a_name_that_leads_here_is_none_of_ours() {
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
