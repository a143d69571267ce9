//! The UTF-8 Encoded String of MQTT (MQTT 5, 1.5.4; MQTT 3.1.1, 1.5.3).
//!
//! Invariant: a [`Utf8String`] is well-formed UTF-8 without U+0000 and at most 65,535 bytes long,
//! so it can always be encoded.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use thiserror::Error;

/// Longest string and longest binary field in bytes: their length prefix has 16 bits.
pub const FIELD_BYTES_MAX: usize = 65_535;

/// A string that MQTT can carry. Cloning shares the bytes.
///
/// A decoded string is a slice of the buffer that it came in, and keeps that buffer alive. What
/// outlives the handling of its packet should be [`detach`](Self::detach)ed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utf8String(Bytes);

impl Utf8String {
    /// The text.
    pub fn as_str(&self) -> &str {
        #[expect(
            clippy::expect_used,
            reason = "every constructor checks that it is UTF-8"
        )]
        str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// The text as bytes, without the check that [`as_str`](Self::as_str) repeats.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy that shares nothing with the buffer that this string was decoded from.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    fn check(bytes: &[u8]) -> Result<(), Utf8StringError> {
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(Utf8StringError::TooLong { bytes: bytes.len() });
        }
        if let Err(error) = str::from_utf8(bytes) {
            return Err(Utf8StringError::IllFormed {
                position: error.valid_up_to(),
            });
        }
        match bytes.iter().position(|byte| *byte == 0) {
            Some(position) => Err(Utf8StringError::Nul { position }),
            None => Ok(()),
        }
    }
}

impl TryFrom<Bytes> for Utf8String {
    type Error = Utf8StringError;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<&str> for Utf8String {
    type Error = Utf8StringError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::check(text.as_bytes())?;
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }
}

impl TryFrom<String> for Utf8String {
    type Error = Utf8StringError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::try_from(Bytes::from(text))
    }
}

impl Deref for Utf8String {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8String {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Utf8String {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Utf8String {
    // As `str` does it, because `Borrow<str>` promises the same hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Utf8String {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Utf8String {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Debug for Utf8String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Why bytes are no UTF-8 Encoded String.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Utf8StringError {
    /// Not UTF-8; encoded surrogates and overlong forms count as such.
    #[error("is not well-formed UTF-8 at byte {position}")]
    IllFormed {
        /// Offset of the first byte that belongs to no character.
        position: usize,
    },
    /// Contains the null character.
    #[error("contains U+0000 at byte {position}")]
    Nul {
        /// Offset of the null character.
        position: usize,
    },
    /// Longer than the 16-bit length prefix can say.
    #[error("is {bytes} bytes long, at most {FIELD_BYTES_MAX} are allowed")]
    TooLong {
        /// Length in bytes.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ill_formed_bytes_are_refused_with_their_position() {
        for (bytes, position) in [
            (&b"ab\xff"[..], 2),
            (b"\xed\xa0\x80", 0),     // U+D800, a surrogate
            (b"x\xc0\xaf", 1),        // an overlong slash
            (b"\xf4\x90\x80\x80", 0), // beyond U+10FFFF
            (b"abc\xe2\x82", 3),      // cut off
        ] {
            assert_eq!(
                Utf8String::try_from(Bytes::from_static(bytes)),
                Err(Utf8StringError::IllFormed { position }),
            );
        }
    }

    #[test]
    fn the_null_character_is_refused_and_a_byte_order_mark_kept() {
        assert_eq!(
            Utf8String::try_from("a\0b"),
            Err(Utf8StringError::Nul { position: 1 })
        );
        assert_eq!(
            Utf8String::try_from("\u{feff}a").unwrap().as_str(),
            "\u{feff}a"
        );
    }

    #[test]
    fn length_is_limited_by_the_length_prefix() {
        assert!(Utf8String::try_from("x".repeat(65_535)).is_ok());
        assert_eq!(
            Utf8String::try_from("x".repeat(65_536)),
            Err(Utf8StringError::TooLong { bytes: 65_536 }),
        );
    }

    #[test]
    fn a_set_of_strings_is_searched_by_str() {
        let set = HashSet::from([Utf8String::try_from("größe").unwrap()]);
        assert!(set.contains("größe"));
    }
}
