//! Topic filters: what a subscription asks for, with wildcards and shared subscriptions.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use thiserror::Error;

use super::{TOPIC_LEVELS_MAX, TopicName, level_count};
use crate::packet::ProtocolVersion;
use crate::utf8_string::{Utf8String, Utf8StringError};

/// What a shared subscription's filter begins with (MQTT 5, 4.8.2).
const SHARE_PREFIX: &[u8] = b"$share/";

/// A topic filter, possibly that of a shared subscription (`$share/group/filter`).
///
/// Shared subscriptions are recognised in both versions of the protocol; whether they are served
/// is for the broker to say. Cloning shares the bytes.
#[derive(Clone)]
pub struct TopicFilter {
    text: Utf8String,
    /// Where the filter itself begins in `text`: behind `$share/group/`, else 0.
    start: usize,
}

impl TopicFilter {
    /// Checks a string.
    ///
    /// # Errors
    /// Says what keeps the string from being a topic filter.
    pub fn new(text: Utf8String) -> Result<Self, TopicFilterError> {
        let start = filter_start(text.as_bytes())?;
        let filter = Self::with_start(text, start)?;
        let levels = level_count(filter.filter_bytes());
        if levels > TOPIC_LEVELS_MAX {
            return Err(TopicFilterError::TooManyLevels { levels });
        }
        Ok(filter)
    }

    /// Checks a string that a client sent, for what the standard forbids and no more: one that is
    /// [not served](Self::is_served) is refused for itself, not with the packet that it stands in. MQTT
    /// 3.1.1 gives `$share/` no meaning, so that what is ill-formed behind it is a filter like others.
    pub(crate) fn of_client(
        text: Utf8String,
        version: ProtocolVersion,
    ) -> Result<Self, TopicFilterError> {
        let start = match (filter_start(text.as_bytes()), version) {
            (Err(_), ProtocolVersion::V311) => 0,
            (start, _) => start?,
        };
        Self::with_start(text, start)
    }

    fn with_start(text: Utf8String, start: usize) -> Result<Self, TopicFilterError> {
        if text.as_bytes().is_empty() {
            return Err(TopicFilterError::Empty);
        }
        let filter = Self { text, start };
        check_wildcards(filter.filter_bytes(), start)?;
        Ok(filter)
    }

    /// Whether a server may take a subscription with this filter. A decoded filter may have more than
    /// [`TOPIC_LEVELS_MAX`] levels, and one of an MQTT 3.1.1 client may begin with `$share/` and be no
    /// shared subscription's.
    pub fn is_served(&self) -> bool {
        let is_split = self.start > 0 || !self.text.as_bytes().starts_with(SHARE_PREFIX);
        is_split && level_count(self.filter_bytes()) <= TOPIC_LEVELS_MAX
    }

    /// The filter as it was subscribed, with `$share/group/` where it has that.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The filter as the string that it is on the wire.
    pub fn as_utf8_string(&self) -> &Utf8String {
        &self.text
    }

    /// The part that is matched against topic names: what follows `$share/group/`.
    pub fn filter(&self) -> &str {
        self.as_str().get(self.start..).unwrap_or_default()
    }

    /// The name of the group, when this is a shared subscription.
    pub fn share_name(&self) -> Option<&str> {
        self.as_str()
            .get(SHARE_PREFIX.len()..self.start.checked_sub(1)?)
    }

    /// Whether the filter has a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.filter_bytes()
            .iter()
            .any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether a message with this topic name is asked for.
    ///
    /// A filter that begins with a wildcard never matches a name that begins with `$` (4.7.2).
    pub fn matches(&self, name: &TopicName) -> bool {
        let filter = self.filter_bytes();
        if name.is_reserved() && matches!(filter.first(), Some(b'+' | b'#')) {
            return false;
        }
        let mut names = name.as_bytes().split(|byte| *byte == b'/');
        for level in filter.split(|byte| *byte == b'/') {
            match (level, names.next()) {
                // Also where no level is left: `a/#` matches `a` (4.7.1.2).
                (b"#", _) => return true,
                (b"+", Some(_)) => {}
                (level, Some(name)) if level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// A copy that shares nothing with the buffer that this filter was decoded from.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            text: self.text.detach(),
            start: self.start,
        }
    }

    fn filter_bytes(&self) -> &[u8] {
        self.text.as_bytes().get(self.start..).unwrap_or_default()
    }
}

/// Where the filter begins, after the share name where there is one.
fn filter_start(text: &[u8]) -> Result<usize, TopicFilterError> {
    let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
        return Ok(0);
    };
    let Some(len) = rest.iter().position(|byte| *byte == b'/') else {
        return Err(TopicFilterError::ShareWithoutFilter);
    };
    if len == 0 {
        return Err(TopicFilterError::ShareNameEmpty);
    }
    let name = rest.iter().take(len);
    if let Some(offset) = name.copied().position(|byte| matches!(byte, b'+' | b'#')) {
        return Err(TopicFilterError::ShareNameWildcard {
            position: SHARE_PREFIX.len() + offset,
        });
    }
    let start = SHARE_PREFIX.len() + len + 1;
    if start == text.len() {
        return Err(TopicFilterError::ShareWithoutFilter);
    }
    Ok(start)
}

/// A wildcard fills its level; `#` is the last one. Positions count from `offset`.
fn check_wildcards(filter: &[u8], offset: usize) -> Result<(), TopicFilterError> {
    let mut position = offset;
    let end = offset + filter.len();
    for level in filter.split(|byte| *byte == b'/') {
        if let Some(at) = level.iter().position(|byte| matches!(byte, b'+' | b'#')) {
            if level.len() > 1 {
                return Err(TopicFilterError::WildcardNotAlone {
                    position: position + at,
                });
            }
            if level == b"#" && position + 1 != end {
                return Err(TopicFilterError::MultiLevelNotLast { position });
            }
        }
        position += level.len() + 1;
    }
    Ok(())
}

impl FromStr for TopicFilter {
    type Err = TopicFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(Utf8String::try_from(text)?)
    }
}

// `start` follows from `text`, so the text alone decides equality, order and hash.
impl PartialEq for TopicFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicFilter {}

impl PartialOrd for TopicFilter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TopicFilter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for TopicFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Why a string is no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicFilterError {
    /// A topic filter has at least one character.
    #[error("topic filter is empty")]
    Empty,
    /// `#` stands before the last level.
    #[error("topic filter has '#' at byte {position}, it may only be the last level")]
    MultiLevelNotLast {
        /// Offset of the `#`.
        position: usize,
    },
    /// `$share//…`
    #[error("topic filter of a shared subscription has an empty share name")]
    ShareNameEmpty,
    /// A share name is not matched, so it has no wildcards.
    #[error("topic filter has a wildcard at byte {position}, inside the share name")]
    ShareNameWildcard {
        /// Offset of the wildcard.
        position: usize,
    },
    /// `$share/group` or `$share/group/`
    #[error("topic filter of a shared subscription has no filter after the share name")]
    ShareWithoutFilter,
    /// More levels than this implementation accepts.
    #[error("topic filter has {levels} levels, at most {TOPIC_LEVELS_MAX} are allowed")]
    TooManyLevels {
        /// Number of levels.
        levels: usize,
    },
    /// Not a string that MQTT can carry.
    #[error("topic filter {0}")]
    Utf8(Utf8StringError),
    /// `a+`, `+a` or `##`
    #[error("topic filter has a wildcard at byte {position} that does not fill its level")]
    WildcardNotAlone {
        /// Offset of the wildcard.
        position: usize,
    },
}

impl From<Utf8StringError> for TopicFilterError {
    fn from(error: Utf8StringError) -> Self {
        Self::Utf8(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    fn matches(filter_text: &str, name: &str) -> bool {
        filter(filter_text).matches(&name.parse().unwrap())
    }

    #[test]
    fn filters_are_refused_with_the_rule_and_the_place() {
        use TopicFilterError as E;
        for (text, error) in [
            ("", E::Empty),
            ("a/#/b", E::MultiLevelNotLast { position: 2 }),
            ("#/", E::MultiLevelNotLast { position: 0 }),
            ("a/b#", E::WildcardNotAlone { position: 3 }),
            ("a+/b", E::WildcardNotAlone { position: 1 }),
            ("##", E::WildcardNotAlone { position: 0 }),
            ("$share/", E::ShareWithoutFilter),
            ("$share/g", E::ShareWithoutFilter),
            ("$share/g/", E::ShareWithoutFilter),
            ("$share//a", E::ShareNameEmpty),
            ("$share/a+b/a", E::ShareNameWildcard { position: 8 }),
            ("$share/g/a/#/b", E::MultiLevelNotLast { position: 11 }),
        ] {
            assert_eq!(text.parse::<TopicFilter>(), Err(error), "{text}");
        }
        assert_eq!(
            "/".repeat(128).parse::<TopicFilter>(),
            Err(E::TooManyLevels { levels: 129 }),
        );
    }

    #[test]
    fn wildcards_match_whole_levels() {
        for (filter, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/b", "a/b/", false),
            ("+", "a", true),
            ("+", "a/b", false),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("+/+", "/a", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d/c", false),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
        ] {
            assert_eq!(matches(filter, name), expected, "{filter} against {name}");
        }
    }

    #[test]
    fn a_leading_wildcard_does_not_match_a_reserved_name() {
        assert!(!matches("#", "$SYS/x"));
        assert!(!matches("+/x", "$SYS/x"));
        assert!(!matches("$share/g/#", "$SYS/x"));
        assert!(matches("$SYS/#", "$SYS/x"));
        assert!(matches("$SYS/+", "$SYS/x"));
        assert!(matches("a/#", "a/$x"));
    }

    #[test]
    fn a_shared_filter_is_split_into_group_and_filter() {
        let shared = filter("$share/group/a/+");
        assert_eq!(shared.share_name(), Some("group"));
        assert_eq!(shared.filter(), "a/+");
        assert!(shared.matches(&"a/b".parse().unwrap()));

        for plain in ["$share", "$shared/g/a", "a/$share/g/a"] {
            assert_eq!(filter(plain).share_name(), None);
            assert_eq!(filter(plain).filter(), plain);
        }
        assert_eq!(filter("$share/g//").filter(), "/");
    }
}
