//! Monitored members: states, error replies, addresses, and identity.
//!
//! Real servers where possible; fake members for replies that no real server can be made to send.

mod addresses;
mod fakes;
mod followed;
mod refusals;
mod states;
mod strangers;
