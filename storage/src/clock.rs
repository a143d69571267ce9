//! Time on a machine whose clock may be wrong: eras, and what is known of them afterwards.
//!
//! A gateway has no clock battery. What is stored is therefore stamped with the *provisional* clock
//! of an era: a guess made when the era began, plus the time since boot, which runs evenly and never
//! jumps. When a time service has set the wall clock, the difference is written into the era table
//! and corrects all records of the era at once, those of the past included.
//!
//! An era is one boot. If something was already sent upstream with the guess (the era is *frozen*)
//! when the clock becomes known, a new era begins, so that what was said once stays said. The same
//! when the wall clock is set to something quite different later.
//!
//! Not for: durations and timeouts, for which `Instant` is right.
//!
//! Invariants: within an era the provisional clock never goes back; a frozen era never changes.

use std::fs;
use std::sync::Arc;

use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::sys;

/// No clock that shows an earlier time can be right: the version was released after it
/// (2026-11-01, in milliseconds since 1970).
pub const RELEASE_TIME_MS: i64 = 1_793_491_200_000;

/// Where times come from; replaced in tests.
pub trait ClockSource: Send + Sync {
    /// What tells this boot of the machine from every other.
    fn boot_id(&self) -> [u8; 16];
    /// Milliseconds since boot, sleep included.
    fn since_boot_ms(&self) -> i64;
    /// The wall clock, in milliseconds since 1970, right or wrong.
    fn wall_ms(&self) -> i64;
    /// The wall clock's largest error in milliseconds; `None` while it was not set by a time service.
    fn wall_error_ms(&self) -> Option<u64>;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: [u8; 16],
}

impl SystemClock {
    /// Reads the boot id (Linux: /proc/sys/kernel/random/boot_id); zeros if there is none.
    pub fn new() -> Arc<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let boot_id = u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes();
        Arc::new(Self { boot_id })
    }
}

impl ClockSource for SystemClock {
    fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    fn since_boot_ms(&self) -> i64 {
        clock_ms(ClockId::Boottime)
    }

    fn wall_ms(&self) -> i64 {
        clock_ms(ClockId::Realtime)
    }

    fn wall_error_ms(&self) -> Option<u64> {
        sys::wall_clock_error_us().map(|us| us.div_ceil(1000))
    }
}

fn clock_ms(id: ClockId) -> i64 {
    let time = rustix::time::clock_gettime(id);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// How far a corrected time can be trusted; sent upstream as `tg-time-quality`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeQuality {
    /// The clock was never set in that era, or only after its first record went upstream.
    Estimated,
    /// The clock was set by a time service.
    Synced,
}

impl TimeQuality {
    /// The word in headers and outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Synced => "synced",
        }
    }
}

/// A stretch of time with one provisional clock. Stored with a leading version byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// The boot that it is of.
    pub boot_id: [u8; 16],
    /// Provisional clock = this + milliseconds since boot.
    pub base_ms: i64,
    /// What to add to the provisional clock, once that is known.
    pub correction: Option<Correction>,
    /// A record of it went upstream: nothing above changes any more.
    pub frozen: bool,
    /// The wall clock showed a possible time when the era began. If not, and there is no correction,
    /// times of this era are known to be wrong.
    pub plausible: bool,
}

/// Difference between the provisional and the real clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// To be added to provisional times.
    pub offset_ms: i64,
    /// Largest error of the sum.
    pub uncertainty_ms: u64,
}

/// A time that was put right as far as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectedTime {
    /// Milliseconds since 1970.
    pub ms: i64,
    /// How far to trust it.
    pub quality: TimeQuality,
}

impl Stored for Era {
    const VERSION: u8 = 1;
}

impl Era {
    /// An era that begins now. `floor_ms`: a time that is certainly past.
    pub(crate) fn begin(clock: &dyn ClockSource, floor_ms: i64) -> Self {
        let floor_ms = floor_ms.max(RELEASE_TIME_MS);
        let now_ms = clock.wall_ms().max(floor_ms);
        let base_ms = now_ms.saturating_sub(clock.since_boot_ms());
        let mut era = Self {
            boot_id: clock.boot_id(),
            base_ms,
            correction: None,
            frozen: false,
            plausible: clock.wall_ms() >= floor_ms,
        };
        era.correction = era.measured_correction(clock);
        era
    }

    /// Whether it began in the boot that goes on, whose id is `boot_id`. A machine that has no boot
    /// ids has zeros.
    pub(crate) fn is_of_boot(&self, boot_id: [u8; 16]) -> bool {
        self.boot_id == boot_id && boot_id != [0; 16]
    }

    /// The correction as the clocks show it now, if the wall clock is known.
    pub(crate) fn measured_correction(&self, clock: &dyn ClockSource) -> Option<Correction> {
        let uncertainty_ms = clock.wall_error_ms()?;
        let offset_ms = clock.wall_ms().saturating_sub(self.provisional_ms(clock));
        Some(Correction {
            offset_ms,
            uncertainty_ms,
        })
    }

    /// The provisional clock now.
    pub(crate) fn provisional_ms(&self, clock: &dyn ClockSource) -> i64 {
        self.base_ms.saturating_add(clock.since_boot_ms())
    }

    /// Whether its times can be right.
    pub fn is_plausible(&self) -> bool {
        self.plausible || self.correction.is_some()
    }

    /// The real time of a provisional one.
    pub fn corrected(&self, provisional_ms: i64) -> CorrectedTime {
        match self.correction {
            Some(correction) => CorrectedTime {
                ms: provisional_ms.saturating_add(correction.offset_ms),
                quality: TimeQuality::Synced,
            },
            None => CorrectedTime {
                ms: provisional_ms,
                quality: TimeQuality::Estimated,
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A clock that tests set.

    use super::ClockSource;
    use std::sync::Mutex;

    #[derive(Clone, Debug)]
    pub(crate) struct Times {
        pub(crate) boot: u8,
        pub(crate) since_boot_ms: i64,
        pub(crate) wall_ms: i64,
        pub(crate) error_ms: Option<u64>,
    }

    #[derive(Debug)]
    pub(crate) struct FakeClock(pub(crate) Mutex<Times>);

    impl FakeClock {
        pub(crate) fn set(&self, change: impl FnOnce(&mut Times)) {
            change(&mut self.0.lock().unwrap());
        }
    }

    impl ClockSource for FakeClock {
        fn boot_id(&self) -> [u8; 16] {
            [self.0.lock().unwrap().boot; 16]
        }
        fn since_boot_ms(&self) -> i64 {
            self.0.lock().unwrap().since_boot_ms
        }
        fn wall_ms(&self) -> i64 {
            self.0.lock().unwrap().wall_ms
        }
        fn wall_error_ms(&self) -> Option<u64> {
            self.0.lock().unwrap().error_ms
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{FakeClock, Times};
    use super::*;
    use std::sync::Mutex;

    fn clock(wall_ms: i64, error_ms: Option<u64>) -> FakeClock {
        FakeClock(Mutex::new(Times {
            boot: 1,
            since_boot_ms: 5_000,
            wall_ms,
            error_ms,
        }))
    }

    #[test]
    fn clock_of_1970_is_lifted_to_the_last_known_time() {
        let era = Era::begin(&clock(4_000, None), RELEASE_TIME_MS + 77);
        assert_eq!(era.corrected(era.base_ms + 5_000).ms, RELEASE_TIME_MS + 77);
        assert_eq!(
            era.corrected(era.base_ms + 5_000).quality,
            TimeQuality::Estimated
        );
        assert!(!era.is_plausible());
        assert!(Era::begin(&clock(RELEASE_TIME_MS + 1, None), 0).is_plausible());
    }

    #[test]
    fn correction_puts_past_records_right() {
        let clock = clock(4_000, None);
        let mut era = Era::begin(&clock, 0);
        let stamped = era.provisional_ms(&clock);
        let real_then = RELEASE_TIME_MS + 1_000_000;
        clock.set(|t| {
            t.since_boot_ms += 60_000;
            t.wall_ms = real_then + 60_000;
            t.error_ms = Some(12);
        });
        era.correction = era.measured_correction(&clock);
        assert_eq!(
            era.corrected(stamped),
            CorrectedTime {
                ms: real_then,
                quality: TimeQuality::Synced
            }
        );
        assert_eq!(era.correction.unwrap().uncertainty_ms, 12);
    }

    #[test]
    fn known_clock_needs_no_correction() {
        let era = Era::begin(&clock(RELEASE_TIME_MS + 9_000_000, Some(3)), 0);
        assert_eq!(
            era.correction,
            Some(Correction {
                offset_ms: 0,
                uncertainty_ms: 3
            })
        );
    }

    #[test]
    fn era_comes_back_and_a_later_version_is_refused() {
        let era = Era::begin(&clock(RELEASE_TIME_MS, Some(3)), 0);
        assert_eq!(Era::from_stored(&era.to_stored()).unwrap(), era);
        let later = Era::from_stored(&[9, 1]).unwrap_err();
        assert_eq!(later.to_string(), "version 9 where this version reads 1");
    }
}
