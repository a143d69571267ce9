//! A figure that was measured several times: its median, and how far it went to either side.

use serde::Serialize;

/// The middle and the ends of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of these values; `None` if there are none. The median of an even number of values is the mean
    /// of the two in the middle.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }
}

/// How many times `other` goes into `this`, by their medians; `None` where that says nothing.
pub(super) fn ratio(this: Option<Spread>, other: Option<Spread>) -> Option<f64> {
    let (this, other) = (this?.median, other?.median);
    (other > 0.0).then(|| this / other)
}

/// A count as a figure. Counts here are far below the 2^53 from which on this would round.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn figure(count: u64) -> f64 {
    count as f64
}

/// `part` for each of `whole`; 0 for none.
pub(super) fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Spread, per, ratio};

    fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(values.iter().copied()).map(|s| (s.min, s.median, s.max))
    }

    #[test]
    fn median_is_the_middle_one_or_between_the_two() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5.0]), Some((5.0, 5.0, 5.0)));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(spread(&[4.0, 1.0, 9.0, 2.0]), Some((1.0, 3.0, 9.0)));
    }

    #[test]
    fn ratio_is_missing_when_there_is_nothing_to_divide_by() {
        let (two, zero) = (Spread::of([2.0]), Spread::of([0.0]));
        assert_eq!(ratio(Spread::of([3.0]), two), Some(1.5));
        assert_eq!(ratio(zero, two), Some(0.0));
        assert_eq!(ratio(two, zero), None);
        assert_eq!(ratio(None, two), None);
        assert_eq!(ratio(two, None), None);
        assert!(per(1.0, 0.0).abs() < f64::EPSILON);
    }

    #[test]
    fn median_does_not_depend_on_the_order() {
        let mut values = [7.0, 1.0, 3.0, 3.0, 8.0, 2.0, 5.0];
        for turn in 0..values.len() * 3 {
            values.rotate_left(1);
            values.swap(0, turn % 7);
            assert_eq!(spread(&values), Some((1.0, 3.0, 8.0)), "{values:?}");
        }
    }
}
