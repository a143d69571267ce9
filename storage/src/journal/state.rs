//! The journal in memory.

use std::collections::BTreeMap;

use crate::ids::{LogPartition, OFFSET_LEAP, Offset, SegmentId, SpanId};
use crate::journal::operation::{Operation, PartitionState, Snapshot};
use crate::journal::{JournalKey, JournalKind};

/// What all operations so far add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalState {
    entries: BTreeMap<JournalKey, Vec<u8>>,
    partitions: BTreeMap<LogPartition, PartitionEnds>,
    span: SpanId,
}

/// Ends of a partition, as far as it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionEnds {
    pub(crate) log_start: Offset,
    pub(crate) next_offset: Offset,
}

impl JournalState {
    /// Applies what a commit carries.
    pub(crate) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Snapshot(snapshot) => *self = Self::from_snapshot(snapshot),
            Operation::Put { key, value } => {
                self.entries.insert(key, value);
            }
            Operation::Delete { key } => {
                self.entries.remove(&key);
            }
            Operation::LogStart { partition, offset } => {
                let ends = self.ends(partition);
                let log_start = ends.log_start.max(offset);
                let next_offset = ends.next_offset.max(offset);
                self.partitions.insert(
                    partition,
                    PartitionEnds {
                        log_start,
                        next_offset,
                    },
                );
            }
            Operation::Leap { partitions, span } => {
                self.span = span;
                for state in partitions {
                    let ends = self.ends(state.partition);
                    let next_offset = ends.next_offset.max(state.next_offset);
                    self.partitions.insert(
                        state.partition,
                        PartitionEnds {
                            next_offset,
                            ..ends
                        },
                    );
                }
            }
        }
    }

    /// A batch of `partition` that ends before `next_offset` became durable.
    pub(crate) fn advance(&mut self, partition: LogPartition, next_offset: Offset) {
        let ends = self.ends(partition);
        self.partitions.insert(
            partition,
            PartitionEnds {
                next_offset,
                ..ends
            },
        );
    }

    fn from_snapshot(snapshot: Snapshot) -> Self {
        let ends = |state: PartitionState| {
            let PartitionState {
                partition,
                log_start,
                next_offset,
            } = state;
            (
                partition,
                PartitionEnds {
                    log_start,
                    next_offset,
                },
            )
        };
        Self {
            entries: snapshot.entries.into_iter().collect(),
            partitions: snapshot.partitions.into_iter().map(ends).collect(),
            span: snapshot.span,
        }
    }

    /// This state, as `segment` begins with it.
    pub(crate) fn to_snapshot(&self, segment: SegmentId) -> Snapshot {
        Snapshot {
            segment,
            span: self.span,
            partitions: self.partition_states(),
            entries: self
                .entries
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }
    }

    pub(crate) fn partition_states(&self) -> Vec<PartitionState> {
        let state = |(partition, ends): (&LogPartition, &PartitionEnds)| PartitionState {
            partition: *partition,
            log_start: ends.log_start,
            next_offset: ends.next_offset,
        };
        self.partitions.iter().map(state).collect()
    }

    /// Ends of a partition. One that never had a record begins above all offsets that it may have
    /// had in an earlier span of which everything was lost.
    pub(crate) fn ends(&self, partition: LogPartition) -> PartitionEnds {
        self.partitions.get(&partition).copied().unwrap_or_else(|| {
            let first = Offset(u64::from(self.span.0) * OFFSET_LEAP);
            PartitionEnds {
                log_start: first,
                next_offset: first,
            }
        })
    }

    pub(crate) fn span(&self) -> SpanId {
        self.span
    }

    pub(crate) fn get(&self, key: &JournalKey) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// The entries of `kind`, ascending by key.
    pub(crate) fn of_kind(&self, kind: JournalKind) -> impl Iterator<Item = (&JournalKey, &[u8])> {
        let from = JournalKey::first_of(kind);
        self.entries
            .range(from..)
            .take_while(move |(key, _)| key.is(kind))
            .map(|(key, value)| (key, value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogId, PartitionId};

    #[test]
    fn snapshot_stands_for_all_operations_before_it() {
        let partition = LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        };
        let key = |rest: &[u8]| JournalKey::new(JournalKind::Gap, rest);
        let mut state = JournalState::default();
        state.apply(Operation::Put {
            key: key(b"a"),
            value: vec![1],
        });
        state.apply(Operation::Put {
            key: key(b"b"),
            value: vec![2],
        });
        state.apply(Operation::Delete { key: key(b"a") });
        state.advance(partition, Offset(10));
        state.apply(Operation::LogStart {
            partition,
            offset: Offset(4),
        });
        let mut other = JournalState::default();
        other.apply(Operation::Put {
            key: key(b"stale"),
            value: vec![9],
        });
        other.apply(Operation::Snapshot(state.to_snapshot(SegmentId(3))));
        assert_eq!(other, state);
        assert_eq!(
            other.ends(partition),
            PartitionEnds {
                log_start: Offset(4),
                next_offset: Offset(10)
            }
        );
        assert_eq!(other.of_kind(JournalKind::Gap).count(), 1);
        assert_eq!(other.of_kind(JournalKind::Era).count(), 0);
    }

    #[test]
    fn leap_never_goes_back() {
        let partition = LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        };
        let mut state = JournalState::default();
        state.advance(partition, Offset(10));
        let to = |next_offset| PartitionState {
            partition,
            log_start: Offset(0),
            next_offset,
        };
        state.apply(Operation::Leap {
            partitions: vec![to(Offset(5))],
            span: SpanId(1),
        });
        assert_eq!(state.ends(partition).next_offset, Offset(10));
        state.apply(Operation::Leap {
            partitions: vec![to(Offset(50))],
            span: SpanId(2),
        });
        assert_eq!(
            (state.ends(partition).next_offset, state.span()),
            (Offset(50), SpanId(2))
        );
        let unheard_of = LogPartition {
            log: LogId(2),
            partition: PartitionId(0),
        };
        assert_eq!(state.ends(unheard_of).next_offset, Offset(2 * OFFSET_LEAP));
    }
}
