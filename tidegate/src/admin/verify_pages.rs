//! What `verify` says, line by line, for people and programs.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use storage::{Finding, LogPartition, Store, Verified, VerifyProgress};

use crate::admin::log_pages::find_log;

/// A line of the answer. The last one is [`VerifyLine::Verified`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerifyLine {
    /// Something is wrong.
    Finding(FindingView),
    /// How far it is.
    Reading {
        segments: u64,
        segments_total: u64,
        bytes: u64,
        bytes_total: u64,
    },
    /// What was read, in numbers.
    Verified(VerifiedView),
}

/// A finding.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct FindingView {
    pub(crate) severity: String,
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<u16>,
    /// First offset that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<u64>,
    /// First offset behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<u64>,
    pub(crate) what: String,
}

/// See [`Verified`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct VerifiedView {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) commits: u64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) retained: u64,
    #[serde(default)]
    pub(crate) cold: u64,
    pub(crate) gaps: u64,
    pub(crate) notes: u64,
    pub(crate) warnings: u64,
    pub(crate) errors: u64,
}

impl From<Verified> for VerifiedView {
    fn from(verified: Verified) -> Self {
        let Verified {
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
        Self {
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
        }
    }
}

impl VerifyLine {
    /// What a store tells, with the names of its logs.
    pub(crate) fn of(store: &Store, progress: VerifyProgress) -> Self {
        match progress {
            VerifyProgress::Finding(finding) => Self::Finding(view(store, finding)),
            VerifyProgress::Reading {
                segments,
                segments_total,
                bytes,
                bytes_total,
            } => Self::Reading {
                segments,
                segments_total,
                bytes,
                bytes_total,
            },
        }
    }
}

fn view(store: &Store, finding: Finding) -> FindingView {
    let (log, partition) = finding.partition.map_or((None, None), |partition| {
        let (log, number) = name_of(store, partition);
        (Some(log), Some(number))
    });
    let (from, to) = finding.offsets.unzip();
    FindingView {
        severity: finding.severity.as_str().to_owned(),
        kind: finding.kind.as_str().to_owned(),
        segment: finding.segment.map(|segment| segment.0),
        commit: finding.commit.map(|commit| commit.0),
        log,
        partition,
        from: from.map(|offset| offset.0),
        to: to.map(|offset| offset.0),
        what: finding.what,
    }
}

fn name_of(store: &Store, partition: LogPartition) -> (String, u16) {
    let mut logs = store.logs().into_iter();
    let log = logs.find(|log| log.id == partition.log);
    let name = log.map_or_else(|| format!("(log {})", partition.log), |log| log.name);
    (name, partition.partition.0)
}

/// Verifies a running store, or what of it is asked for.
pub(super) fn verify(
    store: &Store,
    log: Option<&str>,
    tell: &mut dyn FnMut(&VerifyLine) -> ControlFlow<()>,
) {
    let mut gone = false;
    let verified = store.verify(log, |progress| {
        let flow = tell(&VerifyLine::of(store, progress));
        gone = flow.is_break();
        flow
    });
    if !gone {
        let _ = tell(&VerifyLine::Verified(verified.into()));
    }
}

/// That there is such a log, if one is named.
pub(crate) fn check_log(store: &Store, log: Option<&str>) -> anyhow::Result<()> {
    match log {
        Some(name) => find_log(store, name).map(|_| ()),
        None => Ok(()),
    }
}
