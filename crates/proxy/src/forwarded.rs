//! Headers that tell the backend who has called.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::config::ForwardedPolicy;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who has called. What the headers say of it is formatted once for all requests of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    forwarded_for: HeaderValue,
    /// The beginning of an element of `Forwarded`: `for=192.0.2.7`.
    node: String,
}

impl Caller {
    pub(crate) fn new(address: IpAddr) -> Self {
        let canonical = address.to_canonical();
        let unknown = |_| HeaderValue::from_static("unknown");
        let node = match canonical {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        };
        Self {
            address,
            forwarded_for: HeaderValue::try_from(canonical.to_string()).unwrap_or_else(unknown),
            node,
        }
    }

    /// An element of `Forwarded`: `for=192.0.2.7;host="example.org";proto=http`.
    fn element(&self, host: Option<&HeaderValue>) -> HeaderValue {
        const PROTO: &str = ";proto=http";
        let host = host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
        let host = host.map_or([""; 3], |host| [";host=\"", host, "\""]);
        let pieces = [self.node.as_str(), host[0], host[1], host[2], PROTO];
        HeaderValue::try_from(pieces.concat()).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
    }
}

/// Tells the backend who has called.
pub(crate) fn forwarded(headers: &mut HeaderMap, policy: ForwardedPolicy, caller: &Caller) {
    if policy == ForwardedPolicy::Off {
        return;
    }
    headers.reserve(4);
    let host = headers.get(HOST).cloned();
    let (node, element) = (caller.forwarded_for.clone(), caller.element(host.as_ref()));
    let is_new =
        |headers: &HeaderMap, name| policy == ForwardedPolicy::Replace || !headers.contains_key(name);
    if is_new(headers, X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    match host {
        Some(host) if is_new(headers, X_FORWARDED_HOST) => drop(headers.insert(X_FORWARDED_HOST, host)),
        None if policy == ForwardedPolicy::Replace => drop(headers.remove(X_FORWARDED_HOST)),
        Some(_) | None => {}
    }
    for (name, value) in [(X_FORWARDED_FOR, node), (FORWARDED, element)] {
        let value = if policy == ForwardedPolicy::Append { appended(headers, &name, value) } else { value };
        headers.insert(name, value);
    }
}

/// The list in one header, whatever lines it came in, and the element at its end.
fn appended(headers: &HeaderMap, name: &HeaderName, element: HeaderValue) -> HeaderValue {
    let mut list: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    list.retain(|elements| !elements.is_empty());
    if list.is_empty() {
        return element;
    }
    list.push(element.as_bytes());
    HeaderValue::try_from(list.join(&b", "[..])).unwrap_or(element)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::{map, text};

    #[test]
    fn what_a_caller_claims_is_replaced_extended_or_left() {
        let claimed = [
            ("host", "shop"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=6.6.6.6"),
        ];
        let caller = Caller::new(IpAddr::from([192, 0, 2, 7]));
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Replace, &caller);
        assert_eq!(text(&headers, "x-forwarded-for"), "192.0.2.7");
        assert_eq!(text(&headers, "x-forwarded-proto"), "http");
        assert_eq!(text(&headers, "x-forwarded-host"), "shop");
        assert_eq!(text(&headers, "forwarded"), "for=192.0.2.7;host=\"shop\";proto=http");
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Append, &caller);
        assert_eq!(text(&headers, "x-forwarded-for"), "6.6.6.6, 192.0.2.7");
        assert_eq!(text(&headers, "x-forwarded-proto"), "https");
        assert_eq!(text(&headers, "forwarded"), "for=6.6.6.6, for=192.0.2.7;host=\"shop\";proto=http");
        let mut headers = map(&claimed);
        forwarded(&mut headers, ForwardedPolicy::Off, &caller);
        assert_eq!(headers, map(&claimed));
    }
}
