//! The ledger over real HTTP on a real replica set.

mod accounting;
mod client_disconnects;
mod contention;
mod denial_of_service;
mod environment;
mod faults;
mod idempotency;
mod identifiers;
mod process;
mod retainer_movements;
mod rules;
mod service;
mod shutdown;
mod stored_documents;
