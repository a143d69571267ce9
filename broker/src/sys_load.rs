//! Loads for the `$SYS` topics: how much came and went in a minute, as moving averages over 1, 5 and
//! 15 minutes.

use std::time::Duration;

/// What averages are of.
pub(crate) const NAMES: [&str; 8] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "connections",
];
const MINUTES: [u8; 3] = [1, 5, 15];
const SECONDS_OF_A_MINUTE: f64 = 60.0;

/// Averages, of counts that only grow and began at 0.
#[derive(Debug, Default)]
pub(crate) struct Load {
    last: [u64; NAMES.len()],
    averages: [[f64; MINUTES.len()]; NAMES.len()],
}

impl Load {
    /// The counts are these now, `elapsed` after the last call.
    pub(crate) fn update(&mut self, counts: [u64; NAMES.len()], elapsed: Duration) {
        let minutes = elapsed.as_secs_f64() / SECONDS_OF_A_MINUTE;
        if minutes <= 0.0 {
            return;
        }
        let all = self.last.iter_mut().zip(&mut self.averages).zip(counts);
        for ((last, averages), count) in all {
            let in_a_minute = count.saturating_sub(*last) as f64 / minutes;
            *last = count;
            for (average, over) in averages.iter_mut().zip(MINUTES) {
                let weight_of_old = (-minutes / f64::from(over)).exp();
                *average = in_a_minute + (*average - in_a_minute) * weight_of_old;
            }
        }
    }

    /// Names and values, as they are published.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let all = NAMES.iter().zip(&self.averages);
        all.flat_map(|(name, averages)| {
            MINUTES.iter().zip(averages).map(move |(over, average)| {
                (format!("load/{name}/{over}min"), format!("{average:.2}"))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(load: &Load, name: &str) -> f64 {
        let mut figures = load.figures();
        let found = figures.find(|(found, _)| found == name).unwrap();
        found.1.parse().unwrap()
    }

    #[test]
    fn averages_come_to_the_rate_and_the_short_one_first() {
        let mut load = Load::default();
        let mut counts = [0; NAMES.len()];
        let names = ["1min", "5min", "15min"].map(|over| format!("load/publish/sent/{over}"));
        // 20 in ten seconds are 120 in a minute.
        for _ in 0..6 {
            counts[3] += 20;
            load.update(counts, Duration::from_secs(10));
        }
        let [one, five, fifteen] = names.clone().map(|name| value(&load, &name));
        assert!((one - 75.85).abs() < 0.01, "120 × (1 - 1/e), not {one}");
        assert!(120.0 > one && one > five && five > fifteen && fifteen > 0.0);
        for _ in 0..1_000 {
            counts[3] += 20;
            load.update(counts, Duration::from_secs(10));
        }
        assert_eq!(names.map(|name| value(&load, &name)), [120.0; 3]);
        assert_eq!(value(&load, "load/connections/1min"), 0.0);
        load.update(counts, Duration::ZERO);
        assert_eq!(value(&load, "load/publish/sent/1min"), 120.0);
        load.update(counts, Duration::from_secs(60_000));
        assert_eq!(value(&load, "load/publish/sent/15min"), 0.0);
    }
}
