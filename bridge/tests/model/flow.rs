//! Records on their way when nothing is wrong: where a route begins, what arrives, where it goes on.

use std::time::Duration;

use bridge::{Bridge, BridgeOptions, RouteOptions, Start, StreamActivity};
use storage::LogOptions;

use crate::support::*;

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
