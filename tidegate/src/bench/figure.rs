//! The figures of a measurement: each has a name for programs, words for people, and a way to get it
//! from what was measured. Table and JSON are made of the same list, so that they cannot differ.

use std::collections::BTreeMap;

use super::statistics::Spread;
use super::table::number;

/// A figure of `T`, which is what one round has measured.
#[derive(Debug)]
pub(super) struct Figure<T> {
    /// Name in JSON; never changes its meaning.
    pub(super) name: &'static str,
    /// Words in the table.
    pub(super) words: &'static str,
    /// What the value is multiplied with for the table.
    pub(super) scale: f64,
    pub(super) of: fn(&T) -> Option<f64>,
}

/// Bytes in the table are MiB.
pub(super) const MEBIBYTES: f64 = 1.0 / (1024.0 * 1024.0);

/// Median and ends of every figure, by name.
pub(super) type Summary = BTreeMap<&'static str, Spread>;

/// Of these rounds; a figure that no round has is left out.
pub(super) fn summarise<T>(figures: &[Figure<T>], rounds: &[T]) -> Summary {
    let spread = |figure: &Figure<T>| Spread::of(rounds.iter().filter_map(figure.of));
    let named = figures.iter().map(|figure| (figure.name, spread(figure)));
    named
        .filter_map(|(name, spread)| Some((name, spread?)))
        .collect()
}

impl<T> Figure<T> {
    /// The figure's cell in the table: `median (min..max)`, or `-`.
    pub(super) fn cell(&self, summary: &Summary) -> String {
        let Some(spread) = summary.get(self.name) else {
            return "-".to_owned();
        };
        let [median, min, max] =
            [spread.median, spread.min, spread.max].map(|value| number(value * self.scale));
        if min == max {
            return median;
        }
        format!("{median} ({min}..{max})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: [Figure<(f64, Option<f64>)>; 2] = [
        Figure {
            name: "always",
            words: "always there, MiB",
            scale: MEBIBYTES,
            of: |measured| Some(measured.0),
        },
        Figure {
            name: "sometimes",
            words: "sometimes there",
            scale: 1.0,
            of: |measured| measured.1,
        },
    ];

    fn cells(rounds: &[(f64, Option<f64>)]) -> Vec<String> {
        let summary = summarise(&FIGURES, rounds);
        FIGURES.iter().map(|figure| figure.cell(&summary)).collect()
    }

    #[test]
    fn cell_shows_the_median_with_its_ends_where_they_differ() {
        let mebibyte = 1024.0 * 1024.0;
        let rounds = [
            (3.0 * mebibyte, None),
            (mebibyte, Some(5.0)),
            (2.0 * mebibyte, Some(5.0)),
        ];
        assert_eq!(cells(&rounds), ["2.00 (1.00..3.00)", "5.00"]);
        assert_eq!(cells(&rounds[..1]), ["3.00", "-"]);
        assert_eq!(cells(&[]), ["-", "-"]);
    }
}
