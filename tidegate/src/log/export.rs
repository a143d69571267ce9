//! `tidegate log export`.
//!
//! What is exported comes as the same lines from a running gateway and from a folder; two writers
//! make files of them. Invariant: a file under its own name is whole.

mod jsonl;
mod kafka_files;

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use storage::View;

use crate::admin::{
    ExportBatch, ExportLine, ExportRequest, Exporting, export as export_lines, get_lines,
};
use crate::cli::log::{ExportFormat, LogExportOptions};
use crate::exit::Failure;
use crate::log::folder::{LOOK_INSTEAD, with_view};
use crate::log::progress::Progress;
use crate::stderr::say;

/// Makes files of what is exported.
trait Writer {
    fn batch(&mut self, batch: &ExportBatch) -> anyhow::Result<()>;
    fn gap(&mut self, gap: &GapLine<'_>) -> anyhow::Result<()>;
    /// Everything came: the files get their names.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// Records that are not there.
struct GapLine<'a> {
    partition: u16,
    from: u64,
    to: u64,
    reason: &'a str,
}

pub(super) fn export(options: &LogExportOptions) -> Result<(), Failure> {
    let request = ExportRequest {
        log: options.log.clone(),
        partition: options.partition,
        from: options.from,
        to: options.to,
        since_ms: options.since,
        until_ms: options.until,
    };
    let mut export = Export {
        writer: writer(options, &request)?,
        log: options.log.clone(),
        progress: Progress::new(),
        ended: false,
    };
    match &options.source.data {
        None => get_lines(options.source.admin, &request.path(), |line| {
            export.take(line)?;
            Ok(ControlFlow::Continue(()))
        })?,
        Some(path) => with_view(path, LOOK_INSTEAD, |view| match &options.quarantined {
            None => from_folder(view, &request, &mut export),
            Some(name) => from_quarantine(view, name, &request, &mut export),
        })??,
    }
    export.finish()?;
    Ok(())
}

fn writer(options: &LogExportOptions, request: &ExportRequest) -> anyhow::Result<Box<dyn Writer>> {
    match (options.format, &options.output) {
        (ExportFormat::Kafka, Some(folder)) => Ok(Box::new(kafka_files::KafkaFiles::new(
            folder,
            &options.log,
            options.partition,
            options.force,
        )?)),
        (ExportFormat::Kafka, None) => Err(anyhow!("`--format kafka` needs `--output`")),
        (ExportFormat::Jsonl, output) => Ok(Box::new(jsonl::JsonLines::new(
            output.as_deref(),
            options.force,
            request.clone(),
        )?)),
    }
}

fn from_folder(view: &View, request: &ExportRequest, export: &mut Export) -> anyhow::Result<()> {
    let mut taken = Ok(());
    export_lines(view.store(), request, &mut |line| {
        taken = export.take(line);
        flow(&taken)
    })?;
    taken
}

fn from_quarantine(
    view: &View,
    name: &str,
    request: &ExportRequest,
    export: &mut Export,
) -> anyhow::Result<()> {
    let mut exporting = Exporting::aside(view.store(), request)?;
    let mut taken = Ok(());
    let salvaged = view.read_quarantined(name, |commit| {
        exporting.take(commit, &mut |line| {
            taken = export.take(line);
            flow(&taken)
        })
    })?;
    taken?;
    if salvaged.damaged_places > 0 {
        let places = salvaged.damaged_places;
        say(&format!("{name} cannot be read in {places} places"));
    }
    export.take(ExportLine::End)
}

fn flow(taken: &anyhow::Result<()>) -> ControlFlow<()> {
    match taken {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// An export on its way.
struct Export {
    writer: Box<dyn Writer>,
    log: String,
    progress: Progress,
    ended: bool,
}

impl Export {
    fn take(&mut self, line: ExportLine) -> anyhow::Result<()> {
        match line {
            ExportLine::Batch(batch) => self.writer.batch(&batch)?,
            ExportLine::Gap {
                partition,
                from,
                to,
                reason,
            } => {
                self.progress.clear();
                let (log, last) = (&self.log, to.saturating_sub(1));
                say(&format!(
                    "gap: offsets {from} to {last} of {log}-{partition} are not there ({reason})"
                ));
                let reason = reason.as_str();
                self.writer.gap(&GapLine {
                    partition,
                    from,
                    to,
                    reason,
                })?;
            }
            ExportLine::Reading {
                commits,
                commits_total,
            } => self
                .progress
                .show(|| format!("{commits} of {commits_total} commits")),
            ExportLine::End => self.ended = true,
            ExportLine::Failed(why) => return Err(anyhow!(why)),
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.progress.clear();
        match self.ended {
            true => self.writer.finish(),
            false => Err(anyhow!("the export ended before everything was read")),
        }
    }
}

/// Refuses to replace what is there.
fn check_free(path: &Path, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        let path = path.display();
        return Err(anyhow!("{path} is there already; --force replaces it"));
    }
    Ok(())
}

/// Makes what was written, and its name in its folder, durable.
fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("sync {}", folder.display()))
}
