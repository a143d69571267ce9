//! Bare files: what the same messages cost without a broker. Each message is its length and its
//! payload; a group of messages is one `write` and one `fdatasync`; a file is as large as a segment
//! of the log is by default.
//!
//! The writer is a process of its own, so that the same is measured of it as of a broker.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::payloads::Payloads;
use super::process::Process;
use super::progress::Progress;
use super::usage::Usage;
use crate::cli::bench::BenchWriteFilesOptions;

/// At which size a file is closed and the next one begun.
const FILE_BYTES: u64 = 16 << 20;

/// What the writer says at its end.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Written {
    pub(super) elapsed: Duration,
    pub(super) syncs: u64,
    pub(super) usage: Usage,
}

/// Runs the writer as a process, in `folder`.
///
/// # Errors
/// It fails, for instance because the disk is full.
pub(super) async fn measure(
    folder: &Path,
    messages: u32,
    size: u32,
    group: u32,
    progress: &mut Progress,
) -> anyhow::Result<Written> {
    let this_program = std::env::current_exe().context("find this program")?;
    let data = folder.join("data");
    fs::create_dir(&data).with_context(|| format!("create {}", data.display()))?;
    let [messages_text, size_text, group_text] = [messages, size, group].map(|n| n.to_string());
    let arguments = [
        "bench".as_ref(),
        "write-files".as_ref(),
        "--folder".as_ref(),
        data.as_os_str(),
        "--messages".as_ref(),
        messages_text.as_ref(),
        "--size".as_ref(),
        size_text.as_ref(),
        "--group".as_ref(),
        group_text.as_ref(),
    ];
    let log = folder.join("writer.log");
    let mut process = Process::start("the writer of files", &this_program, &arguments, &log)?;
    let of_message = u64::from(size) + 4;
    let look = || progress.show(super::folder::size(&data).unwrap_or_default() / of_message);
    process.wait(look).await?;
    serde_json::from_str(&process.output()?).context("read what the writer of files said")
}

/// In the child: writes, and prints what that took.
///
/// # Errors
/// A file cannot be written or synced.
pub(super) fn write_files(options: &BenchWriteFilesOptions) -> anyhow::Result<()> {
    let BenchWriteFilesOptions {
        messages,
        size,
        group,
        folder,
    } = options;
    let payloads = Payloads::new(*size);
    let before = Usage::of_this_process()?;
    let began = Instant::now();
    let syncs = write(folder, &payloads, u64::from(*messages), u64::from(*group));
    let written = Written {
        syncs: syncs.with_context(|| format!("write files in {}", folder.display()))?,
        elapsed: began.elapsed(),
        usage: Usage::of_this_process()?.since(before),
    };
    serde_json::to_writer(io::stdout(), &written).context("print")
}

/// Writes messages; the number of syncs.
fn write(folder: &Path, payloads: &Payloads, messages: u64, group: u64) -> io::Result<u64> {
    let (mut number, mut syncs, mut files, mut bytes) = (0, 0, 0, 0);
    let mut file = next_file(folder, &mut files)?;
    let mut buffer = Vec::new();
    while number < messages {
        buffer.clear();
        let end = messages.min(number.saturating_add(group));
        for number in number..end {
            let payload = payloads.of(number);
            let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(&payload);
        }
        if bytes >= FILE_BYTES {
            file = next_file(folder, &mut files)?;
            bytes = 0;
        }
        file.write_all(&buffer)?;
        file.sync_data()?;
        syncs += 1;
        bytes += buffer.len() as u64;
        number = end;
    }
    Ok(syncs)
}

fn next_file(folder: &Path, files: &mut u32) -> io::Result<File> {
    *files += 1;
    let file = File::create_new(folder.join(format!("{files:06}")))?;
    // The name has to be on flash too, once a file.
    File::open(folder)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FILE_BYTES, write};
    use crate::bench::payloads::Payloads;

    #[test]
    fn every_message_is_in_the_files_and_the_last_group_may_be_small() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path(), &Payloads::new(10), 7, 3).unwrap(), 3);
        let bytes = fs::read(folder.path().join("000001")).unwrap();
        assert_eq!(bytes.len(), 7 * 14);
        assert_eq!(bytes[..4], [10, 0, 0, 0]);
        assert_eq!(bytes[14 + 4..28], Payloads::new(10).of(1)[..]);
    }

    #[test]
    fn next_file_is_begun_when_one_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let size = 131_072;
        let messages = FILE_BYTES / u64::from(size) + 1;
        write(folder.path(), &Payloads::new(size), messages, 1).unwrap();
        assert!(folder.path().join("000002").exists());
        let error = write(folder.path(), &Payloads::new(1), 1, 1).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    }
}
