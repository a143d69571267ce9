//! What recovery has to tell.

use std::fmt;

use crate::guard::{DamageCopy, Kept};
use crate::ids::{CommitNumber, SegmentId};

/// Something out of the ordinary that happened while the folder was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryEvent {
    /// The metadata could not be opened; it was put aside and made again from the segments.
    MetadataQuarantined {
        /// What sled said.
        reason: String,
    },
    /// The metadata was empty or not there; it was made again from the segments.
    MetadataMissing,
    /// Cold journal entries (sessions) whose home was the metadata are lost, or are of an earlier
    /// state: it was damaged, or made again from the segments, which do not have them.
    ColdEntriesLost {
        /// How many it held.
        held: u64,
        /// How many are there.
        found: u64,
    },
    /// A segment could not be opened and was put aside.
    SegmentQuarantined {
        /// Which.
        segment: SegmentId,
        /// What sled said.
        reason: String,
    },
    /// A segment can be read up to a damaged place and is used up to there.
    SegmentCut {
        /// Which.
        segment: SegmentId,
        /// The last commit before the damage.
        last_commit: CommitNumber,
        /// What is wrong after it.
        reason: String,
    },
    /// The directory of a segment that should be there is gone.
    SegmentMissing {
        /// Which.
        segment: SegmentId,
    },
    /// Commits at the end of the log are gone although they were durable.
    EndLost {
        /// The last commit that can be read.
        last_commit: CommitNumber,
        /// A later one that had been durable.
        durable: CommitNumber,
    },
    /// MARK is missing or damaged: nothing says whether commits at the end of the log are gone.
    EndNotProven {
        /// The last commit that can be read.
        last_commit: CommitNumber,
    },
    /// A segment is damaged and something can be read behind the damage. sled would have overwritten
    /// that, so it was copied into quarantine before anything else was done, if there was room.
    DamageCopied {
        /// Which.
        segment: SegmentId,
        /// What is left of that.
        copy: DamageCopy,
        /// Whole commits that are not, or not wholly, before the damage.
        commits_behind: u64,
    },
    /// The last commit was being written when the process ended; nobody had been promised anything.
    UnfinishedCommit {
        /// Which.
        commit: CommitNumber,
    },
}

impl RecoveryEvent {
    /// The kinds of events, one word each, for labels of metrics.
    pub const KINDS: [&str; 11] = [
        "metadata_missing",
        "metadata_quarantined",
        "cold_entries_lost",
        "segment_quarantined",
        "segment_cut",
        "segment_missing",
        "end_lost",
        "end_not_proven",
        "damage_copied",
        "damage_not_copied",
        "unfinished_commit",
    ];

    /// Which of [`Self::KINDS`] it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MetadataMissing => "metadata_missing",
            Self::MetadataQuarantined { .. } => "metadata_quarantined",
            Self::ColdEntriesLost { .. } => "cold_entries_lost",
            Self::SegmentQuarantined { .. } => "segment_quarantined",
            Self::SegmentCut { .. } => "segment_cut",
            Self::SegmentMissing { .. } => "segment_missing",
            Self::EndLost { .. } => "end_lost",
            Self::EndNotProven { .. } => "end_not_proven",
            Self::DamageCopied {
                copy: DamageCopy::Lost(_),
                ..
            } => "damage_not_copied",
            Self::DamageCopied { .. } => "damage_copied",
            Self::UnfinishedCommit { .. } => "unfinished_commit",
        }
    }

    pub(super) fn of_kept(segment: SegmentId, kept: Kept) -> Self {
        Self::DamageCopied {
            segment,
            copy: kept.copy,
            commits_behind: kept.commits_behind,
        }
    }
}

impl fmt::Display for RecoveryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetadataQuarantined { reason } => {
                write!(
                    f,
                    "metadata was put into quarantine and made again from the log: {reason}"
                )
            }
            Self::MetadataMissing => {
                f.write_str("metadata was missing and was made again from the log")
            }
            Self::ColdEntriesLost { held, found } => {
                write!(
                    f,
                    "metadata lost sessions: it held {held}, {found} are there, some of which may be of \
                     an earlier state; those that changed last are in the log"
                )
            }
            Self::SegmentQuarantined { segment, reason } => {
                write!(f, "segment {segment} was put into quarantine: {reason}")
            }
            Self::SegmentCut {
                segment,
                last_commit,
                reason,
            } => {
                write!(
                    f,
                    "segment {segment} ends at commit {last_commit}: {reason}"
                )
            }
            Self::SegmentMissing { segment } => write!(f, "segment {segment} is missing"),
            Self::EndLost {
                last_commit,
                durable,
            } => {
                write!(
                    f,
                    "the log ends at commit {last_commit} although commit {durable} was durable"
                )
            }
            Self::EndNotProven { last_commit } => {
                write!(
                    f,
                    "MARK is missing or damaged: the log ends at commit {last_commit}, and nothing says \
                     whether there were later ones"
                )
            }
            Self::DamageCopied {
                segment,
                copy,
                commits_behind,
            } => {
                let kept = Kept {
                    copy: copy.clone(),
                    commits_behind: *commits_behind,
                };
                write!(f, "segment {segment} is damaged; {kept}")
            }
            Self::UnfinishedCommit { commit } => {
                write!(f, "commit {commit} was not finished and is left out")
            }
        }
    }
}
