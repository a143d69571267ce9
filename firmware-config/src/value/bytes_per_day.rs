//! Budgets of bytes in a day: `"2GB/day"`.

use std::fmt;
use std::str::FromStr;

use super::{ByteCount, Refusal};

/// A number of bytes in a day. Written as a size and `/day`, so that nobody takes it for a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BytesPerDay(ByteCount);

impl BytesPerDay {
    /// Less would be exceeded by a gateway that stores a message a minute.
    pub(crate) const MIN: ByteCount = ByteCount::mib(10);
    pub(crate) const MAX: ByteCount = ByteCount::tib(1024);

    /// The bytes of a day.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for BytesPerDay {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let size = text
            .strip_suffix("/day")
            .ok_or_else(|| Refusal::new("does not end with /day"))?;
        let size: ByteCount = size.parse()?;
        if size < Self::MIN || size > Self::MAX {
            return Err(Refusal::new("is out of range"));
        }
        Ok(Self(size))
    }
}

impl fmt::Display for BytesPerDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/day", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<BytesPerDay>().unwrap_err().to_string()
    }

    #[test]
    fn budget_reads_back_equal_when_printed() {
        for text in ["10MiB/day", "2GB/day", "1024TiB/day"] {
            let budget: BytesPerDay = text.parse().unwrap();
            assert_eq!(budget.to_string().parse(), Ok(budget), "{text}");
        }
        assert_eq!("2GB/day".parse().map(BytesPerDay::get), Ok(2_000_000_000));
    }

    #[test]
    fn budget_is_refused_with_what_is_wrong_about_it() {
        assert_eq!(refusal("2GB"), "does not end with /day");
        assert_eq!(refusal("2GB/week"), "does not end with /day");
        assert_eq!(refusal("/day"), "does not begin with a whole number");
        assert_eq!(refusal("10485759B/day"), "is out of range");
        assert_eq!(refusal("1025TiB/day"), "is out of range");
    }
}
