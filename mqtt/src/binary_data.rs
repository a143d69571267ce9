//! The Binary Data field of MQTT (MQTT 5, 1.5.6): passwords, correlation and authentication data.
//!
//! Invariant: a [`BinaryData`] is at most 65,535 bytes long, so it can always be encoded.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::utf8_string::FIELD_BYTES_MAX;

/// Bytes with a 16-bit length prefix. Cloning shares them.
///
/// `Debug` prints the length only, because passwords are among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BinaryData(Bytes);

impl BinaryData {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy that shares nothing with the buffer that this data was decoded from.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl TryFrom<Bytes> for BinaryData {
    type Error = BinaryDataTooLong;

    fn try_from(data: Bytes) -> Result<Self, Self::Error> {
        if data.len() > FIELD_BYTES_MAX {
            return Err(BinaryDataTooLong { bytes: data.len() });
        }
        Ok(Self(data))
    }
}

impl fmt::Debug for BinaryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BinaryData({} bytes)", self.0.len())
    }
}

/// The bytes do not fit a Binary Data field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("binary data is {bytes} bytes long, at most {FIELD_BYTES_MAX} are allowed")]
pub struct BinaryDataTooLong {
    /// Length in bytes.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content_when_the_data_is_a_password() {
        let password = BinaryData::try_from(Bytes::from_static(b"hunter2")).unwrap();
        assert_eq!(format!("{password:?}"), "BinaryData(7 bytes)");
    }

    #[test]
    fn data_longer_than_its_prefix_is_refused() {
        let bytes = Bytes::from(vec![0; 65_536]);
        assert_eq!(
            BinaryData::try_from(bytes),
            Err(BinaryDataTooLong { bytes: 65_536 })
        );
    }
}
