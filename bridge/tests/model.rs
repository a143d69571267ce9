//! The bridge on a real store and the model of a Kafka broker over a real socket.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bridge::{
    Bridge, BridgeOptions, PartitionStatus, RouteOptions, RouteStatus, Start, StreamActivity,
};
use kafka::ErrorCode;
use kafka::model::{ModelHandle, ModelOptions, ProduceFault, UnknownTopic};
use storage::{Incarnation, LogOptions, Message, Store, StoreOptions, StoreThreads};

const TOPIC: &str = "plant.telemetry";

struct Gateway {
    folder: tempfile::TempDir,
    options: StoreOptions,
    logs: Vec<LogOptions>,
    store: Option<(Store, StoreThreads)>,
    appended: u64,
}

impl Gateway {
    fn new(logs: &[LogOptions]) -> Self {
        let options = StoreOptions {
            segment_bytes: 1 << 20,
            ..StoreOptions::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = Self {
            folder,
            options,
            logs: logs.to_vec(),
            store: None,
            appended: 0,
        };
        gateway.open();
        gateway
    }

    fn open(&mut self) {
        let opened = Store::open(self.folder.path(), self.options.clone(), &self.logs);
        self.store = Some(opened.unwrap());
    }

    fn close(&mut self) {
        let (store, threads) = self.store.take().unwrap();
        threads.close();
        drop(store);
    }

    fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    fn incarnation(&self) -> Incarnation {
        self.store().incarnation()
    }

    /// Appends records of five devices; the payload is the number of the record.
    fn append(&mut self, count: u64, size: usize) {
        let mut last = None;
        for _ in 0..count {
            let number = self.appended;
            self.appended += 1;
            let device = format!("device-{}", number % 5);
            let message = Message {
                topic: format!("sensors/{}", number % 7).into(),
                client_id: device.clone().into(),
                payload: format!("{number:<size$}").into(),
                qos: 1,
                ..Message::default()
            };
            let log = self.store().logs()[0].id;
            last = Some(
                self.store()
                    .append(log, device.as_bytes(), &message)
                    .unwrap()
                    .commit,
            );
        }
        self.store().wait_durable(last.unwrap()).unwrap();
    }

    fn bridge(&self, model: &ModelHandle) -> Bridge {
        self.bridge_with(model, |_| {})
    }

    fn bridge_with(&self, model: &ModelHandle, change: impl FnOnce(&mut BridgeOptions)) -> Bridge {
        let route = RouteOptions {
            name: "telemetry".into(),
            log: self.logs[0].name.clone(),
            topic: TOPIC.into(),
            start: Start::Earliest,
        };
        let mut options = BridgeOptions {
            gateway_id: "gw".into(),
            bootstrap: vec![model.address()],
            client_id: "gw".into(),
            request_timeout: Duration::from_millis(500),
            backoff_max: Duration::from_millis(300),
            checkpoint_within: Duration::from_secs(60),
            batch_bytes_max: 16 * 1024,
            in_flight_bytes_max: 128 * 1024,
            routes: vec![route],
        };
        change(&mut options);
        Bridge::start(options, self.store()).unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // The model serves from its own threads; the runtime must stay alive with it.
    tokio::runtime::Handle::current().block_on(future)
}

/// Runs a test body beside a runtime that the model lives in.
fn with_model(options: ModelOptions, body: impl FnOnce(&ModelHandle)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let model = runtime.block_on(ModelHandle::start(options)).unwrap();
    let _inside = runtime.enter();
    body(&model);
}

fn topic_of(partitions: i32) -> ModelOptions {
    ModelOptions {
        unknown_topic: UnknownTopic::Create {
            partition_count: partitions,
        },
        ..ModelOptions::default()
    }
}

/// The route, as soon as it is known.
fn route(bridge: &Bridge) -> RouteStatus {
    bridge
        .probe()
        .routes()
        .remove("telemetry")
        .unwrap_or_default()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the status says, of all partitions together.
fn told(bridge: &Bridge, field: fn(&PartitionStatus) -> u64) -> u64 {
    route(bridge).partitions.values().map(field).sum()
}

fn count(model: &ModelHandle) -> usize {
    (0..model.partition_count(TOPIC))
        .map(|p| model.records(TOPIC, i32::try_from(p).unwrap()).len())
        .sum()
}

/// Every record once, in order by device, and with the name that no other has.
fn check(model: &ModelHandle, expected: impl IntoIterator<Item = u64>) {
    let mut by_device: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for partition in 0..model.partition_count(TOPIC) {
        for record in model.records(TOPIC, i32::try_from(partition).unwrap()) {
            let payload = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let number: u64 = payload.trim().parse().unwrap();
            by_device
                .entry(record.key.unwrap().to_vec())
                .or_default()
                .push(number);
            let id = record.headers.first(b"tg-id").flatten().unwrap();
            assert_eq!(
                ids.insert(id.clone(), number),
                None,
                "{id:?} is there twice"
            );
        }
    }
    let mut found: Vec<u64> = by_device.values().flatten().copied().collect();
    for (device, numbers) in by_device {
        assert!(
            numbers.is_sorted(),
            "order of {}: {numbers:?}",
            String::from_utf8_lossy(&device)
        );
    }
    found.sort_unstable();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn records_arrive_once_in_order_with_key_and_headers() {
    with_model(topic_of(2), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 4)]);
        gateway.append(500, 100);
        let bridge = gateway.bridge(model);
        wait_for("the backlog", || count(model) == 500);
        gateway.append(100, 10);
        wait_for("the live records", || count(model) == 600);
        check(model, 0..600);
        let record = &model.records(TOPIC, 0)[0];
        let header = |name: &str| {
            let value = record.headers.first(name.as_bytes()).flatten().unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        let id = header("tg-id");
        let prefix = format!("gw/{}/telemetry-", gateway.incarnation());
        assert!(id.starts_with(&prefix) && id.ends_with("/0"), "{id}");
        assert!(header("mqtt-topic").starts_with("sensors/"));
        assert_eq!(
            header("mqtt-client-id").as_bytes(),
            record.key.as_ref().unwrap()
        );
        assert_eq!(
            (header("mqtt-qos").as_str(), header("tg-time").len()),
            ("1", 13)
        );
        let route = route(&bridge);
        assert_eq!(
            (route.topic_partitions, route.agrees_with_kafka_partitioner),
            (2, true)
        );
        assert_eq!(
            route.partitions.values().map(|p| p.replicated).sum::<u64>(),
            600
        );
        assert!(
            route.partitions.values().all(|p| p.lag_records == 0),
            "{route:?}"
        );
        assert_eq!(route.partitions[&3].target, 1);
        bridge.stop();
    });
}

#[test]
fn position_survives_a_restart_and_nothing_is_sent_again() {
    with_model(topic_of(2), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 2)]);
        for round in 1..=4_u64 {
            let bridge = gateway.bridge(model);
            gateway.append(100, 50);
            wait_for("the records", || count(model) as u64 == round * 100);
            bridge.stop();
            gateway.close();
            gateway.open();
        }
        check(model, 0..400);
    });
}

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

#[test]
fn route_may_begin_now() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        gateway.append(50, 10);
        let now = |options: &mut BridgeOptions| options.routes[0].start = Start::Now;
        let bridge = gateway.bridge_with(model, now);
        wait_for("the stream", || {
            let partition = route(&bridge).partitions.remove(&0);
            partition.is_some_and(|p| p.activity == StreamActivity::Streaming)
        });
        gateway.append(20, 10);
        wait_for("the new records", || count(model) == 20);
        bridge.stop();
        gateway.append(5, 10);
        let bridge = gateway.bridge_with(model, now);
        wait_for("what came meanwhile", || count(model) == 25);
        bridge.stop();
        check(model, 50..75);
    });
}

/// A new gateway is often switched on before its uplink works.
#[test]
fn route_that_begins_now_begins_with_its_first_start_also_without_a_broker() {
    with_model(topic_of(1), |model| {
        let mut gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        gateway.append(50, 10);
        block_on(model.stop());
        let now = |options: &mut BridgeOptions| options.routes[0].start = Start::Now;
        let bridge = gateway.bridge_with(model, now);
        wait_for("trouble", || route(&bridge).trouble.is_some());
        gateway.append(20, 10);
        bridge.stop();
        gateway.close();
        gateway.open();
        gateway.append(5, 10);
        let bridge = gateway.bridge_with(model, now);
        block_on(model.restart()).unwrap();
        gateway.append(1, 10);
        wait_for("the last record", || {
            told(&bridge, |p| p.replicated) > 0 && told(&bridge, |p| p.lag_records) == 0
        });
        bridge.stop();
        check(model, 50..76);
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

#[test]
fn unknown_log_is_refused() {
    with_model(topic_of(1), |model| {
        let gateway = Gateway::new(&[LogOptions::new("telemetry", 1)]);
        let mut options = BridgeOptions {
            gateway_id: "gw".into(),
            bootstrap: vec![model.address()],
            client_id: "gw".into(),
            request_timeout: Duration::from_secs(1),
            backoff_max: Duration::from_secs(1),
            checkpoint_within: Duration::from_secs(1),
            batch_bytes_max: 1000,
            in_flight_bytes_max: 1000,
            routes: Vec::new(),
        };
        options.routes.push(RouteOptions {
            name: "r".into(),
            log: "nowhere".into(),
            topic: TOPIC.into(),
            start: Start::Earliest,
        });
        let error = Bridge::start(options, gateway.store())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "route `r` is of log `nowhere`, which there is not");
    });
}
