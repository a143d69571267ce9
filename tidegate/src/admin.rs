//! The admin server, HTTP on loopback: `/healthz`, `/readyz`, `/metrics`, `/status`, `/log/list`,
//! `/log/read`. For health checks, Prometheus, and the `tidegate` command itself.
//!
//! Without authentication, hence on loopback only (the configuration refuses anything else): who may
//! run a program on the gateway may read what it stores.

mod client;
pub(crate) mod flash_page;
mod log_pages;
mod metrics;
mod server;
mod state;
pub(crate) mod status_page;

pub(crate) use client::{fetch, get};
pub(crate) use log_pages::{LogSummary, Reading, RecordView, read_records, summarise};
pub(crate) use server::Admin;
pub(crate) use state::{AdminState, Degraded, Kept, Serving};
