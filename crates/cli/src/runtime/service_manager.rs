//! Messages to systemd about the state of the process: ready, stopping, alive. Without systemd, they go nowhere.

use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that the startup has completed, which a unit of `Type=notify` waits for.
pub(crate) fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that a shutdown has begun.
pub(crate) fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that the process is alive, twice in each `WatchdogSec=` of the unit. A runtime whose threads are all blocked
/// does not get here, so systemd restarts it. Never returns.
pub(crate) async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let mut interval = tokio::time::interval(limit / 2);
    loop {
        interval.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot send a message to systemd (NOTIFY_SOCKET)");
    }
}
