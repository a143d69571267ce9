//! Clusters that refuse, topics that are gone or made anew, records that are missing.

use std::time::{Duration, Instant};

use bridge::StreamActivity;
use kafka::ErrorCode;
use kafka::model::ProduceFault;
use storage::{AppendError, LogOptions, OnFull};

use crate::support::*;

#[test]
fn batch_that_is_too_large_is_cut_down() {
    let mut options = topic_of(1);
    options.partition.batch_bytes_max = 3000;
    with_model(options, |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        gateway.append(200, 300);
        let bridge = gateway.bridge(model);
        wait_for("all records", || count(model) == 200);
        bridge.stop();
        check(model, 0..200);
    });
}

#[test]
fn record_that_no_broker_takes_stops_its_partition_only_and_says_so() {
    let mut options = topic_of(2);
    options.partition.batch_bytes_max = 3000;
    with_model(options, |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 2)]);
        gateway.append(1, 5000);
        gateway.append(99, 20);
        let bridge = gateway.bridge(model);
        let large = storage::partition_for_key(b"device-0", 2);
        let others = (0..100_u64).filter(|n| {
            storage::partition_for_key(format!("device-{}", n % 5).as_bytes(), 2) != large
        });
        let others: Vec<u64> = others.collect();
        wait_for("the other partition", || count(model) == others.len());
        wait_for("the pause", || {
            let route = route(&bridge);
            let partition = route.partitions.get(&large.0);
            partition.is_some_and(|partition| partition.activity == StreamActivity::Paused)
                && route
                    .trouble
                    .is_some_and(|t| t.what.contains("MESSAGE_TOO_LARGE"))
        });
        check(model, others);
        bridge.stop();
    });
}

#[test]
fn refused_topic_is_waited_for_and_named_with_its_remedy() {
    with_model(topic_of(1), |model| {
        model.refuse_topic(TOPIC, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        gateway.append(10, 10);
        let bridge = gateway.bridge(model);
        wait_for("trouble", || route(&bridge).trouble.is_some());
        let trouble = route(&bridge).trouble.clone().unwrap();
        assert!(
            trouble.what.contains(TOPIC) && trouble.what.contains("TOPIC_AUTHORIZATION_FAILED"),
            "{trouble:?}"
        );
        assert!(trouble.remedy.is_some());
        model.refuse_topic(TOPIC, ErrorCode::NONE);
        model.create_topic(TOPIC, 1).unwrap();
        wait_for("all records", || count(model) == 10);
        bridge.stop();
        check(model, 0..10);
    });
}

#[test]
fn topic_made_anew_gets_what_was_not_acknowledged() {
    with_model(topic_of(2), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 2)]);
        let bridge = gateway.bridge(model);
        gateway.append(100, 50);
        wait_for("the first records", || count(model) == 100);
        model.recreate_topic(TOPIC, 2).unwrap();
        // As when a real broker deletes a topic: whoever writes to it loses it for a moment.
        model.cut_connections();
        gateway.append(100, 50);
        wait_for("the second records", || count(model) >= 100);
        bridge.stop();
        check(model, 100..200);
    });
}

#[test]
fn records_that_retention_took_are_in_the_ledger() {
    with_model(topic_of(1), |model| {
        let small = LogOptions {
            retention_bytes: 2 << 20,
            ..LogOptions::new("telemetry", 1)
        };
        let mut gateway = Gateway::new(&[small]);
        gateway.append(6000, 1000);
        let partition = gateway
            .store()
            .log("telemetry")
            .unwrap()
            .partitions()
            .next()
            .unwrap();
        wait_for("retention", || {
            gateway.store().log_start(partition).0 > 2000
        });
        // So that it does not move on while we look.
        let mut last = 0;
        wait_for("retention to rest", || {
            let start = gateway.store().log_start(partition).0;
            std::thread::sleep(Duration::from_millis(1200));
            std::mem::replace(&mut last, start) == start
        });
        // It had a position at 0, as if it had been offline since.
        let key = storage::JournalKey::new(
            storage::JournalKind::BridgeStream,
            &[b"telemetry".as_slice(), &[0, 0, 0]].concat(),
        );
        // acknowledged 0, no producer id, mapping version 0, replicated 0, lost 0
        let put =
            gateway
                .store()
                .put_journal_entry(key, Some(vec![1, 0, 0, 0, 0, 0]), Duration::ZERO);
        gateway.store().wait_durable(put.unwrap()).unwrap();
        let bridge = gateway.bridge(model);
        wait_for("the rest", || count(model) as u64 == 6000 - last);
        let gaps = gateway.store().gaps();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(
            (gaps[0].from.0, gaps[0].to.0, gaps[0].records),
            (0, last, last)
        );
        assert_eq!(gaps[0].route.as_deref(), Some("telemetry"));
        wait_for("the books", || {
            let partition = route(&bridge).partitions.remove(&0).unwrap_or_default();
            (partition.lost, partition.replicated, partition.lag_records) == (last, 6000 - last, 0)
        });
        bridge.stop();
        check(model, last..6000);
    });
}

/// Positions are checkpointed for a minute's commit at the latest here; a full log does not wait for it.
#[test]
fn log_that_rejects_has_room_again_when_its_route_has_replicated() {
    with_model(topic_of(1), |model| {
        let log = LogOptions {
            retention_bytes: 2 << 20,
            on_full: OnFull::Reject {
                pins: vec!["telemetry".to_owned()],
            },
            ..LogOptions::new("telemetry", 1)
        };
        let mut gateway = Gateway::new(&[log]);
        let mut records = 0_u64;
        wait_for("a full log", || {
            for _ in 0..100 {
                match gateway.try_append(1000) {
                    Ok(_) => records += 1,
                    Err(AppendError::LogFull { .. }) => return true,
                    Err(other) => assert_eq!(other, AppendError::QueueFull),
                }
            }
            false
        });
        let partition = gateway.store().logs()[0].partitions().next().unwrap();
        assert_eq!(gateway.store().log_start(partition).0, 0);
        let bridge = gateway.bridge(model);
        wait_for("the records", || count(model) as u64 == records);
        wait_for("room", || gateway.try_append(1000).is_ok());
        wait_for("the last record", || count(model) as u64 == records + 1);
        assert!(gateway.store().log_start(partition).0 > 0);
        assert_eq!(gateway.store().gaps(), []);
        bridge.stop();
        check(model, 0..=records);
    });
}

#[test]
fn broker_that_only_refuses_is_not_asked_without_pause() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let bridge = gateway.bridge(model);
        gateway.append(1, 10);
        wait_for("the first record", || told(&bridge, |p| p.replicated) == 1);
        for code in [
            ErrorCode::UNKNOWN_SERVER_ERROR,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ] {
            model.inject(TOPIC, 0, ProduceFault::Refuse(code), 10);
        }
        let begun = Instant::now();
        gateway.append(1, 10);
        wait_for("the second record", || told(&bridge, |p| p.replicated) == 2);
        // At least: twenty refusals, each followed by the shortest pause.
        assert!(
            begun.elapsed() >= Duration::from_secs(1),
            "{:?} for twenty refusals",
            begun.elapsed()
        );
        bridge.stop();
        check(model, 0..2);
    });
}

/// A stream that stands still for good waits for no answer: neither does the bridge when it ends.
#[test]
fn bridge_ends_although_a_halted_stream_had_batches_in_flight() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let bridge = gateway.bridge_with(model, |options| {
            options.request_timeout = Duration::from_secs(30);
            options.batch_bytes_max = 1024;
        });
        gateway.append(5, 50);
        wait_for("the first records", || told(&bridge, |p| p.replicated) == 5);
        model.delay(Duration::from_millis(300));
        model.inject(
            TOPIC,
            0,
            ProduceFault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            1,
        );
        gateway.append(100, 500);
        // Then the broker takes a batch that it must not take: its idempotence does not work.
        wait_for("the refusal", || model.counters().batches_refused == 1);
        model.lose_producer_states();
        wait_for("the halt", || {
            let partition = route(&bridge).partitions.remove(&0);
            partition.is_some_and(|p| p.activity == StreamActivity::Halted)
        });
        let ending = std::thread::spawn(move || bridge.stop());
        wait_for("the end", || ending.is_finished());
    });
}
