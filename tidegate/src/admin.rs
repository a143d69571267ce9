//! The admin server, HTTP on loopback: `/healthz`, `/readyz`, `/metrics`, `/status`, `/log/list`,
//! `/log/read`, `/log/verify`, `/log/export`. For health checks, Prometheus, and the `tidegate` command itself.
//!
//! Without authentication, hence on loopback only (the configuration refuses anything else): who may
//! run a program on the gateway may read what it stores.

pub(crate) mod base64;
mod client;
mod export_pages;
pub(crate) mod flash_page;
mod log_pages;
mod metrics;
pub(crate) mod oldest_segment_page;
mod query;
mod server;
mod state;
pub(crate) mod status_page;
mod stream;
mod verify_pages;

pub(crate) use client::{fetch, get, get_lines};
pub(crate) use export_pages::{ExportBatch, ExportLine, ExportRequest, Exporting, export};
pub(crate) use log_pages::{
    LogSummary, PartitionSummary, Reading, RecordView, read_records, summarise,
};
pub(crate) use server::Admin;
pub(crate) use state::{AdminState, Degraded, Kept, Serving, describe};
pub(crate) use verify_pages::{FindingView, VerifiedView, VerifyLine, check_log};
