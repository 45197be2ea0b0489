//! The async runtime of a command, the signals that end it, the messages to the service manager, and who runs it.

pub(crate) mod service_manager;
pub(crate) mod signals;

use anyhow::Context;

/// Runs a future to its end on the current thread.
///
/// # Errors
///
/// If the runtime cannot be started, or the error of the future.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

/// A runtime of two threads, for commands in which one task must not wait while another one decodes a reply.
///
/// # Errors
///
/// If the runtime cannot be started.
pub(crate) fn two_threads() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Raises the limit on open files to its maximum, since each connection is one. The soft limit is low only for the sake of
/// programs that use `select`.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit on open files");
    }
}

/// The user who runs the command, and the host, for records: `ann@host`.
pub(crate) fn user_at_host() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    format!("{}@{}", user.unwrap_or_else(|_| "unknown".to_owned()), host.trim())
}
