//! What keeps the oldest segment, in one line.

use std::cmp::Reverse;

use super::size;
use crate::admin::oldest_segment_page::{LogInSegmentPage, OldestSegmentPage};

/// Logs that are named, those first that have most in it.
const LOGS_MAX: usize = 4;

/// The line, unless the only segment is the one that is written to.
pub(super) fn line(oldest: &OldestSegmentPage) -> Option<String> {
    if oldest.stage == "written" {
        return None;
    }
    let OldestSegmentPage { id, last, .. } = oldest;
    let name = match id == last {
        true => id.to_string(),
        false => format!("{id} to {last}"),
    };
    let live = u128::from(oldest.live_bytes) * 100 / u128::from(oldest.bytes.max(1));
    let age = oldest.age_seconds.map_or_else(
        || "of unknown age".to_owned(),
        |seconds| format!("{} old", duration(seconds)),
    );
    let mut logs: Vec<_> = oldest.logs.iter().collect();
    logs.sort_by_key(|log| Reverse(log.live_bytes));
    let mut kept: Vec<_> = logs.iter().take(LOGS_MAX).map(|log| reason(log)).collect();
    if logs.len() > LOGS_MAX {
        kept.push(format!("{} more logs", logs.len() - LOGS_MAX));
    }
    let kept = match (kept.is_empty(), oldest.stage.as_str()) {
        (true, "newest_sealed") => "the newest sealed one stays for its journal".to_owned(),
        (false, "newest_sealed") => format!("{}; stays for its journal besides", kept.join(", ")),
        (true, _) => "nothing in it is live, it is about to go".to_owned(),
        (false, "evacuating") => format!("{}; evacuation is copying it", kept.join(", ")),
        (false, _) if live < 100 => {
            format!("{}; evacuation leaves it for now", kept.join(", "))
        }
        (false, _) => kept.join(", "),
    };
    Some(format!(
        "oldest segment {name}: {}, {live} % live, {age}: {kept}",
        size(oldest.bytes)
    ))
}

/// Why the records of a log are still there.
fn reason(log: &LogInSegmentPage) -> String {
    let limit = match log.retention_age_seconds {
        Some(seconds) => format!("{} and {}", size(log.retention_bytes), duration(seconds)),
        None => size(log.retention_bytes),
    };
    let why = match log.kept_by.as_str() {
        "retention" => format!("has {} of its {limit}", size(log.log_bytes)),
        "unknown_age" => format!(
            "has {} of its {limit}; its age does not count before the clock is set",
            size(log.log_bytes)
        ),
        "pins" => {
            let lags = log.pins.iter().map(|pin| {
                let (records, bytes) = (pin.lag_records, size(pin.lag_bytes));
                format!(
                    "route {} has not replicated {records} records, {bytes}",
                    pin.name
                )
            });
            lags.collect::<Vec<_>>().join("; ")
        }
        "on_full" => match log.retention_age_seconds {
            Some(_) => "full, and without a route only age lets go of it, once a clock tells it",
            None => "full, and without a route and an age nothing lets go of it",
        }
        .to_owned(),
        "nothing" => "about to go".to_owned(),
        // Of a later version.
        other => other.to_owned(),
    };
    format!("{} keeps {} ({why})", log.log, size(log.live_bytes))
}

/// Time for people, in the largest unit that it has two of.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [("days", 86_400), ("h", 3600), ("min", 60)];
    match units.iter().find(|(_, unit)| seconds >= 2 * unit) {
        Some((name, unit)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::oldest_segment_page::PinPage;

    fn log(name: &str, kept_by: &str, live_kib: u64) -> LogInSegmentPage {
        LogInSegmentPage {
            log: name.to_owned(),
            live_bytes: live_kib << 10,
            log_bytes: 5 << 20,
            retention_bytes: 1 << 30,
            kept_by: kept_by.to_owned(),
            ..LogInSegmentPage::default()
        }
    }

    fn page(stage: &str, logs: Vec<LogInSegmentPage>) -> OldestSegmentPage {
        OldestSegmentPage {
            id: 5,
            last: 5,
            bytes: 1 << 20,
            live_bytes: 200 << 10,
            age_seconds: Some(7500),
            stage: stage.to_owned(),
            logs,
        }
    }

    #[test]
    fn every_reason_has_its_words() {
        let mut alarms = log("alarms", "pins", 50);
        alarms.pins = vec![PinPage {
            name: "uplink".to_owned(),
            lag_records: 1203,
            lag_bytes: 3 << 19,
        }];
        let mut young = log("young", "unknown_age", 1);
        young.retention_age_seconds = Some(14 * 86_400);
        let logs = vec![log("a", "retention", 150), alarms, young];
        assert_eq!(
            line(&page("sealed", logs)).unwrap(),
            "oldest segment 5: 1.0 MiB, 19 % live, 2 h old: \
             a keeps 150.0 KiB (has 5.0 MiB of its 1.0 GiB), \
             alarms keeps 50.0 KiB (route uplink has not replicated 1203 records, 1.5 MiB), \
             young keeps 1.0 KiB (has 5.0 MiB of its 1.0 GiB and 14 days; its age does not count before the clock is set); \
             evacuation leaves it for now"
        );
        for (kept_by, words) in [
            ("on_full", "(full, and without a route and an age nothing"),
            ("nothing", "(about to go)"),
            ("of_tomorrow", "(of_tomorrow)"),
        ] {
            let told = line(&page("sealed", vec![log("a", kept_by, 1)])).unwrap();
            assert!(told.contains(words), "{told}");
        }
        let mut aging = log("a", "on_full", 1);
        aging.retention_age_seconds = Some(86_400);
        let told = line(&page("sealed", vec![aging])).unwrap();
        assert!(told.contains("without a route only age lets go"), "{told}");
    }

    #[test]
    fn every_stage_has_its_words() {
        let logs = || vec![log("a", "retention", 1)];
        assert_eq!(line(&page("written", logs())), None);
        for (stage, logs, words) in [
            ("evacuating", logs(), "evacuation is copying it"),
            ("newest_sealed", logs(), "stays for its journal"),
            ("newest_sealed", Vec::new(), "stays for its journal"),
            ("sealed", Vec::new(), "nothing in it is live"),
        ] {
            let told = line(&page(stage, logs)).unwrap();
            assert!(told.contains(words), "{stage}: {told}");
        }
        let copied = OldestSegmentPage {
            last: 9,
            age_seconds: None,
            ..page("sealed", logs())
        };
        let told = line(&copied).unwrap();
        assert!(told.starts_with("oldest segment 5 to 9: "), "{told}");
        assert!(told.contains("of unknown age"), "{told}");
    }

    #[test]
    fn only_some_of_many_logs_are_named() {
        let logs = (0..10).map(|n| log(&format!("log{n}"), "retention", n));
        let told = line(&page("sealed", logs.collect())).unwrap();
        assert!(
            told.contains("log9 keeps") && !told.contains("log5 keeps"),
            "{told}"
        );
        assert!(told.contains("6 more logs"), "{told}");
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (seconds, told) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(duration(seconds), told);
        }
    }
}
