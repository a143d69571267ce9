//! What the program and its unit are to systemd: what it is told and when, whom the watchdog kills, sockets that
//! are passed, the sandbox. The service manager is played by the tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

#[path = "../config_keys/model.rs"]
mod model;

mod notices;
mod sandbox;
mod sockets;
mod telling;
mod units;
mod watchdog;
