//! Logs: one event on each line of the standard error.

use std::borrow::Cow;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use txnscope_catalog::escape_line;

/// The minimum level of the messages to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Logfmt,
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogSettings {
    pub(crate) level: Level,
    pub(crate) format: LogFormat,
}

/// Starts logging. Events before are lost.
pub(crate) fn start(LogSettings { level, format }: LogSettings) {
    let registry = tracing_subscriber::registry().with(LevelFilter::from(level));
    let writer = || Escaping(io::stderr());
    match format {
        LogFormat::Logfmt => {
            let events = tracing_logfmt::builder().with_target(false).layer().with_writer(writer);
            registry.with(events).init();
        }
        LogFormat::Json => {
            let events = fmt::layer().json().flatten_event(true).with_target(false).with_writer(writer);
            registry.with(events).init();
        }
    }
}

/// Escapes control characters that the formatters do not: logfmt passes a value without spaces on as it is, and JSON
/// escapes only the first 32 characters. Each event is written in one piece, as a line.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        match (escape_line(line), &text) {
            (Cow::Borrowed(_), Cow::Borrowed(_)) => self.0.write_all(event)?,
            (line, _) => self.0.write_all(format!("{line}{end}").as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Escaping<Self>;

        fn make_writer(&'a self) -> Self::Writer {
            Escaping(self.clone())
        }
    }

    #[test]
    fn control_characters_of_values_are_escaped_in_both_formats() {
        const CONTROL_CHARACTERS: &str =
            "a\u{1b}[2J\n\u{9b}31m\u{85}\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}b";
        let buffer = Buffer::default();
        let logfmt = tracing_logfmt::builder().layer().with_writer(buffer.clone());
        let json = fmt::layer().json().flatten_event(true).with_writer(buffer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logfmt).with(json), || {
            tracing::info!(plain = "a\u{9b}31mb\u{202e}", error = %CONTROL_CHARACTERS, rs = CONTROL_CHARACTERS, debug = ?CONTROL_CHARACTERS, "{CONTROL_CHARACTERS}");
        });
        let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(log.chars().all(|c| c == '\n' || txnscope_catalog::is_printable(c)), "{log:?}");
        let event =
            lines.iter().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).unwrap();
        assert_eq!(event["rs"], CONTROL_CHARACTERS, "the JSON holds the logged text");
    }
}
