//! Logs go to the standard error, one event a line.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::flags::{Level, LogFormat};

pub(crate) fn start(level: Level, format: LogFormat) {
    let registry = tracing_subscriber::registry().with(LevelFilter::from(level));
    match format {
        LogFormat::Logfmt => {
            let events = tracing_logfmt::builder().with_target(false).layer().with_writer(io::stderr);
            registry.with(events).init();
        }
        LogFormat::Json => {
            let events = fmt::layer().json().flatten_event(true).with_target(false).with_writer(io::stderr);
            registry.with(events).init();
        }
    }
}
