//! What a run that was not copied says of the next try, and what is live.

use std::io;

use record_batch::{BatchBuilder, RecordFields};

use super::*;
use crate::commit::BodyBuilder;
use crate::evacuated::WriteManifestError;
use crate::ids::{EraId, LogId, PartitionId};
use crate::metadata::MetadataError;

fn name() -> SegmentName {
    SegmentName::written(SegmentId(7))
}

fn no_descriptors() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

fn of_the_machine() -> sled::Error {
    sled::Error::Io(no_descriptors())
}

fn open(source: DatabaseError) -> NotEvacuated {
    let segment = name();
    NotEvacuated::Open { segment, source }
}

fn damaged() -> DatabaseError {
    DatabaseError::Damaged {
        path: "db".into(),
        what: "garbage".to_owned(),
    }
}

fn read(source: ScanError) -> NotEvacuated {
    let segment = name();
    NotEvacuated::Read { segment, source }
}

fn manifest(source: impl Into<ManifestError>) -> NotEvacuated {
    let (segment, source) = (name(), source.into());
    NotEvacuated::Manifest { segment, source }
}

#[test]
fn damage_of_a_segment_is_for_ever() {
    let segment = name();
    let corrupt = || sled::Error::Corruption { at: None, bt: () };
    for error in [
        open(damaged()),
        read(ScanError::Database("sled panicked".to_owned())),
        manifest(ManifestError::Panicked),
        manifest(MetadataError::Database(corrupt())),
        NotEvacuated::Differs(segment),
        NotEvacuated::Journal {
            segment,
            commit: CommitNumber(3),
            source: journal::decode(b"garbage").unwrap_err(),
        },
        NotEvacuated::Commit {
            segment,
            source: CommitError::Incomplete {
                commit: CommitNumber(3),
                what: "a piece is missing",
            },
        },
        NotEvacuated::PanickedAt(segment),
    ] {
        assert_eq!(error.verdict(), Verdict::Never(segment), "{error:?}");
    }
}

#[test]
fn trouble_of_the_machine_with_a_segment_may_pass() {
    let path = || "db".into();
    for error in [
        open(DatabaseError::Io {
            path: path(),
            source: no_descriptors(),
        }),
        read(ScanError::Machine("no descriptors".to_owned())),
        manifest(MetadataError::Database(of_the_machine())),
    ] {
        assert_eq!(error.verdict(), Verdict::NotNow(name()), "{error:?}");
    }
}

#[test]
fn trouble_with_the_copy_is_of_no_segment() {
    let path = || "db".into();
    for error in [
        open(DatabaseError::Broken),
        NotEvacuated::Panicked,
        WriteError::Write {
            path: path(),
            source: of_the_machine(),
        }
        .into(),
        WriteError::Manifest {
            path: path(),
            source: WriteManifestError::Database(of_the_machine().into()),
        }
        .into(),
    ] {
        assert_eq!(error.verdict(), Verdict::NothingNow, "{error:?}");
    }
    for error in [NotEvacuated::Closing, NotEvacuated::Gone(name())] {
        assert_eq!(error.verdict(), Verdict::Changed, "{error:?}");
    }
}

#[test]
fn batch_is_live_up_to_its_last_record() {
    let partition = LogPartition {
        log: LogId(1),
        partition: PartitionId(0),
    };
    let mut batch = BatchBuilder::new(10);
    for _ in 0..3 {
        batch.append(&RecordFields::default()).unwrap();
    }
    let mut body = BodyBuilder::new(EraId(1));
    body.entry(partition, |out| batch.finish_into(out));
    let commit = Commit::parse(CommitNumber(7), body.finish()).unwrap();
    for (start, is_live) in [(0, true), (10, true), (12, true), (13, false), (20, false)] {
        let starts = BTreeMap::from([(partition, Offset(start))]);
        let kept = live_of(&commit, &starts).unwrap();
        assert_eq!(kept.is_some(), is_live, "start {start}");
    }
}
