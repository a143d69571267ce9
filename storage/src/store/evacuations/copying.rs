//! The copying itself, called as the evacuator calls it.

use std::collections::BTreeSet;

use tracing::{Event, Metadata, Subscriber, span};

use super::*;
use crate::ids::CommitNumber;
use crate::journal::{JournalKey, JournalKind, Operation};
use crate::logs::LogOptions;
use crate::message::Message;
use crate::sealed_file::SealedFile;
use crate::store::retaining::starts_of;
use crate::store::{SEGMENT_BYTES_MIN, Store, StoreOptions, StoreThreads};

/// Commits of a record and a position each.
const COMMITS: u8 = 20;

fn open(folder: &std::path::Path) -> (Store, StoreThreads) {
    let options = StoreOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        // The keeper orders nothing.
        evacuation_bytes_per_second: 0,
        ..StoreOptions::default()
    };
    Store::open(folder, options, &[LogOptions::new("a", 1)]).unwrap()
}

fn position_key() -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, b"position")
}

fn put_position(store: &Store, position: u8) {
    let put = store.put_journal_entry(position_key(), Some(vec![position]), Duration::ZERO);
    store.wait_durable(put.unwrap()).unwrap();
}

/// A folder with one sealed segment, and what a copy of it alone is called.
struct Filled {
    store: Store,
    threads: StoreThreads,
    source: SegmentName,
    run: Run,
    _folder: tempfile::TempDir,
}

impl Filled {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, threads) = open(folder.path());
        let log = store.log("a").unwrap().id;
        for position in 0..COMMITS {
            let message = Message {
                topic: "t".into(),
                payload: vec![7; 1000].into(),
                ..Message::default()
            };
            store.append(log, b"k", &message).unwrap();
            put_position(&store, position);
        }
        threads.close();
        drop(store);
        let (store, threads) = open(folder.path());
        let first = *store
            .shared()
            .segments
            .index()
            .sealed
            .keys()
            .next()
            .unwrap();
        let source = SegmentName::written(first);
        let run = Run {
            sources: vec![source],
            target: SegmentName {
                generation: 1,
                ..source
            },
            live_bytes: 0,
        };
        Self {
            store,
            threads,
            source,
            run,
            _folder: folder,
        }
    }

    fn record(&self) -> SegmentRecord {
        let shared = self.store.shared();
        let index = shared.segments.index();
        SegmentRecord::clone(&index.sealed[&self.source.first])
    }

    /// Names of the directories of the copy, complete or not.
    fn copies(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.store.shared().segments_path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains('.')).collect()
    }
}

#[test]
fn segment_of_which_nothing_is_live_any_more_leaves_no_copy() {
    let filled = Filled::new();
    let shared = filled.store.shared();
    let partition = filled.store.log("a").unwrap().partitions().next().unwrap();
    let start = Operation::LogStart {
        partition,
        offset: filled.store.high_watermark(partition),
    };
    let now = Instant::now();
    shared.state().operate(start, now, Duration::ZERO);
    shared.wake_committer();
    put_position(&filled.store, 0);
    assert_eq!(starts_of(&shared)[&partition], Offset(u64::from(COMMITS)));
    let error = evacuate(&shared, &filled.run).unwrap_err();
    assert!(matches!(error, NotEvacuated::Gone(_)), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Changed);
    assert_eq!(filled.copies(), BTreeSet::new());
    filled.threads.close();
}

/// It stands behind the last commit of the record.
#[test]
fn what_recovery_cut_off_is_not_copied() {
    let filled = Filled::new();
    let shared = filled.store.shared();
    let (path, whole) = (filled.source.path(&shared.segments_path()), filled.record());
    let mut cut = whole.without_commits();
    let file = SealedFile::read(&path, &whole).unwrap().unwrap();
    let half = CommitNumber(u64::midpoint(whole.first_commit.0, whole.last_commit.0));
    file.commits(|commit| match commit.number() <= half {
        true => {
            cut.add(commit);
            ControlFlow::Continue(())
        }
        false => ControlFlow::Break(()),
    })
    .unwrap();
    cut.state = whole.state;
    // Opening the database writes to the file.
    let file = SealedFile::read(&path, &cut).unwrap();
    let database = shared.segments.database(filled.source).unwrap();
    let sources = [
        ("file", file.map(Source::File)),
        ("database", database.map(Source::Database)),
    ];
    for (what, source) in sources {
        let mut copy = Copy::begin(&shared, filled.run.target).unwrap();
        let copied = copy.source(filled.source, &cut, &source.expect(what));
        copied.expect(what);
        let record = copy.writer.record();
        assert_eq!(record.partitions, cut.partitions, "{what}");
        assert!(record.last_commit <= half, "{what}");
        let position = copy.journal.get(&position_key()).unwrap();
        assert!(position[0] < COMMITS - 1, "{what}: {position:?}");
        copy.writer.abandon().unwrap();
    }
    filled.threads.close();
}

/// A subscriber that panics at what is said when a segment is read from its database.
struct Panicking;

impl Subscriber for Panicking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().ends_with("evacuation_source")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        panic!("as sled does at some damage");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn segment_at_which_copying_panics_is_told_and_leaves_no_copy() {
    let filled = Filled::new();
    let shared = filled.store.shared();
    // The file is not as the index says, so that the database is opened.
    let mut other = filled.record();
    other.bytes += 1;
    shared.segments.replace(filled.source.first, other);
    let copied = tracing::subscriber::with_default(Panicking, || evacuate(&shared, &filled.run));
    let error = copied.unwrap_err();
    assert!(matches!(error, NotEvacuated::PanickedAt(_)), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Never(filled.source));
    assert_eq!(filled.copies(), BTreeSet::new());
    filled.threads.close();
}
