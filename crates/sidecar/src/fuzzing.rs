//! Entry points for fuzzers. Not part of the public API.

use mongodb::bson::{Bson, Document, RawDocument};

use crate::{collector, decode, live, target, topology, web};

/// Decodes a server's reply with every collector: as BSON, or as JSON, in which a fuzzer changes one value at a
/// time.
pub fn reply(bytes: &[u8]) {
    if bytes.first() == Some(&b'{') {
        if let Ok(Bson::Document(reply)) = serde_json::from_slice(bytes) {
            read(&reply);
        }
    } else if let Ok(raw) = RawDocument::from_bytes(bytes) {
        // The driver checks no more than this before it hands a reply on.
        read(&decode::decode_lossy(raw));
    }
}

fn read(reply: &Document) {
    collector::decode_all(reply);
    topology::read(reply);
    live::decode_all(reply);
}

/// Parses a backend's table of open transactions.
pub fn open_transactions(bytes: &[u8]) {
    collector::decode_table(bytes);
}

/// Parses a line of the server's log.
pub fn log_line(text: &str) {
    collector::decode_line(text);
}

/// Parses the query of a probe, request headers, and a web configuration file.
pub fn web(text: &str) {
    web::read(text);
}

/// Parses a URI.
pub fn uri(text: &str) {
    let target = target::Target::new(text);
    let _ = (target.has_secret_in_uri(), target.ignored_options(), target.check());
}

#[cfg(test)]
mod tests {
    use testkit::assert_no_panic;

    use super::*;

    fn text(read: impl Fn(&str)) -> impl Fn(&[u8]) {
        move |bytes| read(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn malformed_log_line_does_not_panic() {
        assert_no_panic("log_line", &[], 2_000, text(log_line));
    }

    #[test]
    fn malformed_reply_does_not_panic() {
        let fixtures = [
            "crates/sidecar/fixtures/mongod-8.0.json",
            "crates/sidecar/fixtures/mongos.json",
            "crates/sidecar/fixtures/live/index-6.0.json",
        ];
        assert_no_panic("reply", &fixtures, 2_000, reply);
    }

    #[test]
    fn malformed_web_file_query_or_uri_does_not_panic() {
        assert_no_panic("web", &[], 1_000, text(web));
        assert_no_panic("web", &[], 1_000, text(uri));
    }

    #[test]
    fn malformed_backend_table_does_not_panic() {
        assert_no_panic("answer", &[], 1_000, open_transactions);
    }
}
