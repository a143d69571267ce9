//! Invariants over arbitrary sequences of what can happen to a partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka::model::partition::{Partition, PartitionOptions};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::batch::{NOW_MS, batch, batch_at};

#[derive(Clone, Debug)]
enum Event {
    AdvanceHighWatermark(i64),
    Append {
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        count: i32,
        age_ms: i64,
    },
    Expire,
    LoseProducers,
    NewLeader {
        truncate_to: Option<i64>,
    },
    Restart,
    Trim(i64),
}

/// Small numbers, so that duplicates, gaps and successors all come up often.
fn event() -> impl Strategy<Value = Event> {
    let append = (
        0..3_i64,
        0..2_i16,
        0..12_i32,
        1..4_i32,
        prop_oneof![Just(0), Just(90_000_000)],
    );
    let append = append.prop_map(
        |(producer_id, epoch, sequence, count, age_ms)| Event::Append {
            producer_id,
            epoch,
            sequence,
            count,
            age_ms,
        },
    );
    prop_oneof![
        30 => append,
        3 => (0..40_i64).prop_map(Event::AdvanceHighWatermark),
        1 => Just(Event::Expire),
        1 => Just(Event::LoseProducers),
        1 => proptest::option::of(0..40_i64)
            .prop_map(|truncate_to| Event::NewLeader { truncate_to }),
        1 => Just(Event::Restart),
        1 => (0..40_i64).prop_map(Event::Trim),
    ]
}

fn apply(partition: &mut Partition, event: &Event) {
    match event {
        Event::AdvanceHighWatermark(offset) => partition.advance_high_watermark(*offset),
        Event::Append {
            producer_id,
            epoch,
            sequence,
            count,
            age_ms,
        } => {
            let records = batch_at(*producer_id, *epoch, *sequence, *count, NOW_MS - age_ms);
            let _ = partition.append(&records, NOW_MS);
        }
        Event::Expire => partition.expire_producers(NOW_MS),
        Event::LoseProducers => partition.lose_producer_state(),
        Event::NewLeader { truncate_to } => partition.new_leader_epoch(*truncate_to),
        Event::Restart => partition.restart(),
        Event::Trim(offset) => partition.trim(*offset),
    }
}

fn partition(high_watermark_lags: bool) -> Partition {
    Partition::new(PartitionOptions {
        high_watermark_lags,
        ..Default::default()
    })
}

proptest! {
    #[test]
    fn offsets_stay_in_order_and_batches_adjoin(
        lags: bool,
        events in vec(event(), 0..80),
    ) {
        let mut partition = partition(lags);
        let mut high_watermark = 0;
        for event in &events {
            apply(&mut partition, event);
            prop_assert!(partition.log_start_offset() <= partition.high_watermark());
            prop_assert!(partition.high_watermark() <= partition.log_end_offset());
            if !matches!(event, Event::NewLeader { .. }) {
                prop_assert!(partition.high_watermark() >= high_watermark);
            }
            high_watermark = partition.high_watermark();
            let mut next = None;
            for batch in partition.batches() {
                let header = batch.header();
                prop_assert!(next.is_none_or(|next| next == header.base_offset));
                prop_assert!(header.partition_leader_epoch <= partition.leader_epoch());
                next = Some(header.next_offset());
            }
            prop_assert!(next.is_none_or(|next| next == partition.log_end_offset()));
        }
    }

    /// What exactly-once rests on: as long as nothing is forgotten, each producer's sequences stand
    /// in the log once and without a gap, whatever was sent in whatever order.
    #[test]
    fn sequences_are_dense_while_no_state_is_lost(
        events in vec(event(), 0..80),
    ) {
        let mut partition = partition(false);
        for event in &events {
            let forgets = matches!(
                event,
                Event::Expire | Event::LoseProducers | Event::NewLeader { .. } | Event::Trim(_)
            );
            if !forgets {
                apply(&mut partition, event);
            }
        }
        let mut last: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
        for batch in partition.batches() {
            let header = batch.header();
            let reached = (header.producer_epoch, header.last_sequence());
            if let Some((epoch, sequence)) = last.insert(header.producer_id, reached) {
                if header.producer_epoch == epoch {
                    prop_assert_eq!(header.base_sequence, sequence + 1);
                } else {
                    prop_assert!(header.producer_epoch > epoch);
                    prop_assert_eq!(header.base_sequence, 0);
                }
            }
        }
    }

    #[test]
    fn resending_what_was_just_appended_changes_nothing(
        events in vec(event(), 0..40),
        count in 1..4_i32,
    ) {
        let mut partition = partition(false);
        for event in &events {
            apply(&mut partition, event);
        }
        let records = batch(99, 0, 5, count);
        let first = partition.append(&records, NOW_MS).unwrap();
        let before = partition.clone();
        let again = partition.append(&records, NOW_MS + 1).unwrap();
        prop_assert!(again.duplicate);
        prop_assert_eq!(again.base_offset, first.base_offset);
        prop_assert_eq!(partition, before);
    }

    #[test]
    fn equal_histories_make_equal_partitions(lags: bool, events in vec(event(), 0..40)) {
        let (mut one, mut other) = (partition(lags), partition(lags));
        for event in &events {
            apply(&mut one, event);
            apply(&mut other, event);
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_trace(bytes in vec(any::<u8>(), 0..200)) {
        let mut partition = partition(false);
        prop_assert!(partition.append(&Bytes::from(bytes), NOW_MS).is_err());
        prop_assert_eq!(partition, self::partition(false));
    }
}
