//! A sealed segment as it stands in its file, for evacuation, which reads a segment only to remove it.
//!
//! sled writes to every database that it opens: it fills the last MiB with zeros and writes a snapshot,
//! half a MiB or more for a segment that is about to go; and it holds all of it in memory. So the file
//! is read as it is, twice: the first time to see that it holds what the index says and that nothing in
//! it is damaged. Everything else is left to sled, and to what is done about damage.
//!
//! Invariants: the file is only read; what is handed out is, as a whole, what the index says.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::commit::Commit;
use crate::evacuated::{Manifest, ManifestError};
use crate::ids::CommitNumber;
use crate::metadata::SegmentRecord;
use crate::raw::RawPieces;
use crate::segment_name::SegmentName;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SealedFile {
    pieces: RawPieces,
    /// What stands in it beside commits.
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Behind it there may be what recovery cut off.
    last_commit: CommitNumber,
}

impl SealedFile {
    /// Reads the file in the directory `path` of a segment; `None` if something in it is damaged, or if
    /// it is not as `record` says.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(crate) fn read(path: &Path, record: &SegmentRecord) -> io::Result<Option<Self>> {
        let mut entries = BTreeMap::new();
        let pieces = RawPieces::read_with(path, |key, value| {
            entries.insert(key.to_vec(), value.to_vec());
        })?;
        if !pieces.is_whole() {
            return Ok(None);
        }
        let file = Self {
            pieces,
            entries,
            last_commit: record.last_commit,
        };
        let mut seen = record.without_commits();
        file.commits(|commit| {
            seen.add(commit);
            ControlFlow::Continue(())
        })?;
        seen.state = record.state;
        Ok((seen == *record).then_some(file))
    }

    /// What it says of itself, if it is an evacuated one.
    ///
    /// # Errors
    /// If it is none, or not `name`.
    pub(crate) fn manifest(&self, name: SegmentName) -> Result<Manifest, ManifestError> {
        Manifest::of_entries(&self.entries, name)
    }

    /// Hands its commits to `visit`, ascending, until that breaks off.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub(crate) fn commits(
        &self,
        mut visit: impl FnMut(&Commit) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let read = self.pieces.commits(|commit| {
            if commit.number() > self.last_commit {
                return ControlFlow::Break(());
            }
            visit(commit)
        });
        read.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use record_batch::{BatchBuilder, RecordFields};

    use super::*;
    use crate::commit::BodyBuilder;
    use crate::evacuated::EvacuatedWriter;
    use crate::ids::{EraId, LogId, LogPartition, Offset, PartitionId, SegmentId};
    use crate::journal::{JournalState, Operation};
    use crate::segment::SegmentWriter;

    impl SealedFile {
        /// As if its file, in the directory `path`, could not be read any more.
        pub(crate) fn made_unreadable(mut self, path: &Path) -> Self {
            let file = fs::OpenOptions::new().write(true).open(path.join("db"));
            self.pieces.read_from(file.unwrap());
            self
        }
    }

    const P: LogPartition = LogPartition {
        log: LogId(1),
        partition: PartitionId(0),
    };

    /// A commit of one record at the offset of its number, some of several pieces.
    fn commit(number: u64) -> Commit {
        let mut batch = BatchBuilder::new(i64::try_from(number).unwrap());
        let size = if number.is_multiple_of(10) {
            150_000
        } else {
            5000
        };
        let value = vec![7; size];
        let fields = RecordFields {
            timestamp_ms: 1000,
            value: Some(&value),
            ..Default::default()
        };
        batch.append(&fields).unwrap();
        let mut body = BodyBuilder::new(EraId(1));
        body.entry(P, |out| batch.finish_into(out));
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    /// Of the commits from 1 to 60, `sealed` are in the record.
    fn written(folder: &Path, sealed: u64) -> (PathBuf, SegmentRecord) {
        let mut writer = SegmentWriter::create(folder, SegmentId(1)).unwrap();
        let mut record = SegmentRecord::created();
        for number in 1..=60 {
            writer.write(&commit(number)).unwrap();
            if number <= sealed {
                record.add(&commit(number));
            }
        }
        (SegmentName::written(SegmentId(1)).path(folder), record)
    }

    fn numbers(file: &SealedFile) -> Vec<u64> {
        let mut numbers = Vec::new();
        file.commits(|found| {
            assert_eq!(found.body(), commit(found.number().0).body());
            numbers.push(found.number().0);
            ControlFlow::Continue(())
        })
        .unwrap();
        numbers
    }

    #[test]
    fn segment_is_read_up_to_its_last_commit_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, record) = written(folder.path(), 50);
        let before = fs::read(path.join("db")).unwrap();
        let names = || fs::read_dir(&path).unwrap().count();
        let files = names();
        let file = SealedFile::read(&path, &record).unwrap().unwrap();
        assert_eq!(numbers(&file), (1..=50).collect::<Vec<_>>());
        assert!(before == fs::read(path.join("db")).unwrap());
        assert_eq!(names(), files, "no snapshot");
    }

    #[test]
    fn segment_that_is_not_what_the_index_says_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, record) = written(folder.path(), 60);
        let read = |record: &SegmentRecord| SealedFile::read(&path, record).unwrap().is_some();
        assert!(read(&record));
        let mut other = record.clone();
        other.add(&commit(61));
        assert!(!read(&other), "a commit is missing");
        let mut other = record.clone();
        other.bytes += 1;
        assert!(!read(&other), "a byte is missing");
        assert!(SealedFile::read(&folder.path().join("none"), &record).is_err());
    }

    /// In the middle and where only sled's own pages are.
    #[test]
    fn segment_with_damage_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, record) = written(folder.path(), 60);
        let whole = fs::read(path.join("db")).unwrap();
        for (at, count) in [(30, 8), (8192, 4096), (whole.len() / 2, 4096)] {
            let mut damaged = whole.clone();
            damaged[at..at + count].fill(0);
            fs::write(path.join("db"), &damaged).unwrap();
            let read = SealedFile::read(&path, &record).unwrap();
            assert!(read.is_none(), "at {at}");
        }
    }

    #[test]
    fn manifest_of_a_copy_is_what_sled_reads() {
        let folder = tempfile::tempdir().unwrap();
        let name = SegmentName {
            first: SegmentId(3),
            last: SegmentId(5),
            generation: 1,
        };
        let mut writer = EvacuatedWriter::create(folder.path(), name).unwrap();
        for number in [7, 9, 20] {
            writer.add(&commit(number)).unwrap();
        }
        let mut journal = JournalState::default();
        // Of several pieces.
        for partition in 0..3000 {
            journal.apply(Operation::LogStart {
                partition: LogPartition {
                    partition: PartitionId(partition),
                    ..P
                },
                offset: Offset(u64::from(partition)),
            });
        }
        let record = writer.finish(&journal).unwrap();
        let file = SealedFile::read(&name.path(folder.path()), &record);
        let file = file.unwrap().unwrap();
        assert_eq!(numbers(&file), [7, 9, 20]);
        let manifest = file.manifest(name).unwrap();
        assert_eq!(manifest.record, record);
        assert_eq!(
            manifest.journal.partition_states(),
            journal.partition_states()
        );
        let other = SegmentName {
            generation: 2,
            ..name
        };
        assert!(matches!(file.manifest(other), Err(ManifestError::Name)));
        let (path, record) = written(folder.path(), 60);
        let written = SealedFile::read(&path, &record).unwrap().unwrap();
        assert!(written.manifest(name).is_err(), "not a copy");
    }
}
