//! The name of a log.

use super::Refusal;
use super::name::{check_characters, impl_name, is_plain_character};

/// Names a log in the file, on the command line, in metrics and on flash. One to 64 of
/// `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(String);

impl LogName {
    /// The log that always exists: what no other log takes goes there.
    pub const DEFAULT: &'static str = "default";

    /// The name of the log that always exists.
    #[must_use]
    pub fn default_log() -> Self {
        Self(Self::DEFAULT.to_owned())
    }

    /// Whether this names the log that always exists.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    fn check(text: &str) -> Result<(), Refusal> {
        check_characters(text, 64, is_plain_character)
    }
}

impl_name!(LogName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_name_is_refused_when_it_could_not_be_a_metric_label_or_a_path() {
        assert!("telemetry_2-b".parse::<LogName>().is_ok());
        assert_eq!(
            "Alarms".parse::<LogName>(),
            Err(Refusal::new("'A' is not allowed in it"))
        );
        assert_eq!(
            "a.b".parse::<LogName>(),
            Err(Refusal::new("'.' is not allowed in it"))
        );
        assert_eq!(
            "../x".parse::<LogName>(),
            Err(Refusal::new("'.' is not allowed in it"))
        );
        assert_eq!("".parse::<LogName>(), Err(Refusal::new("is empty")));
        assert_eq!(
            "x".repeat(65).parse::<LogName>(),
            Err(Refusal::new("has 65 characters"))
        );
    }

    #[test]
    fn default_log_has_a_valid_name() {
        assert_eq!(LogName::DEFAULT.parse(), Ok(LogName::default_log()));
        assert!(LogName::default_log().is_default());
    }
}
