//! Record batches from the outside: what is built comes back, what is damaged is refused, and an
//! independent codec agrees.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod damage;
mod peer;
mod round_trip;
mod strategy;
