//! Links that are cut, answers that are lost, brokers that are away or have forgotten.

use std::time::Duration;

use bridge::PartitionStatus;
use kafka::ErrorCode;
use kafka::model::{ModelHandle, ProduceFault};
use storage::LogOptions;

use crate::support::*;

#[test]
fn cut_connections_lost_answers_and_lost_state_change_nothing() {
    with_model(topic_of(3), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 3)]);
        let bridge = gateway.bridge(model);
        let mut seed = 7_u64;
        for _ in 0..25 {
            gateway.append(40, 300);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let partition = i32::try_from((seed >> 33) % 3).unwrap();
            let fault = match (seed >> 40) % 6 {
                0 => ProduceFault::CutBeforeAppend,
                1 => ProduceFault::CutAfterAppend,
                2 => ProduceFault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
                3 => ProduceFault::RefuseAfterAppend(ErrorCode::REQUEST_TIMED_OUT),
                4 => ProduceFault::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                _ => {
                    model.cut_connections();
                    continue;
                }
            };
            model.inject(TOPIC, partition, fault, 1);
            std::thread::sleep(Duration::from_millis((seed >> 50) % 60));
        }
        model.clear_faults();
        wait_for("all records", || count(model) >= 1000);
        bridge.stop();
        check(model, 0..1000);
    });
}

#[test]
fn broker_that_forgot_us_is_read_back() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let bridge = gateway.bridge(model);
        gateway.append(50, 50);
        wait_for("the first records", || count(model) == 50);
        // Appended, but nobody heard of it; then the broker forgets who sent it.
        model.inject(TOPIC, 0, ProduceFault::CutAfterAppend, 1);
        gateway.append(50, 50);
        wait_for("the unheard batch", || count(model) > 50);
        model.lose_producer_states();
        wait_for("all records", || count(model) >= 100);
        bridge.stop();
        check(model, 0..100);
    });
}

#[test]
fn outage_of_the_broker_is_sat_out() {
    with_model(topic_of(2), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 2)]);
        block_on(model.stop());
        let bridge = gateway.bridge(model);
        gateway.append(300, 50);
        wait_for("trouble", || route(&bridge).trouble.is_some());
        block_on(model.restart()).unwrap();
        wait_for("all records", || count(model) == 300);
        for _ in 0..3 {
            gateway.append(100, 50);
            block_on(model.stop());
            gateway.append(100, 50);
            block_on(model.restart()).unwrap();
        }
        wait_for("all records", || count(model) == 900);
        wait_for("no trouble", || route(&bridge).trouble.is_none());
        bridge.stop();
        check(model, 0..900);
    });
}

#[test]
fn lag_grows_with_every_commit_while_the_broker_is_away() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        // Pauses get so long that only few of the commits below find the broker being asked for.
        let bridge = gateway.bridge_with(model, |options| {
            options.backoff_max = Duration::from_secs(3_600);
        });
        gateway.append(10, 50);
        wait_for("the first records", || {
            told(&bridge, |p| p.replicated) == 10
        });
        wait_for("no lag", || told(&bridge, |p| p.lag_records) == 0);
        block_on(model.stop());
        wait_for("trouble", || route(&bridge).trouble.is_some());
        for waiting in 1..=20 {
            gateway.append(1, 50);
            wait_for("the lag", || told(&bridge, |p| p.lag_records) == waiting);
        }
        assert!(told(&bridge, |p| u64::from(p.oldest_ms.is_some())) == 1);
        bridge.stop();
    });
}

#[test]
fn backlog_is_told_when_no_broker_has_answered_since_the_start() {
    with_model(topic_of(2), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 2)]);
        let bridge = gateway.bridge(model);
        gateway.append(100, 50);
        let replicated = |partition: &PartitionStatus| partition.replicated;
        wait_for("the first records", || told(&bridge, replicated) == 100);
        bridge.stop();
        block_on(model.stop());
        let bridge = gateway.bridge(model);
        wait_for("the position", || told(&bridge, replicated) == 100);
        for lag in [70, 140] {
            gateway.append(70, 50);
            let waiting = |partition: &PartitionStatus| partition.lag_records;
            wait_for("the lag", || told(&bridge, waiting) == lag);
        }
        let aged = |p: &PartitionStatus| u64::from(p.oldest_ms.is_some());
        wait_for("the age of what waits", || told(&bridge, aged) > 0);
        bridge.stop();
        let bridge = gateway.bridge(model);
        wait_for("the age of what waited before", || told(&bridge, aged) > 0);
        block_on(model.restart()).unwrap();
        wait_for("all records", || count(model) == 240);
        bridge.stop();
        check(model, 0..240);
    });
}

/// The place where a tail scan begins is that of the last acknowledgement; on a busy topic retention
/// may have passed it while what is in doubt is still there.
#[test]
fn what_is_in_doubt_is_found_behind_the_start_of_a_trimmed_topic() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let bridge = gateway.bridge(model);
        gateway.append(50, 50);
        wait_for("the first records", || {
            told(&bridge, |p| p.replicated) == 50
        });
        let others = |model: &ModelHandle| {
            let mut batch = record_batch::BatchBuilder::new(0);
            for _ in 0..10 {
                batch
                    .append(&record_batch::RecordFields::default())
                    .unwrap();
            }
            let batch = batch.finish();
            model.with_partition(TOPIC, 0, |p| p.append(&batch, 1).unwrap())
        };
        others(model);
        // Appended, but nobody heard of it; then the broker forgets who sent it, and retention
        // takes what lies before.
        model.inject(TOPIC, 0, ProduceFault::CutAfterAppend, 1);
        gateway.append(50, 50);
        wait_for("the unheard batch", || {
            model
                .with_partition(TOPIC, 0, |p| p.log_end_offset())
                .unwrap()
                > 60
        });
        model.lose_producer_states();
        model.with_partition(TOPIC, 0, |p| p.trim(60));
        wait_for("all records", || told(&bridge, |p| p.replicated) == 100);
        bridge.stop();
        check(model, 50..100);
    });
}

/// "I have that already" is not "it is on all replicas": it is looked at, not believed.
#[test]
fn batch_that_is_called_a_duplicate_is_looked_for() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let bridge = gateway.bridge(model);
        let faults = [ProduceFault::RefuseAfterAppend, ProduceFault::Refuse];
        for (round, fault) in (1..).zip(faults) {
            model.inject(TOPIC, 0, fault(ErrorCode::DUPLICATE_SEQUENCE_NUMBER), 1);
            gateway.append(1, 10);
            wait_for("the records", || {
                told(&bridge, |p| p.replicated) == round && model.counters().faults == round
            });
        }
        bridge.stop();
        check(model, 0..2);
    });
}
