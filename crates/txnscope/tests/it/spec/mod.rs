//! The runner against the scenarios of MongoDB's own test files for transactions: see `../README.md`.

mod abort;
mod backpressure;
mod cases;
mod codes;
mod commit;
mod convenient;
mod misuse;
mod options;
mod spec_env;
mod statements;
