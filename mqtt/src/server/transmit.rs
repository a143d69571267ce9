//! What is to be written to the peer: small packets copied together, large payloads shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// A payload from this size in bytes on is handed out as it is; a smaller one is copied behind its
/// header, so that many small packets make one chunk.
const SHARED_PAYLOAD_BYTES_MIN: usize = 2_048;

/// A buffer for small packets above this size is given back when it is empty, so that a burst
/// does not leave an idle connection with a large one.
const IDLE_BYTES_MAX: usize = 4_096;

/// Bytes for the peer, in order. As a [`Buf`] it can be written with one vectored write after the
/// other; what was written is taken off with [`Buf::advance`].
#[derive(Debug, Default)]
pub struct TransmitBuffer {
    chunks: VecDeque<Bytes>,
    /// The last chunk, still being written to.
    tail: BytesMut,
    /// Bytes in `chunks`.
    chunks_bytes: usize,
}

impl TransmitBuffer {
    /// Where packets are appended.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends the payload whose header was written to the tail.
    pub(super) fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() < SHARED_PAYLOAD_BYTES_MIN {
            self.tail.extend_from_slice(payload);
        } else {
            self.seal_tail();
            self.chunks_bytes += payload.len();
            self.chunks.push_back(payload.clone());
        }
    }

    /// Takes the next chunk.
    pub(super) fn pop_chunk(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal_tail();
        }
        let chunk = self.chunks.pop_front()?;
        self.chunks_bytes -= chunk.len();
        self.give_back_when_idle();
        Some(chunk)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let sealed = self.tail.split().freeze();
            self.chunks_bytes += sealed.len();
            self.chunks.push_back(sealed);
        }
    }

    fn give_back_when_idle(&mut self) {
        if !self.has_remaining() && self.tail.capacity() > IDLE_BYTES_MAX {
            self.clear();
        }
    }
}

impl Buf for TransmitBuffer {
    fn remaining(&self) -> usize {
        self.chunks_bytes + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail, |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]).chain(tail);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// Takes bytes off the front; more than there are takes all.
    fn advance(&mut self, mut count: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            let taken = count.min(chunk.len());
            chunk.advance(taken);
            self.chunks_bytes -= taken;
            count -= taken;
            if chunk.has_remaining() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
        self.give_back_when_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(buffer: &mut TransmitBuffer) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = buffer.pop_chunk() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    #[test]
    fn small_payloads_join_the_tail_and_large_ones_are_shared() {
        let mut buffer = TransmitBuffer::default();
        let large = Bytes::from(vec![7; SHARED_PAYLOAD_BYTES_MIN]);
        buffer.tail().extend_from_slice(b"ab");
        buffer.push_payload(&Bytes::from_static(b"cd"));
        buffer.push_payload(&large);
        buffer.tail().extend_from_slice(b"ef");

        assert_eq!(buffer.remaining(), 4 + SHARED_PAYLOAD_BYTES_MIN + 2);
        assert_eq!(buffer.pop_chunk().unwrap(), "abcd");
        assert_eq!(
            buffer.pop_chunk().unwrap().as_ptr(),
            large.as_ptr(),
            "shared, not copied"
        );
        assert_eq!(buffer.pop_chunk().unwrap(), "ef");
        assert_eq!(buffer.pop_chunk(), None);
        assert_eq!(buffer.remaining(), 0);
    }

    #[test]
    fn advancing_by_any_step_yields_the_same_bytes() {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(3_000).collect();
        let expected = [b"header", &payload[..], b"tail"].concat();
        for step in [1, 2, 3, 5, 1_000, 5_000] {
            let mut buffer = TransmitBuffer::default();
            buffer.tail().extend_from_slice(b"header");
            buffer.push_payload(&Bytes::from(payload.clone()));
            buffer.tail().extend_from_slice(b"tail");

            let mut written = Vec::new();
            while buffer.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = buffer.chunks_vectored(&mut slices);
                let bytes = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.iter().copied());
                let before = written.len();
                written.extend(bytes.take(step));
                buffer.advance(written.len() - before);
            }
            assert_eq!(written, expected, "step {step}");
        }
    }

    #[test]
    fn a_large_tail_is_given_back_when_it_was_written() {
        let mut buffer = TransmitBuffer::default();
        buffer.tail().extend_from_slice(&[0; IDLE_BYTES_MAX + 1]);
        buffer.advance(IDLE_BYTES_MAX);
        assert!(buffer.tail().capacity() > 0);
        buffer.advance(1);
        assert_eq!(buffer.tail().capacity(), 0);
        assert!(drain(&mut buffer).is_empty());
    }
}
