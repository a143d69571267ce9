//! The records that every contestant writes: who publishes, to which topic, and what.
//!
//! Deterministic: record number and publisher decide every byte, so that another process can write
//! the same.

use bytes::Bytes;
use storage::Message;

/// Payloads are cut out of this many random bytes: no engine finds anything to compress.
const POOL_BYTES: usize = 4 << 20;

/// A device that publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) client_id: Bytes,
    pub(crate) topic: Bytes,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) publishers: Vec<Publisher>,
    size: usize,
    pool: Bytes,
}

impl Records {
    /// Of `publishers` devices, `size` bytes of payload each.
    pub(crate) fn new(publishers: u16, size: u32) -> Self {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pool = Vec::with_capacity(POOL_BYTES + 8);
        while pool.len() < POOL_BYTES {
            // xorshift64*
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            let word = random.wrapping_mul(0x2545_f491_4f6c_dd1d);
            pool.extend_from_slice(&word.to_le_bytes());
        }
        let publisher = |number| Publisher {
            client_id: format!("device-{number:04}").into(),
            topic: format!("plant/7/device-{number:04}/values").into(),
        };
        Self {
            publishers: (0..publishers).map(publisher).collect(),
            size: usize::try_from(size).unwrap_or(usize::MAX).min(POOL_BYTES),
            pool: pool.into(),
        }
    }

    /// The payload of a record.
    pub(crate) fn payload(&self, record: u64) -> Bytes {
        let room = (self.pool.len() - self.size) as u64 + 1;
        let at = usize::try_from(record.wrapping_mul(7919) % room).unwrap_or_default();
        self.pool.slice(at..at + self.size)
    }

    /// The record as what the store takes; its key is the client id.
    pub(crate) fn message(&self, record: u64, publisher: u16) -> Option<Message> {
        let from = self.publishers.get(usize::from(publisher))?;
        Some(Message {
            topic: from.topic.clone(),
            client_id: from.client_id.clone(),
            payload: self.payload(record),
            qos: 1,
            ..Message::default()
        })
    }

    /// The same record for engines that have no messages: lengths, time, key, topic, payload.
    pub(crate) fn encode(&self, record: u64, publisher: u16, partition: u16, into: &mut Vec<u8>) {
        let Some(from) = self.publishers.get(usize::from(publisher)) else {
            return;
        };
        into.extend_from_slice(&partition.to_be_bytes());
        into.extend_from_slice(&record.to_be_bytes());
        for part in [&from.client_id, &from.topic, &self.payload(record)] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            into.extend_from_slice(&length.to_be_bytes());
            into.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_in_every_process() {
        let (one, other) = (Records::new(3, 100), Records::new(3, 100));
        for record in [0, 1, 12_345_678] {
            assert_eq!(one.message(record, 2), other.message(record, 2));
        }
        let mut encoded = Vec::new();
        one.encode(5, 2, 7, &mut encoded);
        assert_eq!(encoded.len(), 2 + 8 + 12 + 11 + 26 + 100);
        assert_ne!(one.payload(0), one.payload(1));
    }
}
