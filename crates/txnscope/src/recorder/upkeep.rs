//! Upkeep of the exporter: the application's own histograms buffer every sample until they are drained.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;

/// The exporter's own default.
const INTERVAL: Duration = Duration::from_secs(5);

/// A thread that drains the histograms, so that no runtime is needed and none is blocked. The thread ends when this
/// is dropped.
#[derive(Debug)]
pub(super) struct Upkeep {
    _alive: Sender<()>,
}

impl Upkeep {
    pub(super) fn start(exporter: PrometheusHandle) -> io::Result<Self> {
        let (alive, dropped) = channel::<()>();
        thread::Builder::new().name("txnscope-upkeep".to_owned()).spawn(move || {
            while dropped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                exporter.run_upkeep();
            }
        })?;
        Ok(Self { _alive: alive })
    }
}
