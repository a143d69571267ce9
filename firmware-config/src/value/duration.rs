//! Spans of time: `"200ms"`, `"30s"`, `"12h"`, `"14d"`.
//!
//! The finest unit is the millisecond; a duration printed here loses what is finer.

use std::time::Duration;

use super::Refusal;

/// Units that a duration may be written in, in milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `"200ms"`: a whole number and one of the units ms, s, m, h, d.
///
/// # Errors
/// When there is no number, no unit, another unit, or more than 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    if number.is_empty() {
        return Err(Refusal::new("does not begin with a whole number"));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(Refusal::new(if unit.is_empty() {
            "has no unit, one of ms, s, m, h, d"
        } else {
            "its unit is none of ms, s, m, h, d"
        }));
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| Refusal::new("is more milliseconds than 64 bits can count"))
}

/// Prints a duration in the largest unit that needs no fraction: `"90s"`, `"2m"`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = UNITS
        .iter()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)))
        .unwrap_or(&("s", 1_000));
    format!("{}{unit}", millis / u128::from(*factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Duration, String> {
        parse_duration(text).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn duration_is_counted_in_its_unit() {
        assert_eq!(parse("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(parse("14d"), Ok(Duration::from_secs(1_209_600)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn duration_is_refused_when_it_is_no_number_with_a_unit() {
        for text in ["", "s", "-1s", " 1s", ".5s"] {
            assert_eq!(
                parse(text),
                Err("does not begin with a whole number".into()),
                "{text:?}"
            );
        }
        for text in ["1S", "1 s", "1.5h", "1w", "1h30m", "1min", "1µs"] {
            assert_eq!(
                parse(text),
                Err("its unit is none of ms, s, m, h, d".into()),
                "{text:?}"
            );
        }
        assert_eq!(
            parse("30"),
            Err("has no unit, one of ms, s, m, h, d".into())
        );
    }

    #[test]
    fn duration_is_refused_when_it_does_not_fit() {
        let too_large = Err("is more milliseconds than 64 bits can count".to_owned());
        assert_eq!(parse("213503982335d"), too_large);
        assert_eq!(parse("99999999999999999999ms"), too_large);
    }

    #[test]
    fn duration_is_printed_in_the_largest_whole_unit() {
        for (millis, text) in [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (90_000, "90s")] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_duration(Duration::from_secs(1_209_600)), "14d");
    }

    proptest! {
        #[test]
        fn duration_reads_back_equal_when_printed(millis: u64, shift in 0..64u32) {
            let duration = Duration::from_millis(millis >> shift);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
