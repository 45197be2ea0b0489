//! Addresses of members: in the normal form that is compared and exported, and in the form that the driver
//! dials.
//!
//! A replica set may name its members by any text. An address that cannot be dialed still names a member, and is
//! exported; characters that cannot be printed are escaped, so that they cannot forge a log line or a metrics
//! page.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use mongodb::options::ServerAddress;

const DEFAULT_PORT: u16 = 27_017;

/// The longest name that is exported: a host name (DNS allows 253 characters) and a port.
const MAX_LENGTH: usize = 260;

/// The replacement for an empty name: Prometheus drops labels with empty values.
const EMPTY_NAME: &str = "(empty)";

/// Parses an address that can be dialed; `None` if it cannot. Accepts more forms of IPv6 than the driver's
/// parser: with a zone, and without brackets, as the driver prints them.
pub(crate) fn parse(text: &str) -> Option<ServerAddress> {
    if text.len() > MAX_LENGTH || text.chars().any(|c| !is_label_char(c)) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            if !is_ipv6(host) {
                return None;
            }
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None if is_ipv6(text) => (text, None),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
        None => DEFAULT_PORT,
    };
    let of_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let is_host = !host.is_empty() && (host.chars().all(of_name) || is_ipv6(host));
    (is_host && port != 0).then(|| ServerAddress::Tcp { host: host.to_lowercase(), port: Some(port) })
}

/// Formats an address: with a port, and with brackets around IPv6.
pub(crate) fn format_address(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } => {
            let port = port.unwrap_or(DEFAULT_PORT);
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        }
        other => other.to_string(),
    }
}

/// Normalizes an address for comparison and export.
pub(crate) fn normalize(text: &str) -> String {
    parse(text).map_or_else(|| printable(text), |address| format_address(&address))
}

/// Makes untrusted text printable: characters that could steer a terminal are escaped, and long text is
/// truncated.
pub(crate) fn printable(text: &str) -> String {
    if text.is_empty() {
        return EMPTY_NAME.to_owned();
    }
    let mut printed = String::new();
    for c in text.chars() {
        if printed.len() > MAX_LENGTH {
            printed.push_str("...");
            break;
        }
        if is_label_char(c) {
            printed.push(c);
        } else {
            let _ = write!(printed, "{}", c.escape_unicode());
        }
    }
    printed
}

/// Letters and digits of any script, and visible ASCII. Stricter than what may be printed elsewhere, since the
/// text becomes a label. Some letters are invisible.
fn is_label_char(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric() && txnscope_catalog::is_printable(c))
}

fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let is_zone =
        |zone: &str| !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_addresses_are_normalized() {
        for (given, form) in [
            ("db1:27017", "db1:27017"),
            ("DB2", "db2:27017"),
            ("127.0.0.1:4", "127.0.0.1:4"),
            ("[::1]:27018", "[::1]:27018"),
            ("[::1]", "[::1]:27017"),
            ("::1", "[::1]:27017"),
            ("::1:27018", "[::1]:27018"),
            ("[FE80::1%eth0]:1", "[fe80::1%eth0]:1"),
            ("[::ffff:10.0.0.1]:2", "[::ffff:10.0.0.1]:2"),
            ("db_1.example.net.:7", "db_1.example.net.:7"),
            ("b\u{fc}cher:7", "b\u{fc}cher:7"),
        ] {
            assert!(parse(given).is_some(), "{given}");
            assert_eq!(normalize(given), form);
            assert_eq!(normalize(form), form, "the form of the form");
        }
    }

    #[test]
    fn invalid_address_is_rejected_and_still_printable() {
        let long = format!("{}:1", "a".repeat(300));
        for given in [
            "",
            ":27017",
            "db1:",
            "db1:0",
            "db1:70000",
            "db1:+1",
            "db1:x",
            "db1:1:2",
            "[::1",
            "[db1]:1",
            "[::1]x",
            "[::1%]:1",
            "[::1]:1:2",
            "/tmp/mongodb.sock",
            "user@db1:1",
            "db 1:1",
            "db1\n:1",
            "db\u{202e}1:1",
            "<db1>:1",
            &long,
        ] {
            assert_eq!(parse(given), None, "{given}");
            let printed = normalize(given);
            assert!(printed.chars().all(is_label_char) && printed.len() < 300, "{printed}");
            assert!(!printed.is_empty(), "{given:?}");
        }
        assert_eq!(normalize("db\u{1b}[2J:1"), "db\\u{1b}[2J:1");
    }
}
