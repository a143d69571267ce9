//! Payloads that nothing can compress, the same ones for everybody, cut from one piece of noise.

use bytes::Bytes;

/// How many payloads differ.
const DIFFERENT: u64 = 4096;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Payloads {
    noise: Bytes,
    size: usize,
}

impl Payloads {
    /// Of `size` bytes each.
    pub(super) fn new(size: u32) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // Marsaglia's xorshift64.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = size / 8 + usize::try_from(DIFFERENT).unwrap_or(usize::MAX) / 8 + 1;
        let noise = (0..words).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self {
            noise: noise.collect(),
            size,
        }
    }

    /// The payload of the message with this number, without copying.
    pub(super) fn of(&self, number: u64) -> Bytes {
        let from = usize::try_from(number % DIFFERENT).unwrap_or_default();
        self.noise.slice(from..from + self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_differ() {
        for size in [1, 8, 200, 131_072] {
            let payloads = Payloads::new(size);
            for number in [0, 1, DIFFERENT - 1, DIFFERENT, u64::MAX] {
                assert_eq!(payloads.of(number).len(), size as usize);
            }
        }
        let payloads = Payloads::new(200);
        assert_ne!(payloads.of(1), payloads.of(2));
        assert_eq!(payloads.of(1), Payloads::new(200).of(DIFFERENT + 1));
    }
}
