//! Where a fuzzer comes in. No part of the interface: it changes with what is behind it.

use mongodb::bson::RawDocument;

use crate::{decode, source, target, web};

/// A reply of the server, to every source.
pub fn reply(bytes: &[u8]) {
    // The driver looks no closer than this at what it hands on.
    if let Ok(raw) = RawDocument::from_bytes(bytes) {
        source::decode_all(&decode::leniently(raw));
    }
}

/// A line of the server's log.
pub fn log_line(text: &str) {
    source::decode_line(text);
}

/// The query of a probe, its header, and the file of the web side.
pub fn web(text: &str) {
    web::read(text);
}

/// A URI. What is said of one that is wrong repeats no password.
pub fn uri(text: &str) {
    let target = target::Target::new(text);
    let _ = (target.has_secret_in_uri(), target.names_a_user(), target.check());
}
