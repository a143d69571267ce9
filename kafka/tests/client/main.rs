//! The client against the model over real sockets, and against peers that are no broker.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

#[path = "../batch/mod.rs"]
mod batch;
mod calls;
mod faults;
mod foreign;
mod hostile;
mod order;
mod setup;
