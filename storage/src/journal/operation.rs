//! Stored form of the journal: a version byte and postcard-encoded operations.

use serde::{Deserialize, Serialize};

use crate::ids::{LogPartition, Offset, SegmentId, SpanId};
use crate::journal::JournalKey;

/// Version byte in front of every commit's operations.
const VERSION: u8 = 1;

/// One change. The order of the variants is stored: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// The whole state before the commit that carries it. First operation of each segment.
    Snapshot(Snapshot),
    /// Sets an entry.
    Put {
        /// Which.
        key: JournalKey,
        /// To what.
        value: Vec<u8>,
    },
    /// Removes an entry.
    Delete {
        /// Which.
        key: JournalKey,
    },
    /// Retention moved the start of a partition.
    LogStart {
        /// Which.
        partition: LogPartition,
        /// First offset that is kept.
        offset: Offset,
    },
    /// Every partition leaps: from this commit on, offsets start at those given.
    Leap {
        /// Next offset of each partition.
        partitions: Vec<PartitionState>,
        /// The span that begins.
        span: SpanId,
    },
}

/// The state of everything before a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The segment that begins with it.
    pub(crate) segment: SegmentId,
    /// The span of the offsets below.
    pub(crate) span: SpanId,
    /// Every partition that ever had a record.
    pub(crate) partitions: Vec<PartitionState>,
    /// All entries.
    pub(crate) entries: Vec<(JournalKey, Vec<u8>)>,
}

/// Ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionState {
    /// Which.
    pub(crate) partition: LogPartition,
    /// First offset that is kept.
    pub(crate) log_start: Offset,
    /// Offset of the next record.
    pub(crate) next_offset: Offset,
}

/// Journal operations that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Nothing there.
    #[error("the journal entry is empty")]
    Empty,
    /// Written by a later version.
    #[error("the journal has version {found}; this version reads up to {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Not the encoding of operations.
    #[error("the journal operations are damaged")]
    Encoding(#[source] postcard::Error),
}

impl JournalError {
    /// Whether a later version of Tidegate can read it.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Version { found } if *found > VERSION)
    }
}

/// Operations as they are stored.
pub(crate) fn encode(operations: &[Operation], out: &mut Vec<u8>) -> Result<(), JournalError> {
    out.push(VERSION);
    let encoded = postcard::to_extend(operations, std::mem::take(out));
    *out = encoded.map_err(JournalError::Encoding)?;
    Ok(())
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Operation>, JournalError> {
    let (version, operations) = bytes.split_first().ok_or(JournalError::Empty)?;
    if *version != VERSION {
        return Err(JournalError::Version { found: *version });
    }
    postcard::from_bytes(operations).map_err(JournalError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogId, PartitionId};
    use crate::journal::JournalKind;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = JournalKey> {
        proptest::collection::vec(any::<u8>(), 0..6)
            .prop_map(|rest| JournalKey::new(JournalKind::Gap, &rest))
    }

    fn partition_states() -> impl Strategy<Value = PartitionState> {
        (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>()).prop_map(
            |(log, partition, a, b)| PartitionState {
                partition: LogPartition {
                    log: LogId(log),
                    partition: PartitionId(partition),
                },
                log_start: Offset(a),
                next_offset: Offset(b),
            },
        )
    }

    fn operations() -> impl Strategy<Value = Operation> {
        let value = || proptest::collection::vec(any::<u8>(), 0..9);
        let partitions = || proptest::collection::vec(partition_states(), 0..3);
        prop_oneof![
            (keys(), value()).prop_map(|(key, value)| Operation::Put { key, value }),
            keys().prop_map(|key| Operation::Delete { key }),
            partition_states().prop_map(|p| Operation::LogStart {
                partition: p.partition,
                offset: p.log_start
            }),
            (partitions(), any::<u32>()).prop_map(|(partitions, span)| Operation::Leap {
                partitions,
                span: SpanId(span)
            }),
            (
                partitions(),
                proptest::collection::vec((keys(), value()), 0..3),
                any::<u64>()
            )
                .prop_map(|(partitions, entries, segment)| Operation::Snapshot(
                    Snapshot {
                        segment: SegmentId(segment),
                        span: SpanId(3),
                        partitions,
                        entries,
                    }
                )),
        ]
    }

    proptest! {
        #[test]
        fn operations_come_back(operations in proptest::collection::vec(operations(), 0..6)) {
            let mut out = b"before".to_vec();
            encode(&operations, &mut out).unwrap();
            prop_assert_eq!(decode(&out[6..]).unwrap(), operations);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn later_version_is_named() {
        assert_eq!(
            decode(&[9, 0]).unwrap_err().to_string(),
            "the journal has version 9; this version reads up to 1"
        );
    }

    /// Likewise those of the kinds.
    #[test]
    fn stored_numbers_of_kinds_do_not_change() {
        let kinds = [
            (JournalKind::Identity, 1),
            (JournalKind::Era, 2),
            (JournalKind::Span, 3),
            (JournalKind::Log, 4),
            (JournalKind::Gap, 5),
            (JournalKind::BridgeStream, 6),
            (JournalKind::BridgeRoute, 7),
            (JournalKind::Session, 8),
            (JournalKind::Received, 9),
            (JournalKind::Flash, 10),
            (JournalKind::Delivery, 11),
            (JournalKind::Checkpoint, 12),
            (JournalKind::ColdHome, 13),
            (JournalKind::Group, 14),
            (JournalKind::Will, 15),
        ];
        for (kind, number) in kinds {
            assert_eq!(kind as u8, number, "{kind:?}");
        }
    }

    /// The numbers stand in the files of every gateway.
    #[test]
    fn stored_numbers_of_operations_do_not_change() {
        let key = JournalKey::new(JournalKind::Era, &[7]);
        let encoded = |operation: Operation| {
            let mut out = Vec::new();
            encode(&[operation], &mut out).unwrap();
            out
        };
        assert_eq!(
            encoded(Operation::Put {
                key: key.clone(),
                value: vec![5]
            }),
            [1, 1, 1, 2, 2, 7, 1, 5]
        );
        assert_eq!(encoded(Operation::Delete { key }), [1, 1, 2, 2, 2, 7]);
        assert_eq!(
            encoded(Operation::Snapshot(Snapshot::default())),
            [1, 1, 0, 0, 0, 0, 0]
        );
        let partition = LogPartition {
            log: LogId(1),
            partition: PartitionId(2),
        };
        assert_eq!(
            encoded(Operation::LogStart {
                partition,
                offset: Offset(4)
            }),
            [1, 1, 3, 1, 2, 4]
        );
        assert_eq!(
            encoded(Operation::Leap {
                partitions: vec![],
                span: SpanId(6)
            }),
            [1, 1, 4, 0, 6]
        );
    }
}
