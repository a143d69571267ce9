//! What became of looking for a key: absent, refused or found are three different things to the
//! rules that follow.

use crate::schema::Describe;
use crate::section::Section;

/// What became of looking for a value.
pub(crate) enum Found<T> {
    /// The key is not there.
    Absent,
    /// It is there and wrong, or absent because of a mistake; either was reported.
    Refused,
    /// It is there and right.
    Value(T),
}

impl<T> Found<T> {
    /// Goes on with the value, if there is one.
    pub(crate) fn and_then<U>(self, read: impl FnOnce(T) -> Found<U>) -> Found<U> {
        match self {
            Self::Absent => Found::Absent,
            Self::Refused => Found::Refused,
            Self::Value(value) => read(value),
        }
    }

    /// The value, or `default` when the key is not there.
    pub(crate) fn or(self, default: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Absent => Some(default()),
            Self::Refused => None,
            Self::Value(value) => Some(value),
        }
    }

    /// The value, or nothing when the key is not there.
    pub(crate) fn optional(self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Refused => None,
            Self::Value(value) => Some(Some(value)),
        }
    }

    /// The value; that the key is not there is reported.
    pub(crate) fn required(self, section: &Section<'_>, key: &dyn Describe) -> Option<T> {
        match self {
            Self::Absent => {
                section.missing(key);
                None
            }
            Self::Refused => None,
            Self::Value(value) => Some(value),
        }
    }
}
