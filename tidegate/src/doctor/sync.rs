//! What the measured times mean: whether the card is fast enough, and whether its syncs can be
//! believed as far as a program can tell.

use super::device::Device;
use super::finding::{Finding, Level};
use super::measure::{Figures, Latency};

/// Above it, commits are so far apart that devices notice.
const SLOW_US: u64 = 100_000;
/// Above it, clients with a short keep alive give up.
const TOO_SLOW_US: u64 = 2_000_000;
/// A pause that publishers feel.
const PAUSE_US: u64 = 1_000_000;
/// Below it, large messages and a full uplink cannot be kept up with.
const SLOW_BYTES_PER_SECOND: u64 = 2_000_000;
/// Nothing that leaves the processor is as fast.
const IMPOSSIBLE_US: u64 = 5;

/// What came of the measurement: figures, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    Figures(Figures),
    /// It was not begun.
    NotBegun {
        why: String,
        remedy: &'static str,
    },
    /// A write or sync failed.
    Failed(String),
}

impl Measured {
    pub(super) fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Figures(figures) => Some(figures),
            Self::NotBegun { .. } | Self::Failed(_) => None,
        }
    }
}

/// What it means. `is_memory`: the file system is memory, where a sync does nothing.
pub(super) fn judge(measured: &Measured, device: Option<&Device>, is_memory: bool) -> Vec<Finding> {
    let figures = match measured {
        Measured::Figures(figures) => figures,
        Measured::NotBegun { why, remedy } => {
            let seen = format!("nothing was measured: {why}");
            return vec![
                Finding::new("sync", Level::Warning, seen)
                    .meaning("how long a sync takes here is not known")
                    .remedy(*remedy),
            ];
        }
        Measured::Failed(why) => {
            return vec![
                Finding::new(
                    "sync",
                    Level::Problem,
                    format!("a write or sync failed: {why}"),
                )
                .meaning("the gateway would end with status 74")
                .remedy("look into the kernel's log; if the disk is not full, replace the card"),
            ];
        }
    };
    let mut findings = vec![speed(figures)];
    findings.extend(pause(figures));
    if !is_memory {
        findings.extend(belief(figures, device));
    }
    findings.push(rate(figures));
    findings
}

fn speed(figures: &Figures) -> Finding {
    let seen = format!(
        "fdatasync of 4 KiB: appended {}; overwritten {}",
        words(&figures.append),
        words(&figures.overwrite)
    );
    let typical = figures.append.p50_us.max(1);
    let level = match typical {
        TOO_SLOW_US.. => Level::Problem,
        SLOW_US.. => Level::Warning,
        _ => Level::Ok,
    };
    let seconds = format!("{} commits a second", significant(1e6 / typical as f64));
    let finding = Finding::new("sync", level, seen);
    if level == Level::Ok {
        return finding.meaning(format!(
            "a lone publisher gets about {seconds}; messages that come together share one"
        ));
    }
    finding
        .meaning(format!(
            "a sync is slow here: {seconds}, and every acknowledgement waits for one"
        ))
        .remedy(
            "use a faster card (application class A1 or better), or durability = \"interval:…\"",
        )
}

fn pause(figures: &Figures) -> Option<Finding> {
    let longest = figures.append.max_us.max(figures.overwrite.max_us);
    (longest >= PAUSE_US).then(|| {
        Finding::new(
            "sync",
            Level::Warning,
            format!("the longest sync took {}", time(longest)),
        )
        .meaning("every publisher waits as long; cards do this when they tidy up")
        .remedy("see whether it comes often; if so, another card")
    })
}

fn belief(figures: &Figures, device: Option<&Device>) -> Option<Finding> {
    let least = device
        .and_then(Device::sync_us_least)
        .unwrap_or(IMPOSSIBLE_US);
    // The shorter of the two, since an honest device is never below the least.
    let typical = figures.append.p50_us.min(figures.overwrite.p50_us);
    if typical >= least {
        return Some(Finding::ok(
            "sync",
            "the times are possible for a device that really syncs; whether it does, only a power \
             cut shows",
        ));
    }
    let seen = format!("a sync takes {}", time(typical));
    Some(
        Finding::new("sync", Level::Warning, seen)
            .meaning(format!(
                "that cannot be believed: a device of this kind takes at least {}, so something \
                 on the way answers before the data is safe",
                time(least)
            ))
            .remedy("look for a cache that is not emptied: the host, the adapter, LD_PRELOAD"),
    )
}

fn rate(figures: &Figures) -> Finding {
    let rate = figures.sequential_bytes_per_second;
    let seen = format!(
        "sequential writing: {} MB/s over {} MiB, synced every 256 KiB",
        significant(rate as f64 / 1e6),
        significant(figures.sequential_bytes as f64 / f64::from(1 << 20)),
    );
    if rate >= SLOW_BYTES_PER_SECOND {
        return Finding::ok("write rate", seen);
    }
    Finding::new("write rate", Level::Warning, seen)
        .meaning("messages that arrive faster wait in memory, then publishers are slowed down")
        .remedy("use a faster card")
}

fn words(latency: &Latency) -> String {
    format!(
        "p50 {}, p90 {}, max {} ({} times)",
        time(latency.p50_us),
        time(latency.p90_us),
        time(latency.max_us),
        latency.count
    )
}

/// Microseconds in a unit for people.
fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{} ms", significant(us as f64 / 1e3)),
        _ => format!("{} s", significant(us as f64 / 1e6)),
    }
}

/// Two or three digits that mean something.
fn significant(number: f64) -> String {
    if number >= 10.0 {
        format!("{number:.0}")
    } else if number >= 1.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::DeviceKind;
    use super::super::finding::expect::{find, worst};
    use super::*;

    fn measured(p50_us: u64, max_us: u64) -> Measured {
        let latency = Latency {
            count: 100,
            p50_us,
            p90_us: p50_us,
            max_us,
        };
        Measured::Figures(Figures {
            append: latency.clone(),
            overwrite: latency,
            sequential_bytes: 4 << 20,
            sequential_bytes_per_second: 10_000_000,
        })
    }

    fn card(kind: DeviceKind, rotational: bool) -> Device {
        Device {
            kind,
            rotational,
            ..Device::default()
        }
    }

    #[test]
    fn slow_sync_is_told_by_how_slow_it_is() {
        for (p50_us, level) in [
            (3_000, Level::Ok),
            (99_999, Level::Ok),
            (100_000, Level::Warning),
            (2_000_000, Level::Problem),
        ] {
            let findings = judge(&measured(p50_us, p50_us), None, false);
            assert_eq!(
                find(&findings, "fdatasync of 4 KiB").level,
                level,
                "{p50_us}"
            );
        }
        let findings = judge(&measured(3_000, 1_500_000), None, false);
        assert_eq!(
            find(&findings, "longest sync took 1.5 s").level,
            Level::Warning
        );
    }

    #[test]
    fn sync_that_is_too_fast_for_its_device_is_not_believed() {
        for (kind, rotational, p50_us, believed) in [
            (DeviceKind::SdCard, false, 60, false),
            (DeviceKind::SdCard, false, 1_500, true),
            (DeviceKind::Emmc, false, 60, false),
            (DeviceKind::Disk, true, 500, false),
            (DeviceKind::Disk, true, 8_000, true),
            (DeviceKind::Disk, false, 40, true),
            (DeviceKind::Nvme, false, 12, true),
            (DeviceKind::Nvme, false, 8, false),
            (DeviceKind::Virtual, false, 8, true),
            (DeviceKind::Virtual, false, 3, false),
        ] {
            let device = card(kind, rotational);
            let findings = judge(&measured(p50_us, p50_us), Some(&device), false);
            let is_believed = worst(&findings) == Level::Ok;
            assert_eq!(is_believed, believed, "{kind:?} {p50_us}: {findings:#?}");
        }
        // Memory is told elsewhere, and for what it is.
        assert_eq!(worst(&judge(&measured(1, 1), None, true)), Level::Ok);
    }

    #[test]
    fn slow_writing_and_no_measurement_are_told() {
        let Measured::Figures(mut figures) = measured(1_000, 1_000) else {
            panic!("no figures");
        };
        figures.sequential_bytes_per_second = 1_999_999;
        let findings = judge(&Measured::Figures(figures), None, false);
        assert_eq!(find(&findings, "2.0 MB/s").level, Level::Warning);
        let not_begun = Measured::NotBegun {
            why: String::from("permission denied"),
            remedy: "",
        };
        assert_eq!(worst(&judge(&not_begun, None, false)), Level::Warning);
        let failed = Measured::Failed(String::from("input/output error"));
        assert_eq!(worst(&judge(&failed, None, false)), Level::Problem);
    }

    #[test]
    fn times_are_written_in_their_unit() {
        for (us, text) in [
            (999, "999 µs"),
            (1_500, "1.5 ms"),
            (45_000, "45 ms"),
            (2_000_000, "2.0 s"),
        ] {
            assert_eq!(time(us), text);
        }
    }
}
