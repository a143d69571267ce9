//! Which leader epoch wrote which offsets of a partition.
//!
//! Invariant: epochs and start offsets both strictly ascend, because an epoch that wrote nothing is
//! forgotten when the next one begins at the same offset.
//!
//! References: [KIP-101].
//!
//! [KIP-101]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-101+-+Alter+Replication+Protocol+to+use+Leader+Epoch+rather+than+High+Watermark+for+Truncation

/// Epoch and its first offset, ascending.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct LeaderEpochs(Vec<(i32, i64)>);

impl LeaderEpochs {
    /// Notes that records from `start_offset` on are written in `epoch`.
    pub(super) fn begin(&mut self, epoch: i32, start_offset: i64) {
        self.0
            .retain(|(known, start)| *known < epoch && *start < start_offset);
        self.0.push((epoch, start_offset));
    }

    /// The first epoch, if it covers `log_start_offset`.
    pub(super) fn earliest_at(&self, log_start_offset: i64) -> Option<i32> {
        let (epoch, start_offset) = self.0.first()?;
        (*start_offset <= log_start_offset).then_some(*epoch)
    }

    /// Where the records of `epoch` end: the last known epoch up to it and the offset after that
    /// epoch's records.
    pub(super) fn end_of(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let (latest, _) = self.0.last()?;
        if epoch < 0 {
            // -1 stands for no epoch.
            return None;
        }
        if epoch == *latest {
            return Some((epoch, log_end_offset));
        }
        let (_, end_offset) = self.0.iter().find(|(known, _)| *known > epoch)?;
        let floor = self.0.iter().rev().find(|(known, _)| *known <= epoch);
        // Older than everything known: its own number, and where the known records begin.
        Some((floor.map_or(epoch, |(known, _)| *known), *end_offset))
    }

    /// Forgets what was written from `end_offset` on.
    pub(super) fn truncate(&mut self, end_offset: i64) {
        self.0
            .retain(|(_, start_offset)| *start_offset < end_offset);
    }

    /// Forgets what was written before `log_start_offset`; the epoch that covers it begins there.
    pub(super) fn trim(&mut self, log_start_offset: i64) {
        let covering = self
            .0
            .iter()
            .rposition(|(_, start)| *start <= log_start_offset);
        if let Some(index) = covering {
            self.0.drain(..index);
            if let Some((_, start_offset)) = self.0.first_mut() {
                *start_offset = log_start_offset;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start_offset) in entries {
            epochs.begin(*epoch, *start_offset);
        }
        epochs
    }

    #[test]
    fn end_of_epoch_is_where_the_next_one_begins() {
        let epochs = epochs(&[(2, 10), (5, 20)]);
        assert_eq!(
            epochs.end_of(5, 33),
            Some((5, 33)),
            "the current one ends at the log end"
        );
        assert_eq!(epochs.end_of(2, 33), Some((2, 20)));
        assert_eq!(
            epochs.end_of(4, 33),
            Some((2, 20)),
            "the last known one before it"
        );
        assert_eq!(epochs.end_of(1, 33), Some((1, 10)), "older than everything");
        assert_eq!(epochs.end_of(6, 33), None, "newer than everything");
        assert_eq!(epochs.end_of(-1, 33), None, "no epoch");
    }

    #[test]
    fn epoch_without_records_is_forgotten_when_the_next_begins() {
        let epochs = epochs(&[(0, 0), (1, 0), (2, 5), (3, 5)]);
        assert_eq!(epochs, LeaderEpochs(vec![(1, 0), (3, 5)]));
        assert_eq!(epochs.end_of(0, 9), Some((0, 0)));
        assert_eq!(epochs.end_of(2, 9), Some((1, 5)));
    }

    #[test]
    fn truncating_and_trimming_move_the_ends() {
        let mut both = epochs(&[(0, 0), (1, 10), (2, 20)]);
        both.truncate(20);
        assert_eq!(both, LeaderEpochs(vec![(0, 0), (1, 10)]));
        both.trim(12);
        assert_eq!(both, LeaderEpochs(vec![(1, 12)]));
        assert_eq!(both.earliest_at(12), Some(1));
        assert_eq!(both.earliest_at(11), None);
    }
}
