//! What is played, each from outside, over forwarded ports.

pub(crate) mod install;
pub(crate) mod measures;
pub(crate) mod power_cuts;
pub(crate) mod restarts;
pub(crate) mod service;
