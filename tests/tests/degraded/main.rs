//! A gateway whose flash fails: it restarts once, then serves what needs no flash, and comes back by
//! itself; nothing that it acknowledged is lost.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod descriptors;
mod flash;
mod place;
mod reading;
mod threads;
