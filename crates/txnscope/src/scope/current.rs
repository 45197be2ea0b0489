//! The current operation of a thread.
//!
//! A request enters its operation at least twice (its service's `call`, each poll of its future), so entering has to
//! be cheap: the thread-local holds a copied reference and a flag, without borrow bookkeeping and without a
//! destructor. The guard that counts stays in the future. The context, which few operations have, moves to a second
//! thread-local while the operation is entered.

use std::cell::Cell;

use super::context::ContextCell;
use crate::registry::OperationMetrics;

#[derive(Clone, Copy)]
struct Current {
    operation: Option<&'static OperationMetrics>,
    /// Whether the thread-local context is not empty. If it is, entering and exiting skip it.
    has_context: bool,
}

thread_local! {
    static CURRENT: Cell<Current> = const { Cell::new(Current { operation: None, has_context: false }) };
    static CONTEXT: Cell<ContextCell> = const { Cell::new(ContextCell::Empty) };
}

/// Returns the current operation, or the placeholder of an unregistered one.
pub(super) fn entered() -> Option<&'static OperationMetrics> {
    CURRENT.get().operation
}

/// Returns the current operation, if there is one. Registers a name that was not registered yet.
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

/// Whether the task runs an operation of this name that is not registered yet.
pub(super) fn is_unregistered(name: &str) -> bool {
    if !entered().is_some_and(OperationMetrics::is_placeholder) {
        return false;
    }
    let context = replace_context(ContextCell::Empty);
    let same = context.unregistered().is_some_and(|unregistered| unregistered.is_named(name));
    replace_context(context);
    same
}

/// Calls `f` with the context of the current operation, if there is one.
pub(super) fn with_context<T>(f: impl FnOnce(&'static OperationMetrics, &mut ContextCell) -> T) -> Option<T> {
    let operation = operation()?;
    let current = CURRENT.get();
    let mut context = replace_context(ContextCell::Empty);
    let result = f(operation, &mut context);
    CURRENT.set(Current { has_context: current.has_context || !context.is_empty(), ..current });
    replace_context(context);
    Some(result)
}

/// The operation that was current on the thread before.
#[must_use = "the thread works for the operation until it leaves it"]
pub(super) struct Previous(Current);

/// Makes that operation the current one, until [`exit`] with the same context.
pub(super) fn enter(operation: &'static OperationMetrics, context: &mut ContextCell) -> Previous {
    let has_context = !context.is_empty();
    let previous = CURRENT.replace(Current { operation: Some(operation), has_context });
    if has_context || previous.has_context {
        swap_context(context);
    }
    Previous(previous)
}

/// Restores the previous operation, and moves reasons noted meanwhile into `context`. Returns whether the context may
/// be non-empty.
pub(super) fn exit(previous: &Previous, context: &mut ContextCell) -> bool {
    let inner = CURRENT.replace(previous.0);
    let has_context = inner.has_context || previous.0.has_context;
    if has_context {
        swap_context(context);
    }
    has_context
}

/// Exchanges the thread's context with `context`.
#[cold]
fn swap_context(context: &mut ContextCell) {
    *context = replace_context(std::mem::take(context));
}

/// Replaces the thread's context. While a thread ends, the thread-local may be gone already: then nothing is noted.
fn replace_context(context: ContextCell) -> ContextCell {
    CONTEXT.try_with(|current| current.replace(context)).unwrap_or_default()
}
