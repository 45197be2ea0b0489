//! The transaction runner on a real replica set.

mod abandoned_statements;
mod cancellation;
mod handler;
mod keyed_queue;
mod misuse;
mod outcomes;
mod random_callbacks;
mod refused_cleanup;
mod wrapped_errors;
