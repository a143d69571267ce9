//! The figures of all rounds as a table of medians.

use std::fmt::Write as _;

use crate::contestants::Contestant;
use crate::figure;
use crate::one_run::Figures;

const MIB: f64 = 1024.0 * 1024.0;

type Round = Vec<(Contestant, Figures)>;

/// Medians over the rounds; acknowledgements are told as a share of what bare files reached in the
/// same round.
pub(crate) fn of(size: u32, publishers: u16, records: u64, rounds: &[Round]) -> String {
    let mut text = format!(
        "{size} bytes, {publishers} publishers, {records} records\n{:<10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}\n",
        "", "acks/s", "write()", "dirtied", "disk", "CPU us", "RSS MiB", "syncs", "records"
    );
    let _ = writeln!(
        text,
        "{:<10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "/files'", "/payload", "/payload", "/payload", "/record", "peak", "/commit", "/commit"
    );
    for contestant in Contestant::ALL {
        let median = |of: &dyn Fn(&Figures, &Figures) -> f64| {
            let value = |round: &Round| {
                let find = |who| round.iter().find(|(found, _)| *found == who);
                let ((_, own), (_, files)) = find(contestant).zip(find(Contestant::Files))?;
                Some(of(own, files))
            };
            let mut values: Vec<f64> = rounds.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let payload = |f: &Figures| figure(f.records) * f64::from(size);
        let rate = |f: &Figures| figure(f.records) / f.seconds;
        let _ = writeln!(
            text,
            "{:<10}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.1}{:>9.2}{:>9.1}",
            contestant.name(),
            median(&|f, files| rate(f) / rate(files)),
            median(&|f, _| figure(f.written_bytes) / payload(f)),
            median(&|f, _| figure(f.dirtied_bytes) / payload(f)),
            median(&|f, _| figure(f.disk_bytes) / payload(f)),
            median(&|f, _| f.cpu_seconds * 1e6 / figure(f.records)),
            median(&|f, _| figure(f.rss_peak_bytes) / MIB),
            median(&|f, _| figure(f.syncs) / figure(f.commits)),
            median(&|f, _| figure(f.records) / figure(f.commits)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_of_the_rounds() {
        let figures = |seconds| Figures {
            records: 1000,
            commits: 10,
            seconds,
            written_bytes: 200_000,
            ..Figures::default()
        };
        let round = |seconds| {
            vec![
                (Contestant::Tidegate, figures(seconds)),
                (Contestant::Files, figures(1.0)),
            ]
        };
        let text = of(100, 10, 1000, &[round(9.0), round(2.0), round(1.0)]);
        let line = text.lines().find(|line| line.starts_with("tidegate"));
        let words: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["tidegate", "0.50", "2.00"]);
    }
}
