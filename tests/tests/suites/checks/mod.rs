//! The ledger's checks on the ledger's data: no violations in correct data, and exact ones in corrupted data.

mod audit_repair_undo;
mod corruption;
mod fixtures;
mod old_servers;
mod repair;
mod schedule;
