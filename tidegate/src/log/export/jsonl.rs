//! JSON lines: one object a record, and one for each gap.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use record_batch::{Batch, Record};
use serde::Serialize;
use storage::Message;
use tempfile::NamedTempFile;

use super::{GapLine, Writer, check_free, sync_folder};
use crate::admin::base64;
use crate::admin::{ExportBatch, ExportRequest};

const BUFFER_BYTES: usize = 64 * 1024;

/// See the module's documentation.
pub(super) struct JsonLines {
    out: BufWriter<Output>,
    path: Option<PathBuf>,
    force: bool,
    /// Whether there is a line.
    has_any: bool,
    request: ExportRequest,
}

enum Output {
    File(NamedTempFile),
    Stdout(io::Stdout),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Record(Box<RecordLine<'a>>),
    Gap {
        log: &'a str,
        partition: u16,
        from: u64,
        to: u64,
        reason: &'a str,
    },
}

#[derive(Serialize)]
struct RecordLine<'a> {
    log: &'a str,
    partition: u16,
    offset: i64,
    commit: u64,
    /// What follows the gateway's name in `tg-id`.
    tg_id: String,
    /// Milliseconds since 1970, corrected.
    time_ms: i64,
    time_quality: &'a str,
    /// The key, if it is UTF-8, or else in base64; the same of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    topic: String,
    client_id: String,
    qos: u8,
    retain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl JsonLines {
    pub(super) fn new(
        path: Option<&Path>,
        force: bool,
        request: ExportRequest,
    ) -> anyhow::Result<Self> {
        let output = match path {
            None => Output::Stdout(io::stdout()),
            Some(path) => {
                check_free(path, force)?;
                let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
                let folder = folder.unwrap_or_else(|| Path::new("."));
                let file = tempfile::Builder::new()
                    .prefix(".tidegate-export-")
                    .tempfile_in(folder);
                Output::File(
                    file.with_context(|| format!("create a file in {}", folder.display()))?,
                )
            }
        };
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, output),
            path: path.map(Path::to_owned),
            force,
            has_any: false,
            request,
        })
    }

    fn line(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line).context("make a line")?;
        text.push(b'\n');
        self.has_any = true;
        let written = self.out.write_all(&text);
        self.explain(written)
    }

    fn explain(&self, written: io::Result<()>) -> anyhow::Result<()> {
        match (written, &self.path) {
            (Ok(()), _) => Ok(()),
            (Err(error), None) if error.kind() == io::ErrorKind::BrokenPipe => Err(anyhow!(
                "nobody reads standard output any more: the export is not whole"
            )),
            (Err(error), path) => {
                let shown = path.as_ref().map(|path| path.display().to_string());
                let shown = shown.unwrap_or_else(|| "standard output".to_owned());
                Err(error).with_context(|| format!("write {shown}"))
            }
        }
    }

    fn wants(&self, offset: i64, time_ms: i64) -> bool {
        let ExportRequest {
            from,
            to,
            since_ms,
            until_ms,
            ..
        } = self.request;
        let offset = u64::try_from(offset).unwrap_or(0);
        from.is_none_or(|from| offset >= from)
            && to.is_none_or(|to| offset < to)
            && since_ms.is_none_or(|since| time_ms >= since)
            && until_ms.is_none_or(|until| time_ms < until)
    }

    fn record(&mut self, batch: &ExportBatch, record: &Record) -> anyhow::Result<()> {
        let time_ms = record.timestamp_ms.saturating_add(batch.shift_ms);
        if !self.wants(record.offset, time_ms) {
            return Ok(());
        }
        let message = Message::from_record(record)?;
        let log = self.request.log.clone();
        let key = record.key.clone().unwrap_or_default();
        let (key, key_base64) = text_or_base64(&key);
        let (payload, payload_base64) = text_or_base64(&message.payload);
        let (partition, offset) = (batch.partition, record.offset);
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        let line = RecordLine {
            log: &log,
            partition,
            offset,
            commit: batch.commit,
            tg_id: format!("{}/{log}-{partition}/{offset}", batch.incarnation),
            time_ms,
            time_quality: &batch.time_quality,
            key,
            key_base64,
            topic: text(&message.topic),
            client_id: text(&message.client_id),
            qos: message.qos,
            retain: message.retain,
            expires_at_ms: message
                .expires_at_ms
                .map(|ms| ms.saturating_add(batch.shift_ms)),
            content_type: message.content_type.as_ref().map(text),
            response_topic: message.response_topic.as_ref().map(text),
            correlation_data_base64: message.correlation_data.as_deref().map(base64::encode),
            user_properties: message
                .user_properties
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            payload,
            payload_base64,
        };
        self.line(&Line::Record(Box::new(line)))
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(base64::encode(bytes))),
    }
}

impl Writer for JsonLines {
    fn batch(&mut self, batch: &ExportBatch) -> anyhow::Result<()> {
        let (parsed, _) = Batch::parse(batch.data.clone())?;
        for record in parsed.records() {
            self.record(batch, &record?)?;
        }
        Ok(())
    }

    fn gap(&mut self, gap: &GapLine<'_>) -> anyhow::Result<()> {
        let log = self.request.log.clone();
        let GapLine {
            partition,
            from,
            to,
            reason,
        } = *gap;
        self.line(&Line::Gap {
            log: &log,
            partition,
            from,
            to,
            reason,
        })
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let flushed = self.out.flush();
        self.explain(flushed)?;
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        if !self.has_any && path.exists() {
            let path = path.display();
            return Err(anyhow!("nothing is exported: {path} stays as it is"));
        }
        let stdout = Output::Stdout(io::stdout());
        let Output::File(file) = std::mem::replace(self.out.get_mut(), stdout) else {
            return Ok(());
        };
        let written = || format!("write {}", path.display());
        file.as_file().sync_all().with_context(written)?;
        let kept: Result<File, _> = match self.force {
            true => file.persist(&path),
            false => file.persist_noclobber(&path),
        };
        kept.map_err(|error| error.error).with_context(written)?;
        sync_folder(&path)
    }
}
