//! `tidegate log verify`.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use anyhow::anyhow;
use serde::Serialize;

use crate::admin::{FindingView, VerifiedView, VerifyLine, check_log, get_lines};
use crate::cli::log::LogVerifyOptions;
use crate::exit::Failure;
use crate::log::folder::{LOOK_INSTEAD, with_view};
use crate::log::look::shown;
use crate::log::progress::{Progress, megabytes};
use crate::stdout::print;

pub(super) fn verify(options: &LogVerifyOptions) -> Result<(), Failure> {
    let mut printer = Printer::new(options.json);
    match &options.source.data {
        Some(path) => with_view(path, LOOK_INSTEAD, |view| {
            check_log(view.store(), options.log.as_deref())?;
            let mut printed = Ok(());
            let verified = view.verify(options.log.as_deref(), |progress| {
                printed = printer.take(VerifyLine::of(view.store(), progress));
                match printed {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            printed?;
            printer.take(VerifyLine::Verified(verified.into()))
        })??,
        None => {
            let log = options.log.iter();
            let query: String = log.map(|log| format!("?log={log}")).collect();
            get_lines(
                options.source.admin,
                &format!("/log/verify{query}"),
                |line| {
                    printer.take(line)?;
                    Ok(ControlFlow::Continue(()))
                },
            )?;
        }
    }
    printer.verdict()
}

/// Prints what is found as it is found.
struct Printer {
    is_json: bool,
    progress: Progress,
    verified: Option<VerifiedView>,
}

impl Printer {
    fn new(is_json: bool) -> Self {
        Self {
            is_json,
            progress: Progress::new(),
            verified: None,
        }
    }

    fn take(&mut self, line: VerifyLine) -> anyhow::Result<()> {
        match line {
            VerifyLine::Reading {
                segments,
                segments_total,
                bytes,
                bytes_total,
            } => self.progress.show(|| {
                let (bytes, total) = (megabytes(bytes), megabytes(bytes_total));
                format!("{segments} of {segments_total} segments, {bytes} of {total}")
            }),
            VerifyLine::Finding(finding) => {
                self.progress.clear();
                let line = match self.is_json {
                    true => json_line("finding", &finding)?,
                    false => describe(&finding),
                };
                say(&line)?;
            }
            VerifyLine::Verified(verified) => {
                self.progress.clear();
                let line = match self.is_json {
                    true => json_line("verified", &verified)?,
                    false => summary(&verified),
                };
                say(&line)?;
                self.verified = Some(verified);
            }
        }
        Ok(())
    }

    fn verdict(self) -> Result<(), Failure> {
        match self.verified {
            None => Err(anyhow!("it ended before everything was read").into()),
            Some(verified) if verified.warnings + verified.errors > 0 => {
                let (errors, warnings) = (verified.errors, verified.warnings);
                Err(anyhow!("found {errors} errors and {warnings} warnings").into())
            }
            Some(_) => Ok(()),
        }
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    match print(line)? {
        true => Ok(()),
        false => Err(anyhow!("nobody reads standard output any more")),
    }
}

fn json_line(name: &str, value: &impl Serialize) -> anyhow::Result<String> {
    let value = serde_json::json!({ name: value });
    Ok(format!("{value}\n"))
}

/// A finding for people, in one line.
pub(super) fn describe(finding: &FindingView) -> String {
    let mut out = format!("{} {}", finding.severity, finding.kind);
    for (name, number) in [("segment", finding.segment), ("commit", finding.commit)] {
        if let Some(number) = number {
            // Writing into text does not fail.
            let _ = write!(out, " {name} {number}");
        }
    }
    if let (Some(log), Some(partition)) = (&finding.log, finding.partition) {
        let _ = write!(out, " {log}-{partition}");
    }
    if let (Some(from), Some(to)) = (finding.from, finding.to) {
        let _ = write!(out, " offsets {from} to {}", to.saturating_sub(1));
    }
    format!("{out}: {}\n", shown(&finding.what))
}

fn summary(verified: &VerifiedView) -> String {
    let VerifiedView {
        segments,
        bytes,
        commits,
        batches,
        records,
        retained,
        cold,
        gaps,
        notes,
        warnings,
        errors,
    } = verified;
    let bytes = megabytes(*bytes);
    format!(
        "read {segments} segments, {bytes}: {commits} commits, {batches} batches, {records} records; \
         {retained} retained messages and {cold} sessions in the metadata, {gaps} gaps written down\n\
         {errors} errors, {warnings} warnings, {notes} notes\n"
    )
}
