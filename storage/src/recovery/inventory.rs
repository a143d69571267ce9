//! Which segments there are: the index against the directories.
//!
//! Invariant: of an evacuated segment and what it was made of, one is taken and never both.

use std::collections::BTreeMap;
use std::fs;

use super::quarantine::put_aside;
use super::{Recovered, RecoveryError, RecoveryEvent, io_error};
use crate::database::{self, DatabaseError, Purpose};
use crate::durable_file::remove_directory;
use crate::evacuated::Manifest;
use crate::folder::Folder;
use crate::guard::Keeping;
use crate::ids::{CommitNumber, SegmentId};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment_name::SegmentName;

/// A segment of which the index or a directory tells.
pub(super) enum Found {
    /// In the index, but not on the flash.
    Missing(SegmentRecord),
    Sealed(SegmentRecord),
    Unsealed,
    /// Made of others, and the index knows nothing of it or them.
    Evacuated(SegmentName),
}

impl Recovered {
    /// Opens a segment; the inner error says why it cannot be read.
    pub(super) fn open_segment(
        &mut self,
        folder: &Folder,
        name: SegmentName,
    ) -> Result<Result<sled::Db, String>, RecoveryError> {
        let path = name.path(&folder.segments());
        let mut keeping = Keeping::new(self.room);
        let opened = database::open_readable(&path, Purpose::Segment, &mut keeping);
        if keeping.newest > CommitNumber(0) {
            self.newest_of_damaged.insert(name.first, keeping.newest);
        }
        let kept = keeping.kept.into_iter();
        self.events
            .extend(kept.map(|kept| RecoveryEvent::of_kept(name.first, kept)));
        match opened {
            Ok(database) => Ok(Ok(database)),
            Err(DatabaseError::Damaged { what, .. }) => Ok(Err(what)),
            Err(error) => Err(error.into()),
        }
    }

    /// The manifest of an evacuated segment, or why it cannot be read.
    fn read_manifest(
        &mut self,
        folder: &Folder,
        name: SegmentName,
    ) -> Result<Result<Manifest, String>, RecoveryError> {
        let database = self.open_segment(folder, name)?;
        let manifest = |database| Manifest::read(&database, name).map_err(|e| e.to_string());
        Ok(database.and_then(manifest))
    }

    /// Compares the index with the directories.
    pub(super) fn find_segments(
        &mut self,
        folder: &Folder,
    ) -> Result<BTreeMap<SegmentId, Found>, RecoveryError> {
        let path = folder.segments();
        let records = self.metadata.segments()?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_error("read", &path))? {
            let entry = entry.map_err(io_error("read", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if SegmentName::parse(&name)
                .or_else(|| SegmentName::parse_unfinished(&name))
                .is_none()
            {
                continue;
            }
            if !path.is_dir() {
                // The index knows whether a segment is missing here.
                put_aside(folder, &path)?;
                continue;
            }
            if SegmentName::parse_unfinished(&name).is_some() {
                remove_directory(&path).map_err(io_error("remove", &path))?;
            }
            names.extend(SegmentName::parse(&name));
        }
        let (mut found, covered) = self.find_evacuated(folder, &records, &mut names)?;
        for name in names {
            let state = if name.is_evacuated() {
                Found::Evacuated(name)
            } else {
                Found::Unsealed
            };
            found.entry(name.first).or_insert(state);
        }
        for (id, record) in records {
            if covered.iter().any(|name| name.covers(id)) {
                continue;
            }
            let name = match found.get(&id) {
                Some(Found::Evacuated(name)) => Some(*name),
                Some(_) => Some(SegmentName::written(id)),
                None => None,
            };
            let is_there = name == Some(record.name(id));
            match record.state {
                SegmentState::Deleting => {
                    let path = record.name(id).path(&path);
                    remove_directory(&path).map_err(io_error("remove", &path))?;
                    self.metadata.remove_segment(id)?;
                    if is_there {
                        found.remove(&id);
                    }
                }
                SegmentState::Sealed if is_there => {
                    found.insert(id, Found::Sealed(record));
                }
                // What is there under another name is read.
                SegmentState::Created | SegmentState::Sealed if name.is_some() => {}
                SegmentState::Created | SegmentState::Sealed => {
                    found.insert(id, Found::Missing(record));
                }
            }
        }
        Ok(found)
    }

    /// Finds the evacuated segments of which the index does not know yet, while it still knows those
    /// that they were made of, or of which leftovers are there: they take their places. `names` loses
    /// what is superseded. Returns also the names whose records in the index are settled.
    fn find_evacuated(
        &mut self,
        folder: &Folder,
        records: &[(SegmentId, SegmentRecord)],
        names: &mut Vec<SegmentName>,
    ) -> Result<(BTreeMap<SegmentId, Found>, Vec<SegmentName>), RecoveryError> {
        let (mut found, mut settled) = (BTreeMap::new(), Vec::new());
        let mut evacuated: Vec<_> = names.iter().copied().filter(|n| n.is_evacuated()).collect();
        evacuated.sort_by_key(|name| std::cmp::Reverse(name.generation));
        for name in evacuated {
            let superseded: Vec<_> = names
                .iter()
                .copied()
                .filter(|other| name.supersedes(*other))
                .collect();
            let in_index = |(id, record): &&(SegmentId, SegmentRecord)| {
                record.name(*id) == name && record.state != SegmentState::Created
            };
            let known = records
                .iter()
                .find(in_index)
                .map(|(_, record)| record.clone());
            let covered: Vec<_> = records.iter().filter(|(id, _)| name.covers(*id)).collect();
            let is_settled = known.is_some() && covered.len() == 1 && superseded.is_empty();
            let is_unknown = covered.is_empty() && superseded.is_empty();
            if !names.contains(&name) || is_settled || is_unknown {
                continue;
            }
            let is_switched = known.is_some();
            let record = match known {
                // What it was made of goes only when it is certain to be a copy.
                Some(record) if superseded.is_empty() => record,
                known => match self.read_manifest(folder, name)? {
                    Ok(manifest) => known.unwrap_or(manifest.record),
                    // What it was made of is better than a copy that cannot be read.
                    Err(reason) if !superseded.is_empty() => {
                        put_aside(folder, &name.path(&folder.segments()))?;
                        let segment = name.first;
                        self.events
                            .push(RecoveryEvent::SegmentQuarantined { segment, reason });
                        names.retain(|other| *other != name);
                        continue;
                    }
                    Err(_) => continue,
                },
            };
            let is_deleting = record.state == SegmentState::Deleting;
            if !covered.is_empty() && !is_switched {
                self.metadata.put_segment(name.first, &record)?;
                self.metadata.flush()?;
            }
            for (id, _) in covered.iter().filter(|(id, _)| *id != name.first) {
                self.metadata.remove_segment(*id)?;
            }
            self.metadata.flush()?;
            for other in superseded {
                let path = other.path(&folder.segments());
                remove_directory(&path).map_err(io_error("remove", &path))?;
                names.retain(|name| *name != other);
            }
            tracing::info!(segment = %name, "Evacuation of a segment was completed.");
            if !covered.is_empty() {
                if is_deleting {
                    let path = name.path(&folder.segments());
                    remove_directory(&path).map_err(io_error("remove", &path))?;
                    self.metadata.remove_segment(name.first)?;
                    names.retain(|other| *other != name);
                } else {
                    found.insert(name.first, Found::Sealed(record));
                }
                settled.push(name);
            }
        }
        Ok((found, settled))
    }
}
