//! Tower layer for MongoDB transactions.
