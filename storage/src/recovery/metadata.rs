//! Opening the metadata, or making it anew in the place of one that cannot be read.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use super::quarantine::put_aside;
use super::{RecoveryError, RecoveryEvent, Retained};
use crate::database::{self, DatabaseError, Purpose};
use crate::fence::FenceError;
use crate::folder::Folder;
use crate::guard::Keeping;
use crate::metadata::{Metadata, MetadataError};

pub(super) fn open_metadata(
    folder: &Folder,
    events: &mut Vec<RecoveryEvent>,
) -> Result<(Metadata, Retained), RecoveryError> {
    let path = folder.metadata();
    if path.is_dir() {
        match open_and_read_metadata(&path) {
            Err(RecoveryError::Database(DatabaseError::Damaged { what, .. })) => {
                put_aside(folder, &path)?;
                events.push(RecoveryEvent::MetadataQuarantined { reason: what });
            }
            read => return read,
        }
    } else if path.exists() {
        put_aside(folder, &path)?;
        let reason = "it is no directory".to_owned();
        events.push(RecoveryEvent::MetadataQuarantined { reason });
    }
    let metadata = Metadata::new(database::create(&path, Purpose::Metadata)?)?;
    metadata.verify_fence().map_err(DatabaseError::Fence)?;
    Ok((metadata, Retained::new()))
}

/// Opens the metadata and reads all of it once: sled opens many a database of which it cannot read
/// every page, and panics at some.
fn open_and_read_metadata(path: &Path) -> Result<(Metadata, Retained), RecoveryError> {
    let database = database::open_readable(path, Purpose::Metadata, &mut Keeping::default())?;
    let read = panic::catch_unwind(AssertUnwindSafe(|| {
        let metadata = Metadata::new(database)?;
        metadata.verify_fence().map_err(DatabaseError::Fence)?;
        let retained = metadata.retained().collect::<Result<_, _>>()?;
        metadata.segments()?;
        metadata.read_topics_through()?;
        Ok((metadata, retained))
    }));
    let damaged = |what: String| {
        let path = path.to_owned();
        Err(DatabaseError::Damaged { path, what }.into())
    };
    match read {
        Ok(Err(RecoveryError::Metadata(MetadataError::Database(error))))
        | Ok(Err(RecoveryError::Database(DatabaseError::Fence(FenceError::Database(error)))))
            if !database::is_of_the_machine(&error) =>
        {
            damaged(error.to_string())
        }
        Ok(read) => read,
        Err(_) => damaged("sled panicked when it was read".to_owned()),
    }
}
