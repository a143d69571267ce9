//! When a log's messages are on flash, and when their publishers hear of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Refusal, format_duration, parse_duration};

/// How a log is kept. Readers never see beyond what is durable, whatever stands
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged after the commit that put the message on flash.
    Commit,
    /// Acknowledged at once, committed at least this often: a power cut may take what was
    /// acknowledged in the last interval.
    Interval(Duration),
    /// Never stored: delivered to the subscribers of the moment, without offsets.
    Memory,
}

impl Durability {
    /// The shortest interval; below it, committing always is as cheap.
    pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
    /// The longest interval: more acknowledged messages at risk are no durability worth the name.
    pub const INTERVAL_MAX: Duration = Duration::from_secs(60);
}

impl FromStr for Durability {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text {
            "commit" => Ok(Self::Commit),
            "memory" => Ok(Self::Memory),
            "interval" => Err(Refusal::new("its interval is missing")),
            _ => {
                let Some(interval) = text.strip_prefix("interval:") else {
                    return Err(Refusal::new("is none of the durability classes"));
                };
                let interval = parse_duration(interval)
                    .map_err(|refusal| Refusal::new(format!("its interval {refusal}")))?;
                if interval < Self::INTERVAL_MIN || interval > Self::INTERVAL_MAX {
                    return Err(Refusal::new("its interval is out of range"));
                }
                Ok(Self::Interval(interval))
            }
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit => f.write_str("commit"),
            Self::Interval(interval) => write!(f, "interval:{}", format_duration(*interval)),
            Self::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Durability>().unwrap_err().to_string()
    }

    #[test]
    fn durability_reads_back_equal_when_printed() {
        for (text, durability) in [
            ("commit", Durability::Commit),
            ("memory", Durability::Memory),
            (
                "interval:200ms",
                Durability::Interval(Duration::from_millis(200)),
            ),
            (
                "interval:1ms",
                Durability::Interval(Durability::INTERVAL_MIN),
            ),
            (
                "interval:1m",
                Durability::Interval(Durability::INTERVAL_MAX),
            ),
        ] {
            assert_eq!(text.parse(), Ok(durability));
            assert_eq!(durability.to_string(), text);
        }
    }

    #[test]
    fn durability_is_refused_with_what_is_wrong_about_it() {
        assert_eq!(refusal("Commit"), "is none of the durability classes");
        assert_eq!(refusal(""), "is none of the durability classes");
        assert_eq!(refusal("interval"), "its interval is missing");
        assert_eq!(
            refusal("interval:"),
            "its interval does not begin with a whole number"
        );
        assert_eq!(
            refusal("interval:200"),
            "its interval has no unit, one of ms, s, m, h, d"
        );
        assert_eq!(refusal("interval:0ms"), "its interval is out of range");
        assert_eq!(refusal("interval:61s"), "its interval is out of range");
    }
}
