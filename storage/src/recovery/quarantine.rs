//! Putting aside what cannot be read: it is moved whole, never thrown away.

use std::fs;
use std::path::Path;

use super::{Recovered, RecoveryError, RecoveryEvent, io_error};
use crate::durable_file::sync_directory;
use crate::folder::Folder;
use crate::segment_name::SegmentName;

/// Moves a directory, or what is in its place, into quarantine, under its name or one like it that is free there.
pub(crate) fn put_aside(folder: &Folder, path: &Path) -> Result<(), RecoveryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    put_aside_as(folder, path, &name)
}

/// As [`put_aside`], under `name` or one like it.
pub(crate) fn put_aside_as(folder: &Folder, path: &Path, name: &str) -> Result<(), RecoveryError> {
    let quarantine = folder.quarantine();
    let names = std::iter::once(name.to_owned()).chain((1_u32..).map(|n| format!("{name}.{n}")));
    let target = names
        .map(|name| quarantine.join(name))
        .find(|target| !target.exists());
    let target = target.unwrap_or_else(|| quarantine.join(name));
    fs::rename(path, &target).map_err(io_error("put into quarantine", path))?;
    for directory in [Some(quarantine.as_path()), path.parent()]
        .into_iter()
        .flatten()
    {
        sync_directory(directory).map_err(io_error("sync", directory))?;
    }
    Ok(())
}

impl Recovered {
    pub(super) fn quarantine(
        &mut self,
        folder: &Folder,
        name: SegmentName,
        reason: String,
    ) -> Result<(), RecoveryError> {
        put_aside(folder, &name.path(&folder.segments()))?;
        let segment = name.first;
        if let Some(record) = self.sealed.remove(&segment) {
            self.lose_parts(&record);
        }
        self.catch_up_journal(folder)?;
        self.deferred.insert(segment, None);
        self.lost_ends += 1;
        self.events
            .push(RecoveryEvent::SegmentQuarantined { segment, reason });
        Ok(())
    }
}
