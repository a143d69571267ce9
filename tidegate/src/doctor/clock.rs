//! The clock: what it shows, who set it, and whether it goes on without power.

use serde::Serialize;

use super::finding::{Finding, Level};

/// What is known of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Clock {
    /// Milliseconds since 1970.
    pub(super) wall_ms: i64,
    /// Its largest error, as the kernel knows it; `None` while no time service has set it.
    pub(super) error_ms: Option<u64>,
    /// A clock that goes on without power.
    pub(super) has_rtc: bool,
}

/// What it means; no clock that shows less than `release_ms` can be right.
pub(super) fn judge(clock: &Clock, release_ms: i64, has_retention_age: bool) -> Vec<Finding> {
    vec![
        synchronised(clock, release_ms, has_retention_age),
        battery(clock),
    ]
}

fn synchronised(clock: &Clock, release_ms: i64, has_retention_age: bool) -> Finding {
    if let Some(error_ms) = clock.error_ms {
        return Finding::ok(
            "clock",
            format!("set by a time service, off by {error_ms} ms at most"),
        );
    }
    let age = if has_retention_age {
        "; log[].retention.age removes nothing of this boot meanwhile, only retention.bytes does"
    } else {
        ""
    };
    let remedy = "let a time service run (chrony, systemd-timesyncd) and reach its server";
    if clock.wall_ms < release_ms {
        return Finding::new(
            "clock",
            Level::Warning,
            "it shows a time before this version was made",
        )
        .meaning(format!(
            "it is wrong: records get a time that is guessed, and put right when a time service \
             answers{age}; certificates cannot be judged by it"
        ))
        .remedy(remedy);
    }
    Finding::new(
        "clock",
        Level::Note,
        "no time service has set it since the boot",
    )
    .meaning(format!(
        "it may be right or not: records are sent as tg-time-quality `estimated` until one \
             has{age}"
    ))
    .remedy(remedy)
}

fn battery(clock: &Clock) -> Finding {
    if clock.has_rtc {
        return Finding::ok("clock", "there is a real-time clock (/sys/class/rtc)");
    }
    Finding::new("clock", Level::Note, "there is no real-time clock").meaning(
        "after a power cut it is not known what time it is until a time service answers; a boot \
         that never hears of one keeps `estimated` times, and its records never become too old",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::expect::{find, worst};
    use super::*;

    const RELEASE_MS: i64 = 1_000_000;

    fn clock(wall_ms: i64, error_ms: Option<u64>) -> Clock {
        Clock {
            wall_ms,
            error_ms,
            has_rtc: true,
        }
    }

    #[test]
    fn clock_is_told_by_who_set_it_and_what_it_shows() {
        for (wall_ms, error_ms, level) in [
            (RELEASE_MS, Some(3), Level::Ok),
            (RELEASE_MS, None, Level::Note),
            (RELEASE_MS - 1, None, Level::Warning),
        ] {
            let findings = judge(&clock(wall_ms, error_ms), RELEASE_MS, false);
            assert_eq!(worst(&findings), level, "{wall_ms} {error_ms:?}");
        }
        let findings = judge(&clock(RELEASE_MS, None), RELEASE_MS, true);
        assert!(find(&findings, "retention.age removes nothing").level == Level::Note);
    }

    #[test]
    fn missing_real_time_clock_is_told() {
        let clock = Clock {
            has_rtc: false,
            ..clock(RELEASE_MS, Some(1))
        };
        let findings = judge(&clock, RELEASE_MS, false);
        assert_eq!(find(&findings, "no real-time clock").level, Level::Note);
    }
}
