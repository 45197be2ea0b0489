//! What the driver sends again by itself, because a server that had too much to do refused it.
//!
//! The driver does so within one call, and so within one task: an answer like that is remembered for the task, and the
//! next command of that name in it is the repeat. Nothing is remembered, and nothing is looked up, while no server is
//! overloaded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use quanta::Instant;
use tokio::task;

/// How often the driver repeats such a command, if its options do not say.
const MAX_REPEATS: u32 = 2;
/// The driver pauses for 10 s at most.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tasks whose last command was refused. More are not looked after.
const MAX_TASKS: usize = 10_000;

/// Who waits. What runs outside of any task has a thread for itself.
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

/// A command that was refused.
#[derive(Debug)]
struct Refused {
    command: String,
    /// How often it was sent again.
    repeats: u32,
    /// When it was refused, until it is sent again.
    since: Option<Instant>,
}

/// The commands that were refused.
#[derive(Debug)]
pub(super) struct Repeats {
    most: AtomicU32,
    refused: Mutex<HashMap<Task, Refused>>,
    /// How many those are, to leave at once when there are none.
    tasks: AtomicUsize,
}

impl Repeats {
    pub(super) fn new() -> Self {
        Self { most: AtomicU32::new(MAX_REPEATS), refused: Mutex::default(), tasks: AtomicUsize::new(0) }
    }

    /// A client repeats a command so often.
    pub(super) fn allow(&self, most: Option<u32>) {
        self.most.fetch_max(most.unwrap_or(MAX_REPEATS), Relaxed);
    }

    /// A command was refused by an overloaded server, and may be sent again.
    pub(super) fn refused(&self, command: &str, now: Instant) {
        let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= MAX_TASKS {
            tasks.retain(|_, one| !one.is_late(now));
        }
        if tasks.len() < MAX_TASKS {
            let task = Task::current();
            let before =
                tasks.remove(&task).filter(|before| before.command == command && before.since.is_none());
            let repeats = before.map_or(0, |before| before.repeats);
            // After the last repeat, the caller is told, and whatever comes next is the caller's own.
            if repeats < self.most.load(Relaxed) {
                tasks.insert(task, Refused { command: command.to_owned(), repeats, since: Some(now) });
            }
        }
        self.tasks.store(tasks.len(), Relaxed);
    }

    /// A command is sent. Whether it is one that was refused.
    pub(super) fn sent(&self, command: &str, now: Instant) -> bool {
        if self.tasks.load(Relaxed) == 0 {
            return false;
        }
        let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let task = Task::current();
        let repeated = tasks.get_mut(&task).is_some_and(|one| {
            let is_it = one.command == command && one.since.is_some() && !one.is_late(now);
            if is_it {
                one.repeats += 1;
                one.since = None;
            }
            is_it
        });
        if !repeated {
            tasks.remove(&task);
        }
        self.tasks.store(tasks.len(), Relaxed);
        repeated
    }

    /// A command was answered in another way.
    pub(super) fn answered(&self) {
        if self.tasks.load(Relaxed) > 0 {
            let mut tasks = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.remove(&Task::current());
            self.tasks.store(tasks.len(), Relaxed);
        }
    }
}

impl Refused {
    fn is_late(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) > PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_command_that_is_sent_again_is_a_repeat() {
        let (repeats, now) = (Repeats::new(), Instant::now());
        assert!(!repeats.sent("find", now));
        // Two repeats, and then the caller's own try.
        for round in 0..3 {
            repeats.refused("find", now);
            assert!(repeats.sent("find", now), "{round}");
            repeats.refused("find", now);
            assert!(repeats.sent("find", now), "{round}");
            repeats.refused("find", now);
            assert!(!repeats.sent("find", now), "{round}");
        }
        assert_eq!(repeats.tasks.load(Relaxed), 0);
    }

    #[test]
    fn another_command_and_a_late_one_are_the_callers_own() {
        let (repeats, now) = (Repeats::new(), Instant::now());
        repeats.refused("find", now);
        assert!(!repeats.sent("insert", now));
        assert!(!repeats.sent("find", now));
        repeats.refused("find", now);
        assert!(!repeats.sent("find", now + PATIENCE + Duration::from_secs(1)));
        repeats.refused("find", now);
        assert!(repeats.sent("find", now));
        repeats.answered();
        assert!(!repeats.sent("find", now));
    }

    #[test]
    fn tasks_are_told_apart_and_not_remembered_for_ever() {
        let (repeats, now) = (Repeats::new(), Instant::now());
        repeats.refused("find", now);
        thread::scope(|scope| {
            scope.spawn(|| assert!(!repeats.sent("find", now)));
        });
        assert!(repeats.sent("find", now));
        repeats.allow(Some(5));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let repeats = std::sync::Arc::new(repeats);
            for _ in 0..MAX_TASKS + 10 {
                let repeats = std::sync::Arc::clone(&repeats);
                tokio::spawn(async move { repeats.refused("find", now) }).await.unwrap();
            }
            assert_eq!(repeats.tasks.load(Relaxed), MAX_TASKS);
            repeats.refused("find", now + PATIENCE + Duration::from_secs(1));
            assert_eq!(repeats.tasks.load(Relaxed), 1);
        });
    }
}
