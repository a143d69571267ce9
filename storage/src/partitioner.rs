//! Which partition a key belongs to: the choice of Kafka's Java client, so that a log and a topic
//! with the same number of partitions agree on it.
//!
//! Not for records without a key; every record here has one.
//!
//! Reference: `BuiltInPartitioner.partitionForKey` of Apache Kafka, which is
//! `(murmur2(key) & 0x7fffffff) % partitions`.

use crate::ids::PartitionId;

/// The partition of `key` in a log of `partitions` partitions; partition 0 of a log without any.
pub fn partition_for_key(key: &[u8], partitions: u16) -> PartitionId {
    let hash = murmur2(key) & 0x7fff_ffff;
    let partition = hash.checked_rem(u32::from(partitions)).unwrap_or(0);
    PartitionId(u16::try_from(partition).unwrap_or(0))
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;

    // The length counts modulo 2^32, as Java's int does; keys are far shorter.
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own unit test of `Utils.murmur2`, which are facts of the algorithm.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(
                murmur2(key).cast_signed(),
                hash,
                "{}",
                String::from_utf8_lossy(key)
            );
        }
    }

    #[test]
    fn partition_stays_below_the_count() {
        for partitions in 1..300_u16 {
            for key in 0..50_u8 {
                assert!(partition_for_key(&[key, 1, 2], partitions).0 < partitions);
            }
        }
        assert_eq!(partition_for_key(b"x", 0), PartitionId(0));
    }
}
