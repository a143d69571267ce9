//! A sealed segment that evacuation reads: its file, or, if anything about that is not as it should be,
//! its database, which says what is wrong with it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::commit::Commit;
use crate::database::DatabaseError;
use crate::evacuated::{Manifest, ManifestError};
use crate::ids::CommitNumber;
use crate::metadata::SegmentRecord;
use crate::sealed_file::SealedFile;
use crate::segment::{self, ScanError};
use crate::segment_name::SegmentName;
use crate::store::Shared;

/// See the module's documentation.
#[derive(Debug)]
pub(super) enum Source {
    File(SealedFile),
    Database(Arc<sled::Db>),
}

impl Source {
    /// The segment `name`, of which the index says `record`; `None` if it has gone.
    pub(super) fn open(
        shared: &Shared,
        name: SegmentName,
        record: &SegmentRecord,
    ) -> Result<Option<Self>, DatabaseError> {
        let path = name.path(&shared.segments_path());
        let file = match SealedFile::read(&path, record) {
            Ok(file) => file.filter(|file| !name.is_evacuated() || file.manifest(name).is_ok()),
            // Opening it says the same, and that is what is told.
            Err(_) => None,
        };
        match file {
            Some(file) => Ok(Some(Self::File(file))),
            None => {
                tracing::debug!(segment = %name, "Segment is not copied from its file.");
                let database = shared.segments.database(name)?;
                Ok(database.map(Self::Database))
            }
        }
    }

    pub(super) fn manifest(&self, name: SegmentName) -> Result<Manifest, ManifestError> {
        match self {
            Self::File(file) => file.manifest(name),
            Self::Database(database) => Manifest::read(database, name),
        }
    }

    /// Hands its commits to `visit`, ascending, until that breaks off.
    pub(super) fn scan(
        &self,
        mut visit: impl FnMut(&Commit) -> ControlFlow<()>,
    ) -> Result<(), ScanError> {
        match self {
            // Its content was read before; what hinders that now says nothing of it.
            Self::File(file) => file
                .commits(visit)
                .map_err(|error| ScanError::Machine(error.to_string())),
            Self::Database(database) => {
                segment::scan(database, CommitNumber(0), |commit| visit(&commit)).map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentId;
    use crate::segment::{SegmentWriter, tests::commit};

    /// The second look fails although the first one did not.
    #[test]
    fn file_that_cannot_be_read_any_more_is_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::create(folder.path(), SegmentId(1)).unwrap();
        let mut record = SegmentRecord::created();
        for number in 1..=3 {
            writer.write(&commit(number, 5000)).unwrap();
            record.add(&commit(number, 5000));
        }
        let path = SegmentName::written(SegmentId(1)).path(folder.path());
        let file = SealedFile::read(&path, &record).unwrap().unwrap();
        let source = Source::File(file.made_unreadable(&path));
        let error = source.scan(|_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, ScanError::Machine(_)), "{error:?}");
    }
}
