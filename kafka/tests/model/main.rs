//! The model's rules, without a socket.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod append;
mod batch;
mod log;
mod properties;
