//! The segments of the folder: which there are, what is in them, and which are open.
//!
//! A sealed segment is closed unless somebody reads it: each open one costs its size in memory, and
//! each opening writes to flash.
//!
//! Invariants: a database is opened by nobody else, and at most once at a time; at most
//! [`OPEN_SEALED_MAX`] sealed segments stay open when nobody reads them.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::commit::Commit;
use crate::database::{self, DatabaseError, Purpose};
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment;
use crate::sys;

/// Sealed segments that stay open for the next reader.
const OPEN_SEALED_MAX: usize = 2;
/// How long one stays open without being read.
const OPEN_IDLE: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    index: RwLock<Index>,
    /// Locked while a segment is being opened, which takes as long as the flash takes.
    open: Mutex<BTreeMap<SegmentId, OpenSegment>>,
    /// How many there are, for those who must not wait.
    open_count: AtomicUsize,
}

/// The open segments, locked; their number is told when it is let go.
struct OpenSegments<'a> {
    open: MutexGuard<'a, BTreeMap<SegmentId, OpenSegment>>,
    count: &'a AtomicUsize,
}

impl Deref for OpenSegments<'_> {
    type Target = BTreeMap<SegmentId, OpenSegment>;

    fn deref(&self) -> &Self::Target {
        &self.open
    }
}

impl DerefMut for OpenSegments<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.open
    }
}

impl Drop for OpenSegments<'_> {
    fn drop(&mut self) {
        self.count.store(self.open.len(), Ordering::Relaxed);
    }
}

/// What is where.
#[derive(Debug)]
pub(crate) struct Index {
    /// Sealed segments, and those that are being sealed.
    pub(crate) sealed: BTreeMap<SegmentId, SegmentRecord>,
    /// The one that commits go to.
    pub(crate) active: (SegmentId, SegmentRecord),
}

#[derive(Debug)]
struct OpenSegment {
    database: Arc<sled::Db>,
    last_used: Instant,
    /// Not to be closed: commits go to it.
    active: bool,
}

impl Segments {
    /// Begins with the sealed segments that recovery found and the new one that is written to.
    pub(crate) fn new(
        folder: PathBuf,
        sealed: BTreeMap<SegmentId, SegmentRecord>,
        active: (SegmentId, sled::Db),
    ) -> Self {
        let (id, database) = active;
        let index = Index {
            sealed,
            active: (id, SegmentRecord::created()),
        };
        let open = OpenSegment::new(database, true);
        Self {
            folder,
            index: RwLock::new(index),
            open: Mutex::new(BTreeMap::from([(id, open)])),
            open_count: AtomicUsize::new(1),
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_segments(&self) -> OpenSegments<'_> {
        OpenSegments {
            open: self.open.lock().unwrap_or_else(PoisonError::into_inner),
            count: &self.open_count,
        }
    }

    /// A commit was written to the active segment.
    pub(crate) fn committed(&self, commit: &Commit) {
        self.index_mut().active.1.add(commit);
    }

    /// From now on commits go to `id`; returns the one that is to be sealed.
    pub(crate) fn roll(&self, id: SegmentId, database: sled::Db) -> SegmentId {
        // In this order: a reader that finds a segment in the index can also open it.
        let mut open = self.open_segments();
        open.insert(id, OpenSegment::new(database, true));
        let mut index = self.index_mut();
        let (old, record) = std::mem::replace(&mut index.active, (id, SegmentRecord::created()));
        index.sealed.insert(old, record);
        drop(index);
        if let Some(segment) = open.get_mut(&old) {
            segment.active = false;
        }
        old
    }

    /// The database of a segment, opened if need be. It stays open while the result lives.
    pub(crate) fn database(&self, id: SegmentId) -> Result<Arc<sled::Db>, DatabaseError> {
        let mut open = self.open_segments();
        if let Some(segment) = open.get_mut(&id) {
            segment.last_used = Instant::now();
            return Ok(Arc::clone(&segment.database));
        }
        close(&mut open, OPEN_SEALED_MAX.saturating_sub(1), None);
        let database = database::open(&segment::path(&self.folder, id), Purpose::Segment)?;
        let segment = OpenSegment::new(database, false);
        let database = Arc::clone(&segment.database);
        open.insert(id, segment);
        Ok(database)
    }

    /// Closes sealed segments that nobody has read for a while.
    pub(crate) fn close_idle(&self) {
        let Some(before) = Instant::now().checked_sub(OPEN_IDLE) else {
            return;
        };
        close(&mut self.open_segments(), OPEN_SEALED_MAX, Some(before));
    }

    /// The index record of a segment was written: it is sealed for good.
    pub(crate) fn sealed(&self, id: SegmentId) {
        if let Some(record) = self.index_mut().sealed.get_mut(&id) {
            record.state = SegmentState::Sealed;
        }
    }

    /// Takes a segment out of the index if nobody reads it; the caller removes the directory.
    pub(crate) fn take_out(&self, id: SegmentId) -> bool {
        let mut open = self.open_segments();
        if open.get(&id).is_some_and(OpenSegment::is_in_use) {
            return false;
        }
        open.remove(&id);
        self.index_mut().sealed.remove(&id);
        true
    }

    /// Open databases, the active one included. Waits for nobody.
    pub(crate) fn open_count(&self) -> usize {
        self.open_count.load(Ordering::Relaxed)
    }
}

impl Index {
    /// All segments, oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = (SegmentId, &SegmentRecord)> {
        let active = std::iter::once((self.active.0, &self.active.1));
        self.sealed
            .iter()
            .map(|(id, record)| (*id, record))
            .chain(active)
    }

    /// The first segment that has `commit` or, if none has it, later ones.
    pub(crate) fn of_commit(&self, commit: CommitNumber) -> Option<(SegmentId, &SegmentRecord)> {
        self.all()
            .find(|(_, record)| !record.is_empty() && record.last_commit >= commit)
    }

    /// The first segment that has `offset` or, if none has it, later ones of the partition.
    pub(crate) fn of_offset(
        &self,
        partition: LogPartition,
        offset: Offset,
    ) -> Option<(SegmentId, &SegmentRecord)> {
        self.all().find(|(_, record)| {
            record
                .part(partition)
                .is_some_and(|part| part.next_offset > offset)
        })
    }
}

impl OpenSegment {
    fn new(database: sled::Db, active: bool) -> Self {
        Self {
            database: Arc::new(database),
            last_used: Instant::now(),
            active,
        }
    }

    fn is_in_use(&self) -> bool {
        self.active || Arc::strong_count(&self.database) > 1
    }
}

/// Closes sealed segments that nobody reads, longest unused first, until `keep` are left, and those
/// that were last used before `before`.
fn close(open: &mut BTreeMap<SegmentId, OpenSegment>, keep: usize, before: Option<Instant>) {
    let mut idle: Vec<_> = open
        .iter()
        .filter(|(_, segment)| !segment.is_in_use())
        .map(|(id, segment)| (segment.last_used, *id))
        .collect();
    idle.sort_unstable();
    let sealed = open.values().filter(|segment| !segment.active).count();
    let excess = sealed.saturating_sub(keep);
    let mut closed = false;
    for (index, (last_used, id)) in idle.into_iter().enumerate() {
        if index < excess || before.is_some_and(|before| last_used < before) {
            open.remove(&id);
            closed = true;
        }
    }
    if closed {
        sys::release_free_memory();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentWriter;

    fn segments(sealed: u64) -> (tempfile::TempDir, Segments) {
        let folder = tempfile::tempdir().unwrap();
        let mut records = BTreeMap::new();
        for id in 1..=sealed {
            drop(SegmentWriter::create(folder.path(), SegmentId(id)).unwrap());
            records.insert(SegmentId(id), SegmentRecord::created());
        }
        let active = SegmentId(sealed + 1);
        let writer = SegmentWriter::create(folder.path(), active).unwrap();
        let segments = Segments::new(
            folder.path().to_owned(),
            records,
            (active, writer.database().clone()),
        );
        (folder, segments)
    }

    #[test]
    fn few_sealed_segments_stay_open() {
        let (_folder, segments) = segments(5);
        for id in 1..=5 {
            segments.database(SegmentId(id)).unwrap();
        }
        assert_eq!(segments.open_count(), OPEN_SEALED_MAX + 1);
    }

    #[test]
    fn segment_that_is_read_is_neither_closed_nor_taken_out() {
        let (_folder, segments) = segments(4);
        let reader = segments.database(SegmentId(1)).unwrap();
        for id in 2..=4 {
            segments.database(SegmentId(id)).unwrap();
        }
        assert!(Arc::ptr_eq(
            &reader,
            &segments.database(SegmentId(1)).unwrap()
        ));
        assert!(!segments.take_out(SegmentId(1)));
        drop(reader);
        assert!(segments.take_out(SegmentId(1)));
        assert!(!segments.index().sealed.contains_key(&SegmentId(1)));
    }

    /// The status is asked for on the I/O thread; opening a segment takes as long as the flash takes.
    #[test]
    fn open_segments_are_counted_while_one_is_being_opened() {
        let (_folder, segments) = segments(1);
        let segments = Arc::new(segments);
        let _opening = segments.open_segments();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let counting = Arc::clone(&segments);
        std::thread::spawn(move || tell.send(counting.open_count()));
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(1));
    }

    #[test]
    fn rolled_segment_can_still_be_read() {
        let (folder, segments) = segments(0);
        let next = SegmentWriter::create(folder.path(), SegmentId(2)).unwrap();
        assert_eq!(
            segments.roll(SegmentId(2), next.database().clone()),
            SegmentId(1)
        );
        segments.database(SegmentId(1)).unwrap();
        assert_eq!(segments.index().active.0, SegmentId(2));
    }
}
