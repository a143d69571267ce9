//! The layouts of messages, and a walk over received bytes that proves them right before they are
//! decoded.
//!
//! Why: the codecs of `kafka-protocol` reserve memory for as many array elements as the peer says
//! there are, before the first one is read. A damaged or hostile length would end the process. The
//! walk reads every length, finds every element really there, and counts them, so that decoding
//! afterwards allocates no more than a small multiple of the frame.
//!
//! Invariants:
//! - Bytes that pass have exactly the layout, from the first to the last.
//! - The walk allocates nothing and takes time proportional to the bytes.
//!
//! References: <https://kafka.apache.org/protocol#protocol_types>, [KIP-482] (flexible versions:
//! compact lengths and tagged fields).
//!
//! [KIP-482]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-482%3A+The+Kafka+Protocol+should+Support+Optional+Tagged+Fields

/// More structures than any answer to this client's requests has; bounds the memory for decoding.
const STRUCTS_MAX: usize = 65_536;

/// A field of a message.
pub(crate) enum Field {
    /// A number, a boolean or an id: so many bytes.
    Fixed(usize),
    /// A string, null allowed.
    Text,
    /// Bytes, null allowed.
    Blob,
    /// An array of numbers of so many bytes each, null allowed.
    Numbers(usize),
    /// An array of structures, null allowed.
    Array(&'static [Self]),
    /// A structure by itself, as tagged fields hold it.
    Struct(&'static [Self]),
    /// A field that exists from this version on.
    Since(i16, &'static Self),
    /// A field that exists up to this version.
    Until(i16, &'static Self),
    /// The tagged fields of the structure that this field is in, by tag. Tags that are not listed
    /// are skipped.
    Tags(&'static [(u32, &'static [Self])]),
}

pub(crate) const I8: Field = Field::Fixed(1);
pub(crate) const BOOL: Field = Field::Fixed(1);
pub(crate) const I16: Field = Field::Fixed(2);
pub(crate) const I32: Field = Field::Fixed(4);
pub(crate) const I64: Field = Field::Fixed(8);
pub(crate) const UUID: Field = Field::Fixed(16);

/// A message, without its header.
pub(crate) struct Layout {
    /// First version with compact lengths and tagged fields.
    pub(crate) flexible_from: i16,
    pub(crate) fields: &'static [Field],
}

/// Where and why received bytes do not have the expected layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LayoutError {
    /// A length is negative or beyond the end.
    #[error("length {length} at byte {at_byte} with {left_bytes} bytes left")]
    Length {
        /// The length found.
        length: i64,
        /// Where it is.
        at_byte: usize,
        /// What follows it.
        left_bytes: usize,
    },
    /// More structures than any expected message has.
    #[error("more than 65536 structures up to byte {at_byte}")]
    TooMany {
        /// Where the limit was passed.
        at_byte: usize,
    },
    /// Bytes follow the message.
    #[error("{trailing_bytes} bytes follow the end at byte {at_byte}")]
    Trailing {
        /// How many.
        trailing_bytes: usize,
        /// Where the message ended.
        at_byte: usize,
    },
    /// The bytes end inside the message.
    #[error("the message ends inside a field at byte {at_byte}")]
    Truncated {
        /// Where the field begins.
        at_byte: usize,
    },
    /// A variable-length number has more than 32 bits.
    #[error("variable-length number at byte {at_byte} is too long")]
    Varint {
        /// Where it is.
        at_byte: usize,
    },
}

impl Layout {
    /// Walks `bytes`, which must be exactly one message of `version`.
    pub(crate) fn check(&self, bytes: &[u8], version: i16) -> Result<(), LayoutError> {
        let mut walk = Walk {
            bytes,
            at: 0,
            version,
            flexible: version >= self.flexible_from,
            structs_left: STRUCTS_MAX,
        };
        walk.structure(self.fields)?;
        match walk.left() {
            0 => Ok(()),
            trailing_bytes => Err(LayoutError::Trailing {
                trailing_bytes,
                at_byte: walk.at,
            }),
        }
    }
}

/// Length of the tagged fields at the start of `bytes`, as the flexible headers of requests and
/// responses end with them.
pub(crate) fn header_tags_bytes(bytes: &[u8]) -> Result<usize, LayoutError> {
    let mut walk = Walk {
        bytes,
        at: 0,
        version: 0,
        flexible: true,
        structs_left: STRUCTS_MAX,
    };
    walk.tags(&[])?;
    Ok(walk.at)
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Never beyond the end of `bytes`.
    at: usize,
    version: i16,
    flexible: bool,
    structs_left: usize,
}

impl Walk<'_> {
    const fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], LayoutError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = *rest
            .first_chunk()
            .ok_or(LayoutError::Truncated { at_byte: self.at })?;
        self.at += N;
        Ok(taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), LayoutError> {
        if bytes > self.left() {
            return Err(LayoutError::Truncated { at_byte: self.at });
        }
        self.at += bytes;
        Ok(())
    }

    /// An unsigned variable-length number of at most 32 bits.
    fn varint(&mut self) -> Result<u32, LayoutError> {
        let at_byte = self.at;
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| LayoutError::Varint { at_byte });
            }
        }
        Err(LayoutError::Varint { at_byte })
    }

    /// A length in front of a field; `None` stands for null. `wide` lengths have 32 bits in the
    /// versions that are not flexible, the others 16.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, LayoutError> {
        let at_byte = self.at;
        let length = if self.flexible {
            i64::from(self.varint()?) - 1
        } else if wide {
            i64::from(i32::from_be_bytes(self.take()?))
        } else {
            i64::from(i16::from_be_bytes(self.take()?))
        };
        let left_bytes = self.left();
        match usize::try_from(length) {
            // Every element takes a byte at least, so this holds for arrays as well.
            Ok(length) if length <= left_bytes => Ok(Some(length)),
            _ if length == -1 => Ok(None),
            _ => Err(LayoutError::Length {
                length,
                at_byte,
                left_bytes,
            }),
        }
    }

    fn structure(&mut self, fields: &[Field]) -> Result<(), LayoutError> {
        let mut known: &[(u32, &[Field])] = &[];
        for field in fields {
            match field {
                Field::Tags(tags) => known = tags,
                field => self.field(field)?,
            }
        }
        if self.flexible {
            self.tags(known)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), LayoutError> {
        match field {
            Field::Fixed(bytes) => self.skip(*bytes),
            Field::Text => {
                let length = self.length(false)?;
                self.skip(length.unwrap_or(0))
            }
            Field::Blob => {
                let length = self.length(true)?;
                self.skip(length.unwrap_or(0))
            }
            Field::Numbers(bytes) => {
                let count = self.length(true)?;
                self.skip(count.unwrap_or(0).saturating_mul(*bytes))
            }
            Field::Array(fields) => {
                for _ in 0..self.length(true)?.unwrap_or(0) {
                    self.count_struct()?;
                    self.structure(fields)?;
                }
                Ok(())
            }
            Field::Struct(fields) => self.structure(fields),
            Field::Since(version, field) if self.version >= *version => self.field(field),
            Field::Until(version, field) if self.version <= *version => self.field(field),
            // Of another version; tags are handled by the structure.
            Field::Since(..) | Field::Until(..) | Field::Tags(_) => Ok(()),
        }
    }

    fn tags(&mut self, known: &[(u32, &[Field])]) -> Result<(), LayoutError> {
        for _ in 0..self.varint()? {
            self.count_struct()?;
            let tag = self.varint()?;
            let at_byte = self.at;
            let length = self.varint()?;
            let left_bytes = self.left();
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            if bytes > left_bytes {
                return Err(LayoutError::Length {
                    length: length.into(),
                    at_byte,
                    left_bytes,
                });
            }
            let end = self.at + bytes;
            match known.iter().find(|(known, _)| *known == tag) {
                Some((_, fields)) => {
                    for field in *fields {
                        self.field(field)?;
                    }
                    if self.at != end {
                        return Err(LayoutError::Length {
                            length: length.into(),
                            at_byte,
                            left_bytes,
                        });
                    }
                }
                None => self.at = end,
            }
        }
        Ok(())
    }

    fn count_struct(&mut self) -> Result<(), LayoutError> {
        self.structs_left = self
            .structs_left
            .checked_sub(1)
            .ok_or(LayoutError::TooMany { at_byte: self.at })?;
        Ok(())
    }
}
