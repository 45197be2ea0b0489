//! Entry points for the fuzzer. They are no part of any public interface.

use std::path::Path;

use mongodb::bson::Bson;
use serde_json::Value;

use crate::cli::Cli;
use crate::client::services::{self, api_response};
use crate::commands::drill;
use crate::commands::preflight::malformed_input as preflight_input;
use crate::commands::verify::malformed_input as verify_input;
use crate::config::collectors;
use crate::config::file::ConfigFile;
use crate::config::sections::Collectors;

/// A URI with a password, which replaces the word `URI` in the input of the fuzzer.
const URI: &str = "mongodb://user:hunter2@host/";

/// Parses a configuration file.
pub fn config(text: &str) {
    if let Ok(file) = ConfigFile::parse(Path::new("txnscope.toml"), text.to_owned()) {
        let _ = collectors::settings(&file, &Collectors::default());
    }
}

/// Parses a scenario file of `drill`.
pub fn scenarios(text: &str) {
    drill::parse_scenarios(text);
}

/// Parses a command line, one argument on each line.
///
/// # Panics
///
/// If the result repeats the password of a URI.
pub fn flags(text: &str) {
    let words: Vec<String> = text.lines().map(|word| word.replace("URI", URI)).collect();
    let typed = || std::iter::once("txnscope".to_owned()).chain(words.iter().cloned());
    let output = match Cli::parse_args(typed().map(Into::into)) {
        Ok((cli, _)) => format!("{cli:?}"),
        Err(error) => format!("{error:?}"),
    };
    assert!(text.contains("hunter2") || !output.contains("hunter2"), "{output}");
}

/// Parses the URL of a service.
///
/// # Panics
///
/// If the result repeats its password.
pub fn url(text: &str) {
    for seen in [false, true] {
        let output = services::describe_url(&text.replace("URI", "user:hunter2@host"), seen);
        assert!(text.contains("hunter2") || !output.contains("hunter2"), "{output}");
    }
}

/// Reads a response of Prometheus, Alertmanager, Grafana or a backend's metrics page as `verify` and `preflight` do.
pub fn answer(bytes: &[u8]) {
    let _ = api_response::error(bytes);
    preflight_input::render(&preflight_input::findings_of_page(&String::from_utf8_lossy(bytes)));
    let Ok(response) = serde_json::from_slice::<Value>(bytes) else { return };
    preflight_input::render(&preflight_input::findings_of_service(&response));
    let _ = api_response::matrix(&response);
    if let Ok(samples) = api_response::vector(&response) {
        verify_input::render_report(&samples);
    }
}

/// Reads a reply of a server, in JSON, as `preflight` does.
pub fn preflight(bytes: &[u8]) {
    if let Ok(Bson::Document(reply)) = serde_json::from_slice(bytes) {
        preflight_input::render(&preflight_input::findings_of_server(&reply));
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
    fn arbitrary_configuration_file_does_not_panic() {
        assert_no_panic("config", &[], 2_000, text(config));
    }

    #[test]
    fn arbitrary_scenario_file_does_not_panic() {
        assert_no_panic("scenarios", &["examples/ledger/scenarios.toml"], 2_000, text(scenarios));
    }

    #[test]
    fn arbitrary_command_line_neither_panics_nor_reveals_a_password() {
        assert_no_panic("flags", &[], 200, text(flags));
        assert_no_panic("flags", &[], 1_000, text(url));
    }

    #[test]
    fn arbitrary_service_response_does_not_panic() {
        assert_no_panic("answer", &[], 2_000, answer);
    }

    #[test]
    fn arbitrary_server_reply_does_not_panic() {
        assert_no_panic("preflight", &[], 2_000, preflight);
    }
}
