//! The ledger's own checks on the ledger's own data: quiet while it is right, exact when it is not.

mod audit_repair_undo;
mod corruption;
mod fixtures;
mod old_servers;
mod repair;
mod schedule;
