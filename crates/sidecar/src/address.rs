//! The addresses of members: in the one form that is compared and shown, and in the one that can be dialed.
//!
//! A set names its members as it likes. A name that leads nowhere is a member all the same, and is shown; what cannot
//! be printed of it is escaped, so that it steers neither a log nor a page.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use mongodb::options::ServerAddress;

const DEFAULT_PORT: u16 = 27_017;

/// The longest name that is shown: that of a host, which DNS bounds at 253 characters, and a port.
const MAX_LENGTH: usize = 260;

/// What stands for a name that is none: a label without a value is no label.
const EMPTY_NAME: &str = "(empty)";

/// An address that can be dialed. `None`: nothing can be reached by it. More forms of an address of IPv6 are taken than
/// the driver's parser takes: with a zone, and without brackets, as the driver itself prints it.
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

/// How an address is shown: with a port, and with brackets around one of IPv6.
pub(crate) fn format_address(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } => {
            let port = port.unwrap_or(DEFAULT_PORT);
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        }
        other => other.to_string(),
    }
}

/// An address in the one form that is compared and shown.
pub(crate) fn normalize(text: &str) -> String {
    parse(text).map_or_else(|| printable(text), |address| format_address(&address))
}

/// A text of others, as it can be printed anywhere: escaped where it would steer a terminal, and no longer than a name
/// may be.
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

/// Letters and digits of any script, and what can be seen of ASCII: less than what can be printed elsewhere, since it
/// becomes a label. Some letters are invisible.
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
    fn addresses_of_members_have_one_form() {
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
    fn what_leads_nowhere_is_no_address_and_is_shown_all_the_same() {
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
