//! Logs go to the standard error, one event a line.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use txnscope_catalog::escape_line;

use crate::flags::{Level, LogFormat};

pub(crate) fn start(level: Level, format: LogFormat) {
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

/// Escapes what the formatters leave as it is: logfmt lets a value without spaces through, and JSON all but the first 32
/// characters. Each event comes in one piece, as a line.
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
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Escaping<Self>;

        fn make_writer(&'a self) -> Self::Writer {
            Escaping(self.clone())
        }
    }

    #[test]
    fn no_value_of_an_event_steers_the_reader_of_either_format() {
        const STEERING: &str = "a\u{1b}[2J\n\u{9b}31m\u{85}\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}b";
        let kept = Kept::default();
        let logfmt = tracing_logfmt::builder().layer().with_writer(kept.clone());
        let json = fmt::layer().json().flatten_event(true).with_writer(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logfmt).with(json), || {
            tracing::info!(plain = "a\u{9b}31mb\u{202e}", error = %STEERING, rs = STEERING, debug = ?STEERING, "{STEERING}");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(log.chars().all(|c| c == '\n' || txnscope_catalog::is_printable(c)), "{log:?}");
        let event =
            lines.iter().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).unwrap();
        assert_eq!(event["rs"], STEERING, "who reads the JSON reads what was logged");
    }
}
