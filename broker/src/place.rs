//! Where a record stands in the log as a whole, in the canonical order: by commit, log, partition,
//! offset. A session's position is one place (`rules.md` 3.1).

use storage::{Appended, CommitNumber, LogId, LogPartition, Offset, PartitionId};

/// See the module's documentation. Between the places of two records there are none of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) commit: CommitNumber,
    pub(crate) partition: LogPartition,
    pub(crate) offset: Offset,
}

impl Place {
    /// Before every record of this commit.
    pub(crate) const fn beginning_of(commit: CommitNumber) -> Self {
        Self {
            commit,
            partition: LogPartition {
                log: LogId(0),
                partition: PartitionId(0),
            },
            offset: Offset(0),
        }
    }

    /// Behind this record, and before the next one.
    pub(crate) fn behind(self) -> Self {
        Self {
            offset: Offset(self.offset.0 + 1),
            ..self
        }
    }
}

impl From<Appended> for Place {
    fn from(appended: Appended) -> Self {
        Self {
            commit: appended.commit,
            partition: appended.partition,
            offset: appended.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_log() {
        let place = |commit, log, partition, offset| Place {
            commit: CommitNumber(commit),
            partition: LogPartition {
                log: LogId(log),
                partition: PartitionId(partition),
            },
            offset: Offset(offset),
        };
        let places = [
            Place::beginning_of(CommitNumber(7)),
            place(7, 1, 0, 9),
            place(7, 1, 0, 9).behind(),
            place(7, 1, 2, 3),
            place(7, 2, 0, 1),
            Place::beginning_of(CommitNumber(8)),
            place(8, 1, 0, 10),
        ];
        assert!(places.is_sorted());
    }
}
