//! The ledger over real HTTP on a real replica set.

mod attacks;
mod books;
mod cancelled;
mod contention;
mod faults;
mod idempotency;
mod identifiers;
mod process;
mod rules;
mod service;
mod shutdown;
mod stored;
mod support;
