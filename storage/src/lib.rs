//! Everything of Tidegate that touches flash: the partitioned log in sled segments, its committer,
//! readers, retention and recovery, and the little that is stored beside the log.
//!
//! A message is appended to a partition ([`Store::append`]) and is durable with its commit; one
//! thread commits for everybody, with one sync. Everything that reads does so by offset or by commit
//! number ([`PartitionReader`], [`CommitReader`]). `docs/storage-format.md` has the layout of every
//! byte.
//!
//! Invariants:
//! - What was announced as durable is there after a crash or a power cut; nothing else is ever shown.
//! - Offsets are dense within a span and never given out twice.
//! - A folder always opens, unless it is in use, foreign, of a later version, or the machine gives no
//!   files; what could not be read is put aside and accounted for.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! use storage::{LogOptions, Message, Offset, Read, Store, StoreOptions};
//!
//! let telemetry = LogOptions::new("telemetry", 1);
//! let (store, threads) = Store::open(folder.path(), StoreOptions::default(), &[telemetry])?;
//! let log = store.log("telemetry").ok_or("no such log")?;
//! let message = Message { topic: "a/b".into(), payload: "21.5".into(), ..Message::default() };
//! let appended = store.append(log.id, b"device-1", &message)?;
//! store.wait_durable(appended.commit)?;
//!
//! let mut reader = store.partition_reader(appended.partition, Offset(0));
//! let Read::Batches(batches) = reader.read(1024)? else { return Err("nothing there".into()) };
//! assert_eq!(batches.len(), 1);
//! threads.close();
//! # Ok(())
//! # }
//! ```

mod age;
mod clock;
mod cold;
mod commit;
mod damaged_segments;
mod database;
mod disk_need;
mod durable_file;
mod encoding;
mod evacuated;
mod evacuation;
pub mod fence;
mod flash;
mod flash_budget;
mod folder;
mod free_memory;
mod gap;
mod guard;
mod identity;
mod ids;
mod io_threads;
mod journal;
mod logs;
mod mark;
mod message;
mod metadata;
mod partitioner;
mod raw;
mod reader;
mod recovery;
mod repair;
mod retained;
mod retention;
mod ring;
mod salvage;
mod sealed_file;
mod segment;
mod segment_name;
mod segment_record;
mod segments;
mod store;
mod sys;
mod topics;
mod verify;
mod version;
mod view;

pub use clock::{
    ClockSource, CorrectedTime, Correction, Era, RELEASE_TIME_MS, SystemClock, TimeQuality,
};
pub use commit::{BatchInCommit, Commit, CommitError};
pub use damaged_segments::DamagedSegments;
pub use database::DatabaseError;
pub use disk_need::DiskNeed;
pub use encoding::EncodingError;
pub use flash::{FlashStatus, FlashUse, UtcDay};
pub use flash_budget::{BudgetStatus, LINGER_MAX};
pub use folder::{FOLDER_FORMAT, FolderError};
pub use gap::{Gap, GapReason};
pub use guard::{DamageCopy, NoCopy};
pub use identity::{Fingerprint, Span, SpanReason};
pub use ids::{
    CommitNumber, EraId, Incarnation, LogId, LogPartition, OFFSET_LEAP, Offset, PartitionId,
    SegmentId, SpanId,
};
pub use io_threads::have_failed as io_threads_have_failed;
pub use journal::{JournalError, JournalKey, JournalKind};
pub use logs::{Log, LogOptions, OnFull, PARTITIONS_MAX};
pub use message::{Message, MessageError, SessionPublish};
pub use metadata::MetadataError;
pub use partitioner::partition_for_key;
pub use reader::{CommitReader, Missing, PartitionReader, Read, ReadError, StoredBatch};
pub use recovery::{RecoveryError, RecoveryEvent};
pub use repair::{RepairError, RepairStep, plan_repair, repair};
pub use salvage::{QuarantineError, Salvaged};
pub use segment::ScanError;
pub use store::{
    AppendError, Appended, Health, JOURNAL_ENTRIES_BYTES_MAX, KeptBy, LogInSegment, OldestSegment,
    OpenError, OpeningProgress, Pin, PinLag, RecoveredRetained, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, Stage, Store, StoreCounters, StoreOptions, StoreStatus, StoreThreads,
    SyncProblem,
};
pub use topics::TopicMatch;
pub use verify::{Finding, FindingKind, Severity, Verified, VerifyProgress};
pub use view::View;
