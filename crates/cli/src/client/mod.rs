//! Clients of MongoDB, and of the services around a deployment.

pub(crate) mod mongodb;
pub(crate) mod services;
