//! The clock of the layer.

use std::sync::OnceLock;

use quanta::Clock;

/// A point in time, in the processor's ticks, which are converted to nanoseconds only once, when an operation ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) fn now() -> Self {
        Self(clock().raw())
    }

    /// Ticks elapsed since this timestamp.
    pub(crate) fn ticks(self) -> u64 {
        clock().raw().saturating_sub(self.0)
    }

    /// The timestamp `ticks` before now.
    pub(crate) fn ago(ticks: u64) -> Self {
        Self(clock().raw().wrapping_sub(ticks))
    }

    /// Nanoseconds elapsed since this timestamp.
    pub(crate) fn elapsed(self) -> u64 {
        let clock = clock();
        clock.delta_as_nanos(self.0, clock.raw())
    }
}

/// Returns the clock. The first call calibrates it, which can take tens of milliseconds.
fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}
