//! The reference backend: retainers, payments and bank transfers on real MongoDB transactions, instrumented with
//! txnscope's layer.
//!
//! Each movement of money is one transaction: the balance, the movement of a retainer, the two lines of the general
//! ledger and, if the client sent an `Idempotency-Key`, the record of the response are written together or not at all.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use ledger::{Ledger, Server, Settings, Token};
//!
//! let client = ledger::connect("mongodb://127.0.0.1:27017/?replicaSet=rs0").await?;
//! let ledger = Ledger::open(client, Settings::new(Token::new("a secret")?)).await?;
//! let metrics = txnscope::Metrics::isolated()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = Server::start(listener, ledger, &metrics)?;
//! // … requests to server.address() …
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod app;
mod auth;
mod bank_accounts;
mod bank_transfers;
mod connections;
mod database;
mod db_error;
mod dto;
mod error;
mod extract;
#[cfg(feature = "mutants")]
mod fault_injection;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod general_ledger;
mod health;
mod idempotency;
mod identifier;
mod invoices;
mod money;
pub mod operations;
mod payments;
mod response;
mod retainer_movements;
mod retainers;
mod server;
mod state;
mod stored;
mod transaction;

pub use crate::app::app;
pub use crate::auth::{Token, TokenError};
pub use crate::database::{OpenError, UriError, connect};
#[cfg(feature = "mutants")]
pub use crate::fault_injection::Mutant;
pub use crate::money::{Money, MoneyError};
pub use crate::server::{ServeError, Server, serve};
pub use crate::state::{Ledger, Settings};
