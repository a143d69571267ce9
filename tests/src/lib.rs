//! What the black-box suites stand on: the product as a process, real peers, a link that can be cut.
//!
//! The suites themselves are the files in `tests/tests/`; this library starts and stops what they
//! talk to. Every process started here ends with the test process, however that ends, and keeps
//! its files in a temporary folder that goes with it.
//!
//! A suite that needs something that is not installed says so with [`skip`] and returns; `./test`
//! installs everything, and in CI a skip whose reason is not listed is a failure.
//!
//! Nothing here asserts how long something takes: waiting is bounded (see [`deadline`]), and the
//! bound is for a machine that is busy with something else.

pub mod admin_log;
pub mod broker_process;
pub mod cache;
pub mod chaos;
pub mod command_line;
pub mod deadline;
pub mod exposition;
pub mod gateway;
pub mod http;
pub mod kafka;
pub mod kill_loop;
pub mod mosquitto;
pub mod mqtt;
pub mod node;
pub mod paho;
pub mod ports;
pub mod program;
pub mod proxy;
pub mod python;
pub mod sessions;
pub mod skip;
pub mod supervised;
