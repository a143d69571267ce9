//! The segments of the folder: which there are, what is in them, and which are open.
//!
//! A sealed segment is closed unless somebody reads it: each open one costs its size in memory, and
//! each opening writes to flash.
//!
//! Invariants: a database is opened by nobody else, and at most once at a time; one that is found so
//! damaged that it cannot be opened is not tried again until the next start, since each attempt reads
//! all of it; at most [`OPEN_SEALED_MAX`] sealed segments stay open when nobody reads them; nothing
//! waits for flash while it holds a lock of this module.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use crate::commit::Commit;
use crate::damaged_segments::{DamageFound, DamagedSegments};
use crate::database::{self, DatabaseError, Purpose};
use crate::free_memory;
use crate::guard::{Keeping, Kept, Room};
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment_name::SegmentName;
use crate::view;

/// Sealed segments that stay open for the next reader.
const OPEN_SEALED_MAX: usize = 2;
/// How long one stays open without being read.
const OPEN_IDLE: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    room: Room,
    index: RwLock<Index>,
    open: Mutex<Slots>,
    /// A segment was opened, or could not be.
    opened: Condvar,
    /// What was found damaged when it was opened for reading.
    damaged: Mutex<BTreeMap<SegmentName, Kept>>,
    damage_found: DamageFound,
    /// Sealed segments that were opened.
    opened_count: Arc<AtomicU64>,
}

type Slots = BTreeMap<SegmentName, Slot>;

/// A segment that is open, or about to be, or never will be.
#[derive(Debug)]
enum Slot {
    Opening,
    Open(OpenSegment),
    /// What is wrong with it. It stays until the segment is taken out.
    Damaged(Arc<str>),
}

/// A segment that this thread opens. Whatever comes of it, others need not wait any more when it is
/// dropped.
struct Opening<'a> {
    segments: &'a Segments,
    name: SegmentName,
    /// What came of it.
    slot: Option<Slot>,
}

impl Opening<'_> {
    fn done(mut self, database: sled::Db) -> Arc<sled::Db> {
        let segment = OpenSegment::new(Arc::new(database), false);
        let database = Arc::clone(&segment.database);
        self.slot = Some(Slot::Open(segment));
        database
    }

    /// Nobody needs to try again what will always fail.
    fn failed(mut self, error: DatabaseError) -> DatabaseError {
        if let DatabaseError::Damaged { what, .. } = &error {
            self.slot = Some(Slot::Damaged(what.as_str().into()));
        }
        error
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut open = self.segments.open_segments();
        match self.slot.take() {
            Some(slot) => open.insert(self.name, slot),
            None => open.remove(&self.name),
        };
        drop(open);
        self.segments.opened.notify_all();
    }
}

/// What is where.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// Sealed segments, and those that are being sealed.
    pub(crate) sealed: BTreeMap<SegmentId, Arc<SegmentRecord>>,
    /// The one that commits go to.
    pub(crate) active: (SegmentId, SegmentRecord),
    /// Counts the changes of `sealed`.
    pub(crate) version: u64,
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
        room: Room,
    ) -> Self {
        let (id, database) = active;
        let sealed = sealed
            .into_iter()
            .map(|(id, record)| (id, Arc::new(record)));
        let index = Index {
            sealed: sealed.collect(),
            active: (id, SegmentRecord::created()),
            version: 0,
        };
        let open = Slot::Open(OpenSegment::new(Arc::new(database), true));
        Self {
            folder,
            room,
            index: RwLock::new(index),
            open: Mutex::new(BTreeMap::from([(SegmentName::written(id), open)])),
            opened: Condvar::new(),
            damaged: Mutex::new(BTreeMap::new()),
            damage_found: DamageFound::default(),
            opened_count: Arc::default(),
        }
    }

    /// Counts the sealed segments that are opened.
    pub(crate) fn opened_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.opened_count)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeMap<SegmentName, Kept>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies behind the damage of a segment, if it was found damaged when it was opened for reading.
    pub(crate) fn behind_damage(&self, name: SegmentName) -> Option<Kept> {
        self.damaged().get(&name).cloned()
    }

    /// Segments that were found damaged when they were opened for reading, and copied into quarantine.
    pub(crate) fn damage_copies(&self) -> usize {
        let copied = |kept: &&Kept| kept.copy.name().is_some();
        self.damaged().values().filter(copied).count()
    }

    /// Sealed segments that were found damaged since the start.
    pub(crate) fn damaged_segments(&self) -> DamagedSegments {
        self.damage_found.status()
    }

    /// Somebody found a segment damaged: if it is a sealed one it is counted, and told in the log
    /// the first time. Not to be called with the index locked.
    pub(crate) fn note_damage(&self, name: SegmentName, what: &str) {
        let sealed = || self.index().sealed_as(name).cloned();
        let Some(record) = self.damage_found.note(name, true, sealed) else {
            return;
        };
        if self.folder.parent().is_some_and(view::is_view) {
            return; // Who looks at a folder tells it himself.
        }
        let behind = self.behind_damage(name);
        let behind = behind.map_or_else(String::new, |kept| format!("; {kept}"));
        let (first, last) = (record.first_commit, record.last_commit);
        tracing::warn!(
            segment = %name,
            "A segment is damaged: {what}{behind}; the index says it has commits {first} to {last}. \
             `tidegate log verify` says what is lost."
        );
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_segments(&self) -> MutexGuard<'_, Slots> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit was written to the active segment.
    pub(crate) fn committed(&self, commit: &Commit) {
        self.index_mut().active.1.add(commit);
    }

    /// From now on commits go to `id`; returns the one that is to be sealed.
    pub(crate) fn roll(&self, id: SegmentId, database: sled::Db) -> SegmentId {
        // In this order: a reader that finds a segment in the index can also open it.
        let mut open = self.open_segments();
        let segment = OpenSegment::new(Arc::new(database), true);
        open.insert(SegmentName::written(id), Slot::Open(segment));
        let mut index = self.index_mut();
        let (old, record) = std::mem::replace(&mut index.active, (id, SegmentRecord::created()));
        index.sealed.insert(old, Arc::new(record));
        index.version += 1;
        drop(index);
        if let Some(Slot::Open(segment)) = open.get_mut(&SegmentName::written(old)) {
            segment.active = false;
        }
        old
    }

    /// The database of a segment, opened if need be. It stays open while the result lives. `None` if
    /// the index has no such segment any more: what it held is elsewhere, or gone.
    pub(crate) fn database(
        &self,
        name: SegmentName,
    ) -> Result<Option<Arc<sled::Db>>, DatabaseError> {
        let mut open = self.open_segments();
        loop {
            match open.get_mut(&name) {
                Some(Slot::Open(segment)) => {
                    segment.last_used = Instant::now();
                    return Ok(Some(Arc::clone(&segment.database)));
                }
                // The one who opens it tells when it is done, whatever comes of it.
                Some(Slot::Opening) => {
                    let waited = self.opened.wait(open);
                    open = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Damaged(what)) if self.index().has(name) => {
                    return Err(DatabaseError::Damaged {
                        path: name.path(&self.folder),
                        what: what.to_string(),
                    });
                }
                Some(Slot::Damaged(_)) | None => break,
            }
        }
        if !self.index().has(name) {
            return Ok(None);
        }
        let closed = take_idle(&mut open, OPEN_SEALED_MAX.saturating_sub(1), None);
        open.insert(name, Slot::Opening);
        self.opened_count.fetch_add(1, Ordering::Relaxed);
        drop(open);
        close(closed);
        let opening = Opening {
            segments: self,
            name,
            slot: None,
        };
        let mut keeping = Keeping::new(self.room);
        let opened = database::open(&name.path(&self.folder), Purpose::Segment, &mut keeping);
        if !keeping.kept.is_empty() {
            // The guard told it; where the segment ends is told by whoever reads it.
            let sealed = || self.index().sealed_as(name).cloned();
            self.damage_found.note(name, false, sealed);
        }
        let kept = keeping.kept.into_iter().map(|kept| (name, kept));
        self.damaged().extend(kept);
        match opened {
            Ok(database) => Ok(Some(opening.done(database))),
            Err(error) => {
                let error = opening.failed(error);
                if let DatabaseError::Damaged { what, .. } = &error {
                    self.note_damage(name, &format!("it cannot be opened: {what}"));
                }
                Err(error)
            }
        }
    }

    /// Closes sealed segments that nobody has read for a while.
    pub(crate) fn close_idle(&self) {
        let Some(before) = Instant::now().checked_sub(OPEN_IDLE) else {
            return;
        };
        let idle = take_idle(&mut self.open_segments(), OPEN_SEALED_MAX, Some(before));
        close(idle);
    }

    /// Closes all sealed segments that nobody reads now.
    pub(crate) fn close_unread(&self) {
        let unread = take_idle(&mut self.open_segments(), 0, None);
        close(unread);
    }

    /// The index record of a segment was written: it is sealed for good.
    pub(crate) fn sealed(&self, id: SegmentId) {
        let mut index = self.index_mut();
        if let Some(record) = index.sealed.get_mut(&id) {
            Arc::make_mut(record).state = SegmentState::Sealed;
            index.version += 1;
        }
    }

    /// Takes a segment out of the index if nobody reads it; the caller removes the directory.
    pub(crate) fn take_out(&self, name: SegmentName) -> bool {
        let mut open = self.open_segments();
        if open.get(&name).is_some_and(Slot::is_in_use) {
            return false;
        }
        let closed = open.remove(&name);
        let mut index = self.index_mut();
        if index.has(name) {
            index.sealed.remove(&name.first);
            index.version += 1;
        }
        drop((index, open));
        self.damage_found.forget(&[name]);
        self.damaged().remove(&name);
        drop(closed);
        true
    }

    /// Puts an evacuated segment in the place of those that it was made of, and returns what these
    /// are called. Who reads one of them can do so to its end.
    pub(crate) fn replace(&self, first: SegmentId, record: SegmentRecord) -> Vec<SegmentName> {
        let last = record.name(first).last;
        let mut index = self.index_mut();
        let replaced: Vec<_> = index
            .sealed
            .range(first..=last)
            .map(|(id, record)| record.name(*id))
            .collect();
        for name in &replaced {
            index.sealed.remove(&name.first);
        }
        index.sealed.insert(first, Arc::new(record));
        index.version += 1;
        drop(index);
        self.damage_found.forget(&replaced);
        replaced
    }

    /// Open databases, the active one included.
    pub(crate) fn open_count(&self) -> usize {
        let open = self.open_segments();
        open.values().filter(|slot| slot.is_open()).count()
    }
}

impl Index {
    /// All segments, oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = (SegmentId, &SegmentRecord)> {
        let active = std::iter::once((self.active.0, &self.active.1));
        self.sealed
            .iter()
            .map(|(id, record)| (*id, record.as_ref()))
            .chain(active)
    }

    /// Whether a segment of this very name is there.
    pub(crate) fn has(&self, name: SegmentName) -> bool {
        let is = |record: &SegmentRecord| record.name(name.first) == name;
        match self.sealed.get(&name.first) {
            Some(record) => is(record),
            None => self.active.0 == name.first && is(&self.active.1),
        }
    }

    /// The record of a sealed segment of this very name.
    fn sealed_as(&self, name: SegmentName) -> Option<&Arc<SegmentRecord>> {
        let record = self.sealed.get(&name.first);
        record.filter(|record| record.name(name.first) == name)
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
    fn new(database: Arc<sled::Db>, active: bool) -> Self {
        Self {
            database,
            last_used: Instant::now(),
            active,
        }
    }

    fn is_in_use(&self) -> bool {
        self.active || Arc::strong_count(&self.database) > 1
    }
}

impl Slot {
    fn is_in_use(&self) -> bool {
        match self {
            Self::Opening => true,
            Self::Open(segment) => segment.is_in_use(),
            Self::Damaged(_) => false,
        }
    }

    /// Or about to be.
    fn is_open(&self) -> bool {
        !matches!(self, Self::Damaged(_))
    }
}

/// Takes sealed segments that nobody reads from the open ones, longest unused first, until `keep`
/// are left, and those that were last used before `before`.
fn take_idle(open: &mut Slots, keep: usize, before: Option<Instant>) -> Vec<Slot> {
    let mut idle: Vec<_> = open
        .iter()
        .filter_map(|(name, slot)| match slot {
            Slot::Open(segment) if !segment.is_in_use() => Some((segment.last_used, *name)),
            _ => None,
        })
        .collect();
    idle.sort_unstable();
    let is_active = |slot: &Slot| matches!(slot, Slot::Open(segment) if segment.active);
    let sealed = open.values().filter(|slot| slot.is_open());
    let sealed = sealed.filter(|slot| !is_active(slot)).count();
    let excess = sealed.saturating_sub(keep);
    let mut taken = Vec::new();
    for (index, (last_used, name)) in idle.into_iter().enumerate() {
        if index < excess || before.is_some_and(|before| last_used < before) {
            taken.extend(open.remove(&name));
        }
    }
    taken
}

/// Closes segments, which takes as long as the flash takes.
fn close(segments: Vec<Slot>) {
    if !segments.is_empty() {
        drop(segments);
        free_memory::release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentWriter;
    use crate::segment_record::Evacuated;

    fn written(id: u64) -> SegmentName {
        SegmentName::written(SegmentId(id))
    }

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
            Room::default(),
        );
        (folder, segments)
    }

    #[test]
    fn few_sealed_segments_stay_open() {
        let (_folder, segments) = segments(5);
        for id in 1..=5 {
            segments.database(written(id)).unwrap();
        }
        assert_eq!(segments.open_count(), OPEN_SEALED_MAX + 1);
    }

    #[test]
    fn segment_that_is_read_is_neither_closed_nor_taken_out() {
        let (_folder, segments) = segments(4);
        let reader = segments.database(written(1)).unwrap().unwrap();
        for id in 2..=4 {
            segments.database(written(id)).unwrap();
        }
        assert!(Arc::ptr_eq(
            &reader,
            &segments.database(written(1)).unwrap().unwrap()
        ));
        assert!(!segments.take_out(written(1)));
        drop(reader);
        assert!(segments.take_out(written(1)));
        assert!(!segments.index().sealed.contains_key(&SegmentId(1)));
    }

    /// The status is asked for on the I/O thread; opening a segment takes as long as the flash takes.
    #[test]
    fn open_segments_are_counted_while_one_is_being_opened() {
        let (_folder, segments) = segments(1);
        segments.open_segments().insert(written(1), Slot::Opening);
        assert_eq!(segments.open_count(), 2);
        assert!(!segments.take_out(written(1)), "it is about to be read");
    }

    /// Bytes that this thread has read so far; the kernel counts them.
    fn bytes_read() -> u64 {
        let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
        read.unwrap().parse().unwrap()
    }

    /// Fills a database, and puts a file where sled has a directory; gives the bytes of its file.
    fn make_unopenable(path: &std::path::Path) -> u64 {
        let database = database::open(path, Purpose::Segment, &mut Keeping::default()).unwrap();
        for number in 0..8_u32 {
            let key = number.to_be_bytes();
            database.insert(key, vec![7; 100_000]).unwrap();
        }
        database.flush().unwrap();
        drop(database);
        std::fs::remove_dir_all(path.join("blobs")).unwrap();
        std::fs::write(path.join("blobs"), b"").unwrap();
        std::fs::metadata(path.join("db")).unwrap().len()
    }

    #[test]
    fn segment_that_is_too_damaged_to_be_opened_is_read_once_until_it_goes() {
        let (folder, segments) = segments(1);
        let path = written(1).path(folder.path());
        let bytes = make_unopenable(&path);
        let before = bytes_read();
        let first = segments.database(written(1)).unwrap_err().to_string();
        let read = bytes_read() - before;
        assert!(read >= bytes, "{read} of {bytes} bytes: {first}");
        let before = bytes_read();
        for _ in 0..10 {
            let again = segments.database(written(1)).unwrap_err();
            assert_eq!(again.to_string(), first);
        }
        let read = bytes_read() - before;
        assert!(read < 10_000, "{read} bytes to say the same ten times");
        assert_eq!(segments.open_count(), 1, "the active one");
        assert!(segments.take_out(written(1)));
        assert!(segments.database(written(1)).unwrap().is_none());
        assert_eq!(segments.open_segments().len(), 1);
    }

    /// It may be there for the next reader.
    #[test]
    fn segment_that_the_machine_does_not_open_is_tried_again() {
        let (folder, segments) = segments(1);
        let (there, away) = (written(1).path(folder.path()), folder.path().join("away"));
        std::fs::rename(&there, &away).unwrap();
        let error = segments.database(written(1)).unwrap_err();
        assert!(matches!(error, DatabaseError::Io { .. }), "{error:?}");
        std::fs::rename(&away, &there).unwrap();
        assert!(segments.database(written(1)).unwrap().is_some());
    }

    #[test]
    fn copy_takes_the_place_of_a_segment_that_could_not_be_opened() {
        let (folder, segments) = segments(3);
        make_unopenable(&written(1).path(folder.path()));
        segments.database(written(1)).unwrap_err();
        let record = SegmentRecord {
            evacuated: Some(Evacuated {
                last: SegmentId(2),
                generation: 1,
                commits: 0,
            }),
            ..SegmentRecord::created()
        };
        segments.replace(SegmentId(1), record);
        // So that readers ask the index again.
        assert!(segments.database(written(1)).unwrap().is_none());
        assert!(segments.take_out(written(1)));
        assert_eq!(segments.open_segments().len(), 1);
    }

    /// Whoever wants it next tries again.
    #[test]
    fn segment_can_be_opened_after_a_panic_while_it_was_opened() {
        let (_folder, segments) = segments(1);
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            segments.open_segments().insert(written(1), Slot::Opening);
            let _opening = Opening {
                segments: &segments,
                name: written(1),
                slot: None,
            };
            panic!("on purpose");
        }));
        opened.unwrap_err();
        assert_eq!(segments.open_count(), 1, "the active one");
        segments.database(written(1)).unwrap().unwrap();
    }

    #[test]
    fn rolled_segment_can_still_be_read() {
        let (folder, segments) = segments(0);
        let next = SegmentWriter::create(folder.path(), SegmentId(2)).unwrap();
        assert_eq!(
            segments.roll(SegmentId(2), next.database().clone()),
            SegmentId(1)
        );
        segments.database(written(1)).unwrap().unwrap();
        assert_eq!(segments.index().active.0, SegmentId(2));
    }

    #[test]
    fn replaced_segment_is_read_to_its_end_and_not_opened_again() {
        let (folder, segments) = segments(3);
        let record = SegmentRecord {
            evacuated: Some(Evacuated {
                last: SegmentId(2),
                generation: 1,
                commits: 0,
            }),
            ..SegmentRecord::created()
        };
        let name = record.name(SegmentId(1));
        drop(SegmentWriter::create_at(&name.path(folder.path()), SegmentId(1)).unwrap());
        let reader = segments.database(written(1)).unwrap().unwrap();
        let replaced = segments.replace(SegmentId(1), record);
        assert_eq!(replaced, [written(1), written(2)]);
        assert!(!segments.take_out(written(1)), "somebody reads it");
        assert!(segments.database(written(2)).unwrap().is_none());
        assert!(segments.database(name).unwrap().is_some());
        drop(reader);
        assert!(segments.take_out(written(1)));
        assert!(
            segments.index().sealed.contains_key(&SegmentId(1)),
            "the copy"
        );
    }
}
