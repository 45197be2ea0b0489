//! The configuration file, and the files that it or the flags name.

pub(crate) mod checks;
pub(crate) mod collectors;
pub(crate) mod exposed;
pub(crate) mod file;
pub(crate) mod listen;
pub(crate) mod sections;
pub(crate) mod settings;
