//! The layer's clock.

use std::sync::OnceLock;

use quanta::Clock;

/// A moment, in the processor's own ticks: they become time once, when an operation ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) fn now() -> Self {
        Self(clock().raw())
    }

    /// How long ago it was, in ticks.
    pub(crate) fn ticks(self) -> u64 {
        clock().raw().saturating_sub(self.0)
    }

    /// So many ticks before now.
    pub(crate) fn ago(ticks: u64) -> Self {
        Self(clock().raw().wrapping_sub(ticks))
    }

    /// How long ago it was, in nanoseconds.
    pub(crate) fn elapsed(self) -> u64 {
        let clock = clock();
        clock.delta_as_nanos(self.0, clock.raw())
    }
}

/// The first reading calibrates it, which can take tens of milliseconds.
fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}
