//! What the store has done since it was opened; read without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::CommitNumber;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct StoreCounters {
    durable: AtomicU64,
    commits: AtomicU64,
    records: AtomicU64,
    commit_bytes: AtomicU64,
    payload_bytes: AtomicU64,
    free_bytes: AtomicU64,
    evacuated_segments: AtomicU64,
    evacuated_bytes: AtomicU64,
    upkeep_failures: AtomicU64,
    segments_opened: Arc<AtomicU64>,
    segments_passed_over: AtomicU64,
    runs_read: AtomicU64,
    runs_passed_over: AtomicU64,
    bytes_read: AtomicU64,
    partition_reads: AtomicU64,
}

impl StoreCounters {
    /// `segments_opened`: counted by whoever opens them.
    pub(crate) fn new(segments_opened: Arc<AtomicU64>) -> Self {
        Self {
            segments_opened,
            ..Self::default()
        }
    }

    pub(crate) fn committed(&self, records: u64, bytes: usize, payload_bytes: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.commit_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.payload_bytes
            .fetch_add(payload_bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_durable(&self, commit: CommitNumber) {
        // Two threads may announce at once, and the slower one must not take anything back: who was
        // told of a commit would wait for it until the next.
        self.durable.fetch_max(commit.0, Ordering::AcqRel);
    }

    pub(crate) fn evacuated(&self, segments: usize, bytes: u64) {
        self.evacuated_segments
            .fetch_add(segments as u64, Ordering::Relaxed);
        self.evacuated_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rounds of upkeep (sealing, retention, metadata) that failed; each is tried again.
    pub fn upkeep_failures(&self) -> u64 {
        self.upkeep_failures.load(Ordering::Relaxed)
    }

    pub(crate) fn count_upkeep_failure(&self) {
        self.upkeep_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Sealed segments that were opened for reading.
    pub fn segments_opened(&self) -> u64 {
        self.segments_opened.load(Ordering::Relaxed)
    }

    /// Sealed segments that readers of some topics passed over unopened.
    pub fn segments_passed_over(&self) -> u64 {
        self.segments_passed_over.load(Ordering::Relaxed)
    }

    pub(crate) fn passed_over(&self) {
        self.segments_passed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs of commits (some 128 KiB each) in the segments that they did open which they read.
    pub fn runs_read(&self) -> u64 {
        self.runs_read.load(Ordering::Relaxed)
    }

    /// Runs of commits there that they passed over.
    pub fn runs_passed_over(&self) -> u64 {
        self.runs_passed_over.load(Ordering::Relaxed)
    }

    pub(crate) fn runs(&self, read: u64, passed_over: u64) {
        self.runs_read.fetch_add(read, Ordering::Relaxed);
        self.runs_passed_over
            .fetch_add(passed_over, Ordering::Relaxed);
    }

    /// Bytes of commits that readers took from segments; what keeps up is read from memory and does
    /// not count.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// How often a reader of a partition, as an uplink is, went to segments; what keeps up is read from
    /// memory and does not count.
    pub fn partition_reads(&self) -> u64 {
        self.partition_reads.load(Ordering::Relaxed)
    }

    pub(crate) fn partition_read(&self) {
        self.partition_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.free_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Newest durable commit.
    pub fn durable(&self) -> CommitNumber {
        CommitNumber(self.durable.load(Ordering::Acquire))
    }

    /// Commits written.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Records in them.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of the commits, before sled adds its own.
    pub fn commit_bytes(&self) -> u64 {
        self.commit_bytes.load(Ordering::Relaxed)
    }

    /// Segments whose live data was copied elsewhere, so that they could go.
    pub fn evacuated_segments(&self) -> u64 {
        self.evacuated_segments.load(Ordering::Relaxed)
    }

    /// Bytes of the commits that were copied so.
    pub fn evacuated_bytes(&self) -> u64 {
        self.evacuated_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the payloads of those records.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes.load(Ordering::Relaxed)
    }

    /// Free bytes of the file system, as seen last.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_commit_never_goes_back() {
        let counters = StoreCounters::default();
        counters.set_durable(CommitNumber(6));
        // The keeper announced a change of health, and was slower than the committer.
        counters.set_durable(CommitNumber(5));
        assert_eq!(counters.durable(), CommitNumber(6));
    }
}
