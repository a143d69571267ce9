//! One message of sled's log.
//!
//! ```text
//! message   checksum u32 (little endian) | kind u8 | length | segment number | page | body
//!           checksum: CRC-32 over body, then the header behind the checksum; all bits inverted
//! number    1 to 9 bytes, the first says how many; see `Bytes::number`
//! link      0 | key | value            what else a link can be has no value
//! node      next | merging child | merging u8 | prefix length u8 | low key | high key
//!           | 0 | count | keys without the prefix | values
//! key, value, …   length | bytes
//! ```
//!
//! Invariant: whatever the bytes, nothing panics, and nothing is allocated beyond their size.

use crate::commit::PieceKey;

/// No header is longer, and no message begins where less is left of its segment.
pub(super) const HEADER_BYTES_MAX: usize = 32;

/// Before the kind.
pub(super) const CHECKSUM_BYTES: usize = 4;
const KIND_CAP: u8 = 2;
const KIND_NODE: u8 = 8;
const KIND_LINK: u8 = 10;
const KIND_LAST: u8 = 11;

/// A message whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawMessage<'a> {
    kind: u8,
    header_bytes: usize,
    body: &'a [u8],
}

/// What a message says of itself; nothing of it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    kind: u8,
    pub(super) segment_number: u64,
    body_bytes: usize,
    header_bytes: usize,
}

impl Header {
    /// Reads a header that leaves room for its body in `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Bytes { bytes, at: 0 };
        rest.take(CHECKSUM_BYTES)?;
        let kind = rest.byte()?;
        if kind == 0 || kind > KIND_LAST {
            return None;
        }
        let body_bytes = usize::try_from(rest.number()?).ok()?;
        let segment_number = rest.number()?;
        rest.number()?;
        let header_bytes = rest.at;
        (body_bytes <= bytes.len() - header_bytes).then_some(Self {
            kind,
            segment_number,
            body_bytes,
            header_bytes,
        })
    }

    /// Bytes of header and body.
    pub(super) fn bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// Whether it says that nothing follows in its segment.
    pub(super) fn is_cap(&self) -> bool {
        self.kind == KIND_CAP
    }
}

impl<'a> RawMessage<'a> {
    /// The message that `bytes` begin with, `header` being what was read of it, if its checksum is
    /// right.
    pub(super) fn read(bytes: &'a [u8], header: &Header) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(header.header_bytes)?;
        let (stored, head) = head.split_first_chunk::<CHECKSUM_BYTES>()?;
        let body = rest.get(..header.body_bytes)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(head);
        (!hasher.finalize() == u32::from_le_bytes(*stored)).then_some(Self {
            kind: header.kind,
            header_bytes: header.header_bytes,
            body,
        })
    }

    /// Hands each value under a key as our pieces have it to `visit`, with the place at which it
    /// begins, counted from the beginning of the message. What cannot be read is passed over.
    pub(crate) fn pieces(&self, mut visit: impl FnMut(PieceKey, usize, &'a [u8])) {
        self.values(|key, at, value| {
            if let Some(key) = PieceKey::from_bytes(key) {
                visit(key, at, value);
            }
        });
    }

    /// Whether it takes an entry away, or merges pages because others did; a segment has no such thing.
    pub(super) fn takes_away(&self) -> bool {
        self.kind == KIND_LINK && self.body.first() != Some(&0)
    }

    /// As [`Self::pieces`], of every key, whichever tree it is of.
    pub(super) fn values(&self, mut visit: impl FnMut(&[u8], usize, &'a [u8])) {
        let mut body = Bytes {
            bytes: self.body,
            at: 0,
        };
        let mut visit = |key: &[u8], (at, value): (usize, &'a [u8])| {
            visit(key, self.header_bytes + at, value);
        };
        let _ = match self.kind {
            KIND_LINK => values_of_link(&mut body, &mut visit),
            KIND_NODE => values_of_node(&mut body, &mut visit),
            _ => None,
        };
    }
}

fn values_of_link<'a>(
    body: &mut Bytes<'a>,
    visit: &mut impl FnMut(&[u8], (usize, &'a [u8])),
) -> Option<()> {
    if body.byte()? == 0 {
        let (_, key) = body.counted()?;
        visit(key, body.counted()?);
    }
    Some(())
}

fn values_of_node<'a>(
    body: &mut Bytes<'a>,
    visit: &mut impl FnMut(&[u8], (usize, &'a [u8])),
) -> Option<()> {
    body.number()?;
    body.number()?;
    body.byte()?;
    let prefix_bytes = usize::from(body.byte()?);
    let (_, low) = body.counted()?;
    let prefix = low.get(..prefix_bytes)?;
    body.counted()?;
    if body.byte()? != 0 {
        return None; // It leads to others.
    }
    let count = body.number()?;
    let mut keys = Vec::new();
    for _ in 0..count {
        // Each takes a byte of the body at least, so that their number is limited.
        keys.push(body.counted()?.1);
    }
    for key in keys {
        visit(&[prefix, key].concat(), body.counted()?);
    }
    Some(())
}

/// Bytes that are read from their beginning on.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        Some(match first {
            0..=240 => u64::from(first),
            241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(self.byte()?),
            249 => 2288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?),
            250..=255 => {
                let digits = self.take(usize::from(first) - 247)?;
                let digit = |number, digit: &u8| (number << 8) | u64::from(*digit);
                digits.iter().rev().fold(0, digit)
            }
        })
    }

    /// Bytes behind their number, and where they begin.
    fn counted(&mut self) -> Option<(usize, &'a [u8])> {
        let count = usize::try_from(self.number()?).ok()?;
        let at = self.at;
        Some((at, self.take(count)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(bytes: &[u8]) -> Option<u64> {
        Bytes { bytes, at: 0 }.number()
    }

    #[test]
    fn numbers_of_all_lengths_are_read() {
        assert_eq!(number(&[240]), Some(240));
        assert_eq!(number(&[241, 1]), Some(241));
        assert_eq!(number(&[248, 255]), Some(2287));
        assert_eq!(number(&[249, 1, 2]), Some(2288 + 256 + 2));
        assert_eq!(number(&[250, 1, 2, 3]), Some(0x03_02_01));
        let eight = [255, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(number(&eight), Some(0x0807_0605_0403_0201));
        assert_eq!(number(&eight[..8]), None);
        assert_eq!(number(&[]), None);
    }

    #[test]
    fn keys_of_a_node_get_its_prefix() {
        let mut body = vec![0, 0, 0, 8, 8];
        body.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        body.extend([0, 0, 2]); // No high key; a leaf of two.
        body.extend([2, 0, 0, 2, 0, 1]);
        body.extend([1, 0xaa, 2, 0xbb, 0xbc]);
        let node = RawMessage {
            kind: KIND_NODE,
            header_bytes: 100,
            body: &body,
        };
        let mut found = Vec::new();
        node.pieces(|key, at, value| found.push((key.commit.0, key.piece, at, value.to_vec())));
        let expected = [(7, 0, 123, vec![0xaa]), (7, 1, 125, vec![0xbb, 0xbc])];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_body_never_panics(kind in 0..12_u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse(&body).map(|header| RawMessage::read(&body, &header).is_some());
            let message = RawMessage { kind, header_bytes: 9, body: &body };
            message.pieces(|_, at, value| assert!(at >= 9 && at - 9 + value.len() <= body.len()));
        }
    }
}
