//! Fuzzing of `mqtt`: what must hold of the codec and of the server's state machine for any input,
//! the seeds, and a search with mutations of them.
//!
//! A [`Target`] is a function from bytes that panics when something does not hold. libFuzzer calls it
//! from `fuzz/`, which needs the nightly compiler and a workspace of its own; the tests of this crate
//! call it with every seed and, for half a minute, with mutations. It is no part of the product.

pub mod connection;
pub mod decode;
mod filters;
mod frame;
mod mutation;
pub mod notation;
mod random;
mod search;
mod seen;
mod shrink;
mod target;

pub use search::{Finding, Search, hold};
pub use seen::Seen;
pub use target::Target;
