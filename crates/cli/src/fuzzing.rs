//! Where a fuzzer comes in. No part of any interface.

use std::path::Path;

use mongodb::bson::Bson;
use serde_json::Value;

use crate::collectors::{self, CollectorFlags};
use crate::file::File;
use crate::flags::Flags;
use crate::services::answer;
use crate::{preflight, services, verify};

/// A URI with a password, for the word `URI` in what the fuzzer types.
const URI: &str = "mongodb://user:hunter2@host/";

/// The configuration file.
pub fn config(text: &str) {
    if let Ok(file) = File::parse(Path::new("txnscope.toml"), text.to_owned()) {
        let _ = collectors::settings(&file, &CollectorFlags::default());
    }
}

/// The command line, one word on each line.
///
/// # Panics
///
/// If what is said of it repeats the password of a URI.
pub fn flags(text: &str) {
    let words: Vec<String> = text.lines().map(|word| word.replace("URI", URI)).collect();
    let typed = || std::iter::once("txnscope".to_owned()).chain(words.iter().cloned());
    let said = match Flags::read(typed().map(Into::into)) {
        Ok((flags, _)) => format!("{flags:?}"),
        Err(unread) => format!("{unread:?}"),
    };
    assert!(text.contains("hunter2") || !said.contains("hunter2"), "{said}");
}

/// The URL of a service.
///
/// # Panics
///
/// If what is said of it repeats its password.
pub fn url(text: &str) {
    for seen in [false, true] {
        let said = services::said_of(&text.replace("URI", "user:hunter2@host"), seen);
        assert!(text.contains("hunter2") || !said.contains("hunter2"), "{said}");
    }
}

/// What Prometheus, Alertmanager or Grafana answers, to each question that `verify` and `preflight` have.
pub fn answer(bytes: &[u8]) {
    let _ = answer::error(bytes);
    let Ok(answer) = serde_json::from_slice::<Value>(bytes) else { return };
    preflight::hostile::printed(&preflight::hostile::of_service(&answer));
    let _ = answer::matrix(&answer);
    if let Ok(samples) = answer::vector(&answer) {
        verify::hostile::judged(&samples);
    }
}

/// What a server answers, as JSON, to each question of `preflight`.
pub fn preflight(bytes: &[u8]) {
    if let Ok(Bson::Document(reply)) = serde_json::from_slice(bytes) {
        preflight::hostile::printed(&preflight::hostile::of_server(&reply));
    }
}

#[cfg(test)]
mod tests {
    use testkit::assert_no_panic;

    use super::*;

    fn text(read: impl Fn(&str)) -> impl Fn(&[u8]) {
        move |bytes| read(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn no_configuration_file_is_a_panic() {
        assert_no_panic("config", &[], 2_000, text(config));
    }

    #[test]
    fn no_command_line_is_a_panic_or_tells_a_password() {
        assert_no_panic("flags", &[], 200, text(flags));
        assert_no_panic("flags", &[], 1_000, text(url));
    }

    #[test]
    fn no_answer_of_a_service_is_a_panic() {
        assert_no_panic("answer", &[], 2_000, answer);
    }

    #[test]
    fn no_reply_to_preflight_is_a_panic() {
        assert_no_panic("preflight", &[], 2_000, preflight);
    }
}
