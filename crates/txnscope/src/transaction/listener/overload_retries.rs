//! Detects the driver's own retries of commands that an overloaded server rejected.
//!
//! The driver retries within one call, and so within one task: a rejection is remembered for its task, and the next
//! command of that name in the task is the retry. Nothing is remembered or looked up while no server is overloaded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use quanta::Instant;
use tokio::task;

/// The driver's default number of retries.
const DEFAULT_MAX_RETRIES: u32 = 2;
/// The driver backs off for 10 s at most.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(15);
/// The maximum number of tracked tasks whose last command was rejected.
const MAX_TASKS: usize = 10_000;

/// The waiting task; code outside of any task is identified by its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    Id(task::Id),
    Thread(ThreadId),
}

impl Task {
    fn current() -> Self {
        task::try_id().map_or_else(|| Self::Thread(thread::current().id()), Self::Id)
    }
}

/// A rejected command.
#[derive(Debug)]
struct RefusedCommand {
    command: String,
    /// How often the command was retried.
    retries: u32,
    /// When the command was rejected; `None` once it is retried.
    since: Option<Instant>,
}

/// The rejected commands of all tasks.
#[derive(Debug)]
pub(super) struct OverloadRetries {
    max_retries: AtomicU32,
    refused: Mutex<HashMap<Task, RefusedCommand>>,
    /// The number of tasks, to return at once if there are none.
    tasks: AtomicUsize,
}

impl OverloadRetries {
    pub(super) fn new() -> Self {
        Self {
            max_retries: AtomicU32::new(DEFAULT_MAX_RETRIES),
            refused: Mutex::default(),
            tasks: AtomicUsize::new(0),
        }
    }

    /// Sets the maximum number of retries of a client.
    pub(super) fn allow(&self, max_retries: Option<u32>) {
        self.max_retries.fetch_max(max_retries.unwrap_or(DEFAULT_MAX_RETRIES), Relaxed);
    }

    /// Records a command that an overloaded server rejected, and that may be retried.
    pub(super) fn refused(&self, command: &str, now: Instant) {
        let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= MAX_TASKS {
            tasks.retain(|_, command| !command.is_expired(now));
        }
        if tasks.len() < MAX_TASKS {
            let task = Task::current();
            let previous = tasks
                .remove(&task)
                .filter(|previous| previous.command == command && previous.since.is_none());
            let retries = previous.map_or(0, |previous| previous.retries);
            // After the last retry the caller receives the error, and the next command is the caller's own.
            if retries < self.max_retries.load(Relaxed) {
                tasks.insert(task, RefusedCommand { command: command.to_owned(), retries, since: Some(now) });
            }
        }
        self.tasks.store(tasks.len(), Relaxed);
    }

    /// Records a sent command, and returns whether it is a retry.
    pub(super) fn sent(&self, command: &str, now: Instant) -> bool {
        if self.tasks.load(Relaxed) == 0 {
            return false;
        }
        let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let task = Task::current();
        let is_retry = tasks.get_mut(&task).is_some_and(|refused| {
            let is_retry = refused.command == command && refused.since.is_some() && !refused.is_expired(now);
            if is_retry {
                refused.retries += 1;
                refused.since = None;
            }
            is_retry
        });
        if !is_retry {
            tasks.remove(&task);
        }
        self.tasks.store(tasks.len(), Relaxed);
        is_retry
    }

    /// Records another reply to a command.
    pub(super) fn answered(&self) {
        if self.tasks.load(Relaxed) > 0 {
            let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.remove(&Task::current());
            self.tasks.store(tasks.len(), Relaxed);
        }
    }
}

impl RefusedCommand {
    fn is_expired(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) > MAX_RETRY_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resent_refused_command_is_a_retry() {
        let (retries, now) = (OverloadRetries::new(), Instant::now());
        assert!(!retries.sent("find", now));
        // Two retries, and then the caller's own command.
        for round in 0..3 {
            retries.refused("find", now);
            assert!(retries.sent("find", now), "{round}");
            retries.refused("find", now);
            assert!(retries.sent("find", now), "{round}");
            retries.refused("find", now);
            assert!(!retries.sent("find", now), "{round}");
        }
        assert_eq!(retries.tasks.load(Relaxed), 0);
    }

    #[test]
    fn other_and_late_commands_are_not_retries() {
        let (retries, now) = (OverloadRetries::new(), Instant::now());
        retries.refused("find", now);
        assert!(!retries.sent("insert", now));
        assert!(!retries.sent("find", now));
        retries.refused("find", now);
        assert!(!retries.sent("find", now + MAX_RETRY_DELAY + Duration::from_secs(1)));
        retries.refused("find", now);
        assert!(retries.sent("find", now));
        retries.answered();
        assert!(!retries.sent("find", now));
    }

    #[test]
    fn retries_are_tracked_per_task_and_bounded() {
        let (retries, now) = (OverloadRetries::new(), Instant::now());
        retries.refused("find", now);
        thread::scope(|scope| {
            scope.spawn(|| assert!(!retries.sent("find", now)));
        });
        assert!(retries.sent("find", now));
        retries.allow(Some(5));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let retries = std::sync::Arc::new(retries);
            for _ in 0..MAX_TASKS + 10 {
                let retries = std::sync::Arc::clone(&retries);
                tokio::spawn(async move { retries.refused("find", now) }).await.unwrap();
            }
            assert_eq!(retries.tasks.load(Relaxed), MAX_TASKS);
            retries.refused("find", now + MAX_RETRY_DELAY + Duration::from_secs(1));
            assert_eq!(retries.tasks.load(Relaxed), 1);
        });
    }
}
