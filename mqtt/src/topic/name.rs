//! Topic names: what a message is published to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{TOPIC_LEVELS_MAX, level_count};
use crate::utf8_string::{Utf8String, Utf8StringError};

/// A topic name: at least one character, no wildcard, at most [`TOPIC_LEVELS_MAX`] levels.
///
/// Cloning shares the bytes; see [`Utf8String`] for what that means for a decoded name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Utf8String);

impl TopicName {
    /// Checks a string.
    ///
    /// # Errors
    /// Says what keeps the string from being a topic name.
    pub fn new(text: Utf8String) -> Result<Self, TopicNameError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if let Some(position) = bytes.iter().position(|byte| matches!(byte, b'+' | b'#')) {
            return Err(TopicNameError::Wildcard { position });
        }
        let levels = level_count(bytes);
        if levels > TOPIC_LEVELS_MAX {
            return Err(TopicNameError::TooManyLevels { levels });
        }
        Ok(Self(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as bytes, without the check that [`as_str`](Self::as_str) repeats.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as the string that it is on the wire.
    pub fn as_utf8_string(&self) -> &Utf8String {
        &self.0
    }

    /// A copy that shares nothing with the buffer that this name was decoded from.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(self.0.detach())
    }

    /// Whether the server owns this name, as it does every one that begins with `$` (4.7.2).
    pub fn is_reserved(&self) -> bool {
        self.as_bytes().starts_with(b"$")
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(Utf8String::try_from(text)?)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Why a string is no topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicNameError {
    /// A topic name has at least one character.
    #[error("topic name is empty")]
    Empty,
    /// More levels than this implementation accepts.
    #[error("topic name has {levels} levels, at most {TOPIC_LEVELS_MAX} are allowed")]
    TooManyLevels {
        /// Number of levels.
        levels: usize,
    },
    /// Not a string that MQTT can carry.
    #[error("topic name {0}")]
    Utf8(Utf8StringError),
    /// Wildcards belong into topic filters.
    #[error("topic name has a wildcard at byte {position}, which only a topic filter may have")]
    Wildcard {
        /// Offset of the first `+` or `#`.
        position: usize,
    },
}

impl From<Utf8StringError> for TopicNameError {
    fn from(error: Utf8StringError) -> Self {
        Self::Utf8(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_when_they_have_a_character_and_no_wildcard() {
        for name in ["/", "a", "a//b", "/a/", "$SYS/x", "Träger/温度", " "] {
            assert_eq!(name.parse::<TopicName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_are_refused_with_the_place_when_they_have_a_wildcard() {
        assert_eq!(
            "a/+/b".parse::<TopicName>(),
            Err(TopicNameError::Wildcard { position: 2 })
        );
        assert_eq!(
            "a/b#".parse::<TopicName>(),
            Err(TopicNameError::Wildcard { position: 3 })
        );
    }

    #[test]
    fn names_are_refused_when_empty_too_long_or_too_deep() {
        assert_eq!("".parse::<TopicName>(), Err(TopicNameError::Empty));
        assert_eq!(
            "x".repeat(65_536).parse::<TopicName>(),
            Err(TopicNameError::Utf8(Utf8StringError::TooLong {
                bytes: 65_536
            })),
        );
        assert!("/".repeat(127).parse::<TopicName>().is_ok());
        assert_eq!(
            "/".repeat(128).parse::<TopicName>(),
            Err(TopicNameError::TooManyLevels { levels: 129 }),
        );
    }
}
