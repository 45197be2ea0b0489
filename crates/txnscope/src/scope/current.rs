//! The operation that the current thread works for at this moment.
//!
//! A request enters its operation twice at least (its service's `call`, each poll of its future), so that entering has
//! to cost next to nothing: what stands in the thread's slot is a copy of a reference and a flag, which needs neither a
//! borrow's bookkeeping nor a destructor. The guard that counts stays in the future, where it does not move. Notes,
//! which are rare, are lent to the thread beside it while the operation is entered.

use std::cell::Cell;

use super::context::ContextCell;
use crate::registry::OperationMetrics;

#[derive(Clone, Copy)]
struct Current {
    operation: Option<&'static OperationMetrics>,
    /// Whether there is something on the pad beside it. If not, entering and leaving need not look at it.
    has_context: bool,
}

thread_local! {
    static CURRENT: Cell<Current> = const { Cell::new(Current { operation: None, has_context: false }) };
    static CONTEXT: Cell<ContextCell> = const { Cell::new(ContextCell::Empty) };
}

/// The current operation, or what stands for one that is none yet.
pub(super) fn entered() -> Option<&'static OperationMetrics> {
    CURRENT.get().operation
}

/// The current operation, if there is one. Who asks for it makes it one.
pub(super) fn operation() -> Option<&'static OperationMetrics> {
    let operation = entered()?;
    if operation.is_placeholder() { register() } else { Some(operation) }
}

#[cold]
fn register() -> Option<&'static OperationMetrics> {
    let mut context = replace_context(ContextCell::Empty);
    let operation = context.register();
    CURRENT.set(Current { operation, has_context: true });
    replace_context(context);
    operation
}

/// Whether the task works for that name, which is no operation yet.
pub(super) fn is_unregistered(name: &str) -> bool {
    if !entered().is_some_and(OperationMetrics::is_placeholder) {
        return false;
    }
    let context = replace_context(ContextCell::Empty);
    let same = context.unregistered().is_some_and(|unregistered| unregistered.is_named(name));
    replace_context(context);
    same
}

/// Does something with the current operation's pad. If there is none, nothing.
pub(super) fn with_context<T>(f: impl FnOnce(&'static OperationMetrics, &mut ContextCell) -> T) -> Option<T> {
    let operation = operation()?;
    let current = CURRENT.get();
    let mut context = replace_context(ContextCell::Empty);
    let result = f(operation, &mut context);
    CURRENT.set(Current { has_context: current.has_context || !context.is_empty(), ..current });
    replace_context(context);
    Some(result)
}

/// What the thread worked for before.
#[must_use = "the thread works for the operation until it leaves it"]
pub(super) struct Previous(Current);

/// Makes that operation the current one, until [`leave`] with the same pad.
pub(super) fn enter(operation: &'static OperationMetrics, context: &mut ContextCell) -> Previous {
    let has_context = !context.is_empty();
    let previous = CURRENT.replace(Current { operation: Some(operation), has_context });
    if has_context || previous.has_context {
        swap_context(context);
    }
    Previous(previous)
}

/// Puts back what there was before. What was noted meanwhile is on the pad. Says whether there may be something on it.
pub(super) fn exit(previous: &Previous, context: &mut ContextCell) -> bool {
    let inner = CURRENT.replace(previous.0);
    let has_context = inner.has_context || previous.0.has_context;
    if has_context {
        swap_context(context);
    }
    has_context
}

/// Lends the thread that pad, and keeps the outer operation's in its place meanwhile.
#[cold]
fn swap_context(context: &mut ContextCell) {
    *context = replace_context(std::mem::take(context));
}

/// While a thread ends, its pad may be gone before what still runs on it: then there is nowhere to note anything.
fn replace_context(context: ContextCell) -> ContextCell {
    CONTEXT.try_with(|current| current.replace(context)).unwrap_or_default()
}
