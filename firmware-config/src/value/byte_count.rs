//! Sizes in bytes: `"64KiB"`, `"2GiB"`, `"500MB"`.

use std::fmt;
use std::str::FromStr;

use super::Refusal;

/// Units that a size may be written in, largest first within each family. `KB` is missing on
/// purpose: it is read as 1000 by some and as 1024 by others.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A size in bytes. Written as a whole number and a unit (IEC 80000-13: KiB is 1024 bytes,
/// kB is 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(u64);

impl ByteCount {
    /// This many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This many times 1024 bytes; `count` is a small constant of this crate.
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// This many times 1024² bytes.
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// This many times 1024³ bytes.
    pub(crate) const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// This many times 1024⁴ bytes.
    pub(crate) const fn tib(count: u64) -> Self {
        Self(count << 40)
    }
}

impl FromStr for ByteCount {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits_end);
        if number.is_empty() {
            return Err(Refusal::new("does not begin with a whole number"));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let known = UNITS.map(|(name, _)| name).join(", ");
            return Err(Refusal::new(if unit.is_empty() {
                format!("has no unit, one of {known} (a number without quotes is bytes)")
            } else {
                format!("its unit is none of {known}")
            }));
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor));
        bytes
            .map(Self)
            .ok_or_else(|| Refusal::new("is more than 64 bits can count"))
    }
}

impl fmt::Display for ByteCount {
    /// Prints the unit that makes the number smallest without a fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = UNITS
            .iter()
            .filter(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor))
            .map(|(unit, factor)| (self.0 / factor, *unit))
            .min()
            .unwrap_or((self.0, "B"));
        write!(f, "{number}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<u64, String> {
        text.parse::<ByteCount>()
            .map(ByteCount::get)
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn size_is_counted_in_its_unit() {
        assert_eq!(parse("64KiB"), Ok(65_536));
        assert_eq!(parse("512MiB"), Ok(536_870_912));
        assert_eq!(parse("2GiB"), Ok(2_147_483_648));
        assert_eq!(parse("1TiB"), Ok(1_099_511_627_776));
        assert_eq!(parse("3kB"), Ok(3_000));
        assert_eq!(parse("500MB"), Ok(500_000_000));
        assert_eq!(parse("7GB"), Ok(7_000_000_000));
        assert_eq!(parse("1TB"), Ok(1_000_000_000_000));
        assert_eq!(parse("12B"), Ok(12));
    }

    #[test]
    fn size_is_refused_when_it_is_no_number_with_a_unit() {
        let no_number = Err("does not begin with a whole number".to_owned());
        for text in ["", "MiB", "-1MiB", "+1MiB", " 1MiB", ".5MiB"] {
            assert_eq!(parse(text), no_number, "{text:?}");
        }
        let units = "TiB, GiB, MiB, KiB, TB, GB, MB, kB, B";
        for text in ["1KB", "1kb", "1mib", "1 MiB", "1.5GiB", "1MiB ", "1M"] {
            assert_eq!(
                parse(text),
                Err(format!("its unit is none of {units}")),
                "{text:?}"
            );
        }
        assert_eq!(
            parse("4096"),
            Err(format!(
                "has no unit, one of {units} (a number without quotes is bytes)"
            ))
        );
    }

    #[test]
    fn size_is_refused_when_it_does_not_fit() {
        let too_large = Err("is more than 64 bits can count".to_owned());
        assert_eq!(parse("16777216TiB"), too_large);
        assert_eq!(parse("99999999999999999999B"), too_large);
        assert_eq!(parse("16777215TiB"), Ok(16_777_215 << 40));
    }

    #[test]
    fn size_is_printed_in_the_unit_with_the_smallest_number() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1000, "1kB"),
            (1024, "1KiB"),
            (1 << 24, "16MiB"),
            (1025, "1025B"),
        ] {
            assert_eq!(ByteCount::new(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn size_reads_back_equal_when_printed(bytes: u64, shift in 0..64u32) {
            let size = ByteCount::new(bytes >> shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
