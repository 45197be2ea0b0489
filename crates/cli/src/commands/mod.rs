//! The commands. None of them uses another one: what two of them share is in `args`, `config`, `client`, `output` or
//! `runtime`.

pub(crate) mod audit;
pub(crate) mod catalog;
pub(crate) mod completions;
pub(crate) mod drill;
pub(crate) mod healthcheck;
pub(crate) mod man;
pub(crate) mod preflight;
pub(crate) mod proxy;
pub(crate) mod repair;
pub(crate) mod role;
pub(crate) mod serve;
pub(crate) mod top;
pub(crate) mod verify;
