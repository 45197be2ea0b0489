//! The operation that the current thread works for at this moment.
//!
//! A request enters its operation twice at least (its service's `call`, each poll of its future), so that entering has
//! to cost next to nothing: what stands in the thread's slot is a copy of a reference and a flag, which needs neither a
//! borrow's bookkeeping nor a destructor. The guard that counts stays in the future, where it does not move. Notes,
//! which are rare, are lent to the thread beside it while the operation is entered.

use std::cell::Cell;

use super::notes::Pad;
use crate::registry::OperationMetrics;

#[derive(Clone, Copy)]
struct Slot {
    operation: Option<&'static OperationMetrics>,
    /// Whether there is something on the pad beside it. If not, entering and leaving need not look at it.
    noted: bool,
}

thread_local! {
    static SLOT: Cell<Slot> = const { Cell::new(Slot { operation: None, noted: false }) };
    static PAD: Cell<Pad> = const { Cell::new(Pad::Empty) };
}

/// The current operation, or what stands for one that is none yet.
pub(super) fn entered() -> Option<&'static OperationMetrics> {
    SLOT.get().operation
}

/// The current operation, if there is one. Who asks for it makes it one.
pub(super) fn operation() -> Option<&'static OperationMetrics> {
    let operation = entered()?;
    if operation.stands_for_newcomers() { admit() } else { Some(operation) }
}

#[cold]
fn admit() -> Option<&'static OperationMetrics> {
    let mut pad = swap_pad(Pad::Empty);
    let operation = pad.admit();
    SLOT.set(Slot { operation, noted: true });
    swap_pad(pad);
    operation
}

/// Whether the task works for that name, which is no operation yet.
pub(super) fn is_newcomer(name: &str) -> bool {
    if !entered().is_some_and(OperationMetrics::stands_for_newcomers) {
        return false;
    }
    let pad = swap_pad(Pad::Empty);
    let same = pad.peek().is_some_and(|newcomer| newcomer.is_named(name));
    swap_pad(pad);
    same
}

/// Does something with the current operation's pad. If there is none, nothing.
pub(super) fn with_pad<T>(f: impl FnOnce(&'static OperationMetrics, &mut Pad) -> T) -> Option<T> {
    let operation = operation()?;
    let slot = SLOT.get();
    let mut pad = swap_pad(Pad::Empty);
    let result = f(operation, &mut pad);
    SLOT.set(Slot { noted: slot.noted || !pad.is_empty(), ..slot });
    swap_pad(pad);
    Some(result)
}

/// What the thread worked for before.
#[must_use = "the thread works for the operation until it leaves it"]
pub(super) struct Outer(Slot);

/// Makes that operation the current one, until [`leave`] with the same pad.
pub(super) fn enter(operation: &'static OperationMetrics, pad: &mut Pad) -> Outer {
    let noted = !pad.is_empty();
    let outer = SLOT.replace(Slot { operation: Some(operation), noted });
    if noted || outer.noted {
        exchange(pad);
    }
    Outer(outer)
}

/// Puts back what there was before. What was noted meanwhile is on the pad. Says whether there may be something on it.
pub(super) fn leave(outer: &Outer, pad: &mut Pad) -> bool {
    let inner = SLOT.replace(outer.0);
    let noted = inner.noted || outer.0.noted;
    if noted {
        exchange(pad);
    }
    noted
}

/// Lends the thread that pad, and keeps the outer operation's in its place meanwhile.
#[cold]
fn exchange(pad: &mut Pad) {
    *pad = swap_pad(std::mem::take(pad));
}

/// While a thread ends, its pad may be gone before what still runs on it: then there is nowhere to note anything.
fn swap_pad(pad: Pad) -> Pad {
    PAD.try_with(|slot| slot.replace(pad)).unwrap_or_default()
}
