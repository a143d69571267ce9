//! Kafka's own reader of log files, `kafka-dump-log.sh`: the judge of what is exported.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::kafka::available;
use crate::program;

/// What Kafka says about a log file: its batches, records and payloads.
///
/// # Errors
/// When Kafka is not installed or cannot read the file.
pub fn dump_log(file: &Path) -> Result<String> {
    let jars = available().map_err(|reason| anyhow!(reason))?;
    let output = Command::new(program::find("java").unwrap_or_else(|| "java".into()))
        .args([
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
        ])
        .arg("-cp")
        .arg(jars.join("*"))
        .args(["org.apache.kafka.tools.DumpLogSegments", "--deep-iteration"])
        .args(["--print-data-log", "--files"])
        .arg(file)
        .output()
        .context("run Kafka's log reader")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("{}{}", text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}
