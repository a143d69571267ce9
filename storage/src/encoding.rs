//! How values of our own are stored: a version byte, then postcard.
//!
//! Not for: record batches and commits, which have formats of their own.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EncodingError {
    /// Written by a later version of Tidegate, or no value of this kind.
    #[error("version {found} where this version reads {known}")]
    Version {
        /// The version byte; 0 for an empty value.
        found: u8,
        /// The version that is understood.
        known: u8,
    },
    /// The bytes are not what the version byte promises.
    #[error("damaged content")]
    Content(#[source] postcard::Error),
}

/// A stored type: its version byte is part of the format.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    /// Version byte in front of the value.
    const VERSION: u8;

    /// The value as it is stored.
    #[expect(
        clippy::expect_used,
        reason = "a growing vector takes all, and our types have no serializer that fails"
    )]
    fn to_stored(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION]).expect("encoding into memory does not fail")
    }

    /// Reads a stored value.
    fn from_stored(bytes: &[u8]) -> Result<Self, EncodingError> {
        match bytes.split_first() {
            Some((version, content)) if *version == Self::VERSION => {
                postcard::from_bytes(content).map_err(EncodingError::Content)
            }
            other => Err(EncodingError::Version {
                found: other.map_or(0, |(version, _)| *version),
                known: Self::VERSION,
            }),
        }
    }
}
