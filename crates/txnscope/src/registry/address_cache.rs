//! A cache from the address of an operation's name to the operation's slot.
//!
//! A route's template stays at one address as long as its router lives, and a name in the code for ever. So the
//! address nearly always identifies the operation, without hashing the name. The cache is only a hint: the caller
//! compares the name in the slot, because another name may later lie at the same address.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use txnscope_catalog::MAX_OPERATIONS;

use crate::OperationName;

/// Many more than there are operations, so that collisions are rare.
const BUCKETS: usize = (8 * MAX_OPERATIONS).next_power_of_two();

pub(super) struct AddressCache(Box<[AtomicU16; BUCKETS]>);

impl Default for AddressCache {
    fn default() -> Self {
        Self(Box::new([const { AtomicU16::new(0) }; BUCKETS]))
    }
}

impl AddressCache {
    /// Returns the slot where the operation may be.
    pub(super) fn get(&self, name: OperationName<'_>) -> usize {
        usize::from(self.0[bucket(name)].load(Relaxed))
    }

    /// Remembers the slot of an operation.
    pub(super) fn insert(&self, name: OperationName<'_>, index: usize) {
        if let Ok(index) = u16::try_from(index) {
            self.0[bucket(name)].store(index, Relaxed);
        }
    }
}

/// Includes the method by its length: the methods that write differ in length.
fn bucket(name: OperationName<'_>) -> usize {
    /// 2^64 divided by the golden ratio, which spreads adjacent addresses far apart.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let address = name.rest.as_ptr().addr() as u64 ^ (name.method.len() as u64) << 32;
    #[allow(clippy::cast_possible_truncation, reason = "the high bits alone are left, which are fewer")]
    let bucket = (address.wrapping_mul(SPREAD) >> (u64::BITS - BUCKETS.trailing_zeros())) as usize;
    bucket
}
