//! The clock of a soak: stands still until it is told to go on, so that weeks pass in minutes.

use std::sync::atomic::{AtomicI64, Ordering};

use storage::{ClockSource, RELEASE_TIME_MS};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct SoakClock {
    since_boot_ms: AtomicI64,
}

impl SoakClock {
    /// It is so many hours after the start of the soak, or later.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "some years in milliseconds"
    )]
    pub(super) fn advance_to_hours(&self, hours: f64) {
        let ms = (hours * 3_600_000.0) as i64;
        self.since_boot_ms.fetch_max(ms, Ordering::Relaxed);
    }

    pub(super) fn hours(&self) -> f64 {
        let ms = self.since_boot_ms.load(Ordering::Relaxed);
        crate::figure(ms.unsigned_abs()) / 3_600_000.0
    }
}

impl ClockSource for SoakClock {
    fn boot_id(&self) -> [u8; 16] {
        [7; 16]
    }

    fn since_boot_ms(&self) -> i64 {
        self.since_boot_ms.load(Ordering::Relaxed)
    }

    fn wall_ms(&self) -> i64 {
        RELEASE_TIME_MS.saturating_add(self.since_boot_ms())
    }

    fn wall_error_ms(&self) -> Option<u64> {
        Some(1)
    }
}
