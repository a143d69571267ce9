//! `/metrics`: Prometheus' text format, version 0.0.4. `docs/metrics.md` explains each.
//!
//! The numbers are kept where they arise; here they only get names. Labels are small closed sets.

mod bridge;
mod broker;
mod log;
mod text;

use std::{fmt, fs};

use crate::admin::state::AdminState;
use text::{Exposition, Kind};

/// All metrics, as they are now.
pub(crate) fn exposition(state: &AdminState) -> Result<String, fmt::Error> {
    let mut out = Exposition {
        text: String::with_capacity(16 * 1024),
    };
    out.metric(
        "tidegate_build_info",
        Kind::Gauge,
        "Version of the running program.",
    )?
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1)?;
    out.gauge(
        "tidegate_uptime_seconds",
        "Time since the start.",
        state.started.elapsed().as_secs(),
    )?;
    broker::broker(&mut out, state)?;
    log::store(&mut out, state)?;
    bridge::bridge(&mut out, state)?;
    process(&mut out)?;
    Ok(out.text)
}
/// What the kernel counts for this process; left out where it does not say.
fn process(out: &mut Exposition) -> fmt::Result {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kib) = field(&status, "VmRSS:") {
        let name = "tidegate_process_resident_memory_bytes";
        out.gauge(name, "Memory of the process.", kib * 1024)?;
    }
    if let Some(bytes) = field(&io, "wchar:") {
        let name = "tidegate_process_written_bytes_total";
        out.counter(
            name,
            "Bytes passed to write calls, sockets included.",
            bytes,
        )?;
    }
    if let Some(bytes) = field(&io, "write_bytes:") {
        let name = "tidegate_process_storage_written_bytes_total";
        out.counter(
            name,
            "Bytes of dirtied pages: what goes to the flash.",
            bytes,
        )?;
    }
    Ok(())
}
