//! Arguments and parsers that several commands share.

pub(crate) mod addresses;
pub(crate) mod checks;
pub(crate) mod connection;
pub(crate) mod duration;
pub(crate) mod exit_status;
pub(crate) mod uri_guard;
pub(crate) mod usage_error;
