//! How far opening a folder has come, for whoever watches it from another thread: a supervisor is not to
//! lose its patience with a start that has much to read.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's documentation. Made by whoever opens the folder, see
/// [`StoreOptions::progress`](crate::StoreOptions::progress).
#[derive(Debug, Default)]
pub struct OpeningProgress {
    steps: AtomicU64,
    segments: AtomicU64,
    segment: AtomicU64,
}

impl OpeningProgress {
    /// Steps done; who sees it grow knows that opening goes on. None takes longer than reading a
    /// segment, and copying it if it is damaged.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Which segment is looked at, from 1 on, and how many there are; `None` before and after that.
    pub fn segment(&self) -> Option<(u64, u64)> {
        let segments = self.segments.load(Ordering::Relaxed);
        let segment = self.segment.load(Ordering::Relaxed);
        (1..=segments)
            .contains(&segment)
            .then_some((segment, segments))
    }

    /// Something that is no segment was done.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// So many segments are looked at from now on.
    pub(crate) fn begin_segments(&self, count: usize) {
        self.segments.store(count as u64, Ordering::Relaxed);
        self.step();
    }

    /// The next segment is looked at.
    pub(crate) fn next_segment(&self) {
        self.segment.fetch_add(1, Ordering::Relaxed);
        self.step();
    }

    /// All segments have been looked at.
    pub(crate) fn end_segments(&self) {
        self.segments.store(0, Ordering::Relaxed);
        self.step();
    }
}
