//! The bridge and a real Apache Kafka that is not there, not ready, not the same as before, or
//! badly connected: what was acknowledged arrives once and in order as soon as that is possible,
//! and until then the status and the log say what is wrong.
//!
//! The bridge's own tests do the same with a model of a broker, and more of it; here the judge is
//! the real one. Killed processes are the business of the `chaos` suite.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};
use tests::kafka::records::{Record, read};
use tests::kafka::{self, Configured, Kafka, Options as KafkaOptions, admin};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::proxy::Proxy;
use tests::{ports, python, skip};

const DEVICES: u64 = 8;

/// Kafka and a reader of it, or the reason for a skip.
fn peers() -> Result<(), String> {
    kafka::available()?;
    python::available()?;
    Ok(())
}

/// A broker with a log of two partitions for each name, on its way to a topic of that name.
fn gateway(kafka: SocketAddr, names: &[&str]) -> BrokerProcess {
    let table =
        |name| format!("[[log]]\nname = \"{name}\"\nfilters = [\"{name}/#\"]\npartitions = 2\n");
    let options = Options {
        tables: names.iter().map(table).collect(),
        ..Options::default()
    };
    let routes: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
    BrokerProcess::start(options.bridged(kafka, &routes)).unwrap()
}

fn device(number: u64) -> String {
    format!("device-{}", number % DEVICES)
}

/// Publishes these numbers, the devices in turn; every one of them is acknowledged.
fn publish(broker: &BrokerProcess, log: &str, numbers: Range<u64>) {
    let mut devices = BTreeMap::new();
    for number in numbers {
        let client = devices.entry(device(number)).or_insert_with_key(|id| {
            Client::connect(broker.mqtt(), &Connect::new(Version::V5, id)).unwrap()
        });
        publish_payload(client, log, &number.to_string());
    }
}

fn publish_payload(client: &mut Client, log: &str, payload: &str) {
    let publish = Publish::new(&format!("{log}/x"), payload.as_bytes());
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
}

/// The topic has these numbers, each once and in order by device, and no `tg-id` twice.
fn check(kafka: &Kafka, topic: &str, expected: Range<u64>) {
    let mut by_device: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in once(kafka, topic) {
        let number = record.value_text().parse().unwrap();
        by_device.entry(record.key_text()).or_default().push(number);
    }
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in expected {
        all.entry(device(number)).or_default().push(number);
    }
    assert_eq!(by_device, all, "{topic}");
}

/// The records of a topic, of which none is there twice.
fn once(kafka: &Kafka, topic: &str) -> Vec<Record> {
    let records = read(kafka.bootstrap(), topic).unwrap();
    let mut ids = HashSet::new();
    for record in &records {
        let id = record.header("tg-id").unwrap();
        assert!(ids.insert(id.clone()), "{id} is in {topic} twice");
    }
    records
}

/// Waits until the status of a route tells a trouble with all of these words; its remedy.
fn wait_trouble(broker: &BrokerProcess, route: &str, words: &[&str]) -> Option<String> {
    let mut last = Value::Null;
    let found = wait_for("trouble", PATIENCE, || {
        last = broker.route(route)?;
        let is_told = |text: &str| words.iter().all(|word| text.contains(word));
        Ok(last["trouble"].as_str().is_some_and(is_told).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {words:?} in {last}"));
    for word in words {
        assert!(broker.log().contains(word), "{word} is not logged");
    }
    last["remedy"].as_str().map(str::to_owned)
}

/// Everything of the route is in Kafka, and nothing is wrong any more.
fn wait_well(broker: &BrokerProcess, route: &str) {
    broker.wait_replicated(route).unwrap();
    let is_well = || {
        let status = broker.route(route)?;
        Ok(status["trouble"].is_null().then_some(status))
    };
    let status = wait_for("the end of the trouble", PATIENCE, is_well).unwrap();
    assert_eq!(status["lost"], 0, "{status}");
    assert_eq!(
        broker.status().unwrap()["store"]["gaps"],
        serde_json::json!([])
    );
}

#[test]
fn cluster_that_is_not_there_at_the_start_gets_everything_when_it_comes() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let port = ports::free().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut broker = gateway(address, &["late"]);
    publish(&broker, "late", 0..40);
    wait_trouble(&broker, "late", &[&address.to_string(), "refused"]);
    // Nor does it come while the gateway is restarted.
    broker.restart().unwrap();
    publish(&broker, "late", 40..80);
    wait_trouble(&broker, "late", &[&address.to_string(), "refused"]);

    let kafka = Kafka::start(KafkaOptions {
        port: Some(port),
        ..KafkaOptions::default()
    });
    let kafka = kafka.unwrap();
    kafka.create_topic("late", 2, &[]).unwrap();
    publish(&broker, "late", 80..120);
    wait_well(&broker, "late");
    check(&kafka, "late", 0..120);
}

#[test]
fn topic_that_is_not_there_is_named_with_its_remedy_and_other_routes_go_on() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("present", 2, &[]).unwrap();
    let broker = gateway(kafka.bootstrap(), &["absent", "present"]);
    publish(&broker, "absent", 0..40);
    publish(&broker, "present", 0..40);
    let words = ["topic absent", "UNKNOWN_TOPIC_OR_PARTITION"];
    let remedy = wait_trouble(&broker, "absent", &words).unwrap();
    assert!(remedy.contains("create the topic"), "{remedy}");
    assert!(broker.log().contains(&remedy), "the remedy is not logged");
    publish(&broker, "present", 40..80);
    wait_well(&broker, "present");
    check(kafka, "present", 0..80);

    kafka.create_topic("absent", 2, &[]).unwrap();
    wait_well(&broker, "absent");
    check(kafka, "absent", 0..40);
}

#[test]
fn record_that_is_too_large_stops_its_partition_alone_until_the_topic_takes_it() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    kafka
        .create_topic("small", 2, &[("max.message.bytes", "3000")])
        .unwrap();
    kafka.create_topic("beside", 2, &[]).unwrap();
    let mut broker = gateway(kafka.bootstrap(), &["small", "beside"]);
    publish(&broker, "small", 0..DEVICES);
    wait_well(&broker, "small");
    let place = |record: &Record| (record.partition, record.key_text());
    let places: BTreeMap<i32, String> = once(kafka, "small").iter().map(place).collect();
    let [stopped, free] = [&places[&0], &places[&1]];
    let connect = |broker: &BrokerProcess, id: &str| {
        Client::connect(broker.mqtt(), &Connect::new(Version::V5, id)).unwrap()
    };

    let large = "x".repeat(5000);
    let mut client = connect(&broker, stopped);
    for payload in ["before", &large, "after"] {
        publish_payload(&mut client, "small", payload);
    }
    let told = |broker: &BrokerProcess| {
        let remedy = wait_trouble(broker, "small", &["MESSAGE_TOO_LARGE"]).unwrap();
        assert!(remedy.contains("max.message.bytes"), "{remedy}");
    };
    told(&broker);
    broker.restart().unwrap();
    told(&broker);

    // Whatever flows beside it, that it stands still is told.
    let mut client = connect(&broker, free);
    for number in 0..20 {
        publish_payload(&mut client, "small", &number.to_string());
        let lag = || {
            let status = broker.route("small")?;
            let is_free = status["partitions"][1]["lag_records"] == 0;
            Ok(is_free.then(|| status.clone()))
        };
        let status = wait_for("the other partition", PATIENCE, lag).unwrap();
        let trouble = status["trouble"].as_str().unwrap_or("nothing");
        assert!(trouble.contains("MESSAGE_TOO_LARGE"), "{status}");
        assert_eq!(
            (&status["lag_records"], &status["lost"]),
            (&2.into(), &0.into())
        );
    }
    publish(&broker, "beside", 0..40);
    wait_well(&broker, "beside");
    check(kafka, "beside", 0..40);

    let topic = Configured::Topic("small");
    admin::configure(kafka.bootstrap(), topic, "max.message.bytes", None).unwrap();
    wait_well(&broker, "small");
    let records = once(kafka, "small");
    let of_stopped = records
        .iter()
        .filter(|record| record.key_text() == **stopped);
    let payloads: Vec<String> = of_stopped.map(Record::value_text).skip(1).collect();
    assert_eq!(payloads, ["before", &large, "after"]);
    assert_eq!(records.len(), usize::try_from(DEVICES).unwrap() + 3 + 20);
}

#[test]
fn topic_that_is_deleted_and_made_again_gets_what_was_not_acknowledged() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("again", 2, &[]).unwrap();
    let mut broker = gateway(kafka.bootstrap(), &["again"]);
    publish(&broker, "again", 0..40);
    wait_well(&broker, "again");
    check(kafka, "again", 0..40);

    kafka.delete_topic("again").unwrap();
    publish(&broker, "again", 40..80);
    wait_trouble(&broker, "again", &["UNKNOWN_TOPIC_OR_PARTITION"]);
    kafka.create_topic("again", 2, &[]).unwrap();
    wait_well(&broker, "again");
    check(kafka, "again", 40..80);

    // Once more, and nobody has noticed that it was away.
    kafka.delete_topic("again").unwrap();
    kafka.create_topic("again", 2, &[]).unwrap();
    publish(&broker, "again", 80..120);
    wait_well(&broker, "again");
    check(kafka, "again", 80..120);

    // And once while the gateway is dead, with records that wait.
    kafka.delete_topic("again").unwrap();
    publish(&broker, "again", 120..160);
    broker.kill().unwrap();
    kafka.create_topic("again", 2, &[]).unwrap();
    broker.restart().unwrap();
    wait_well(&broker, "again");
    check(kafka, "again", 120..160);
    assert_eq!(broker.route("again").unwrap()["replicated"], 160);
}

/// A Kafka behind a link that can be cut, with a topic of two partitions.
fn linked(topic: &str) -> (Kafka, Proxy) {
    let port = ports::free().unwrap();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let kafka = Kafka::start(KafkaOptions {
        port: Some(port),
        advertised_port: Some(proxy.address().port()),
        ..KafkaOptions::default()
    });
    let kafka = kafka.unwrap();
    kafka.create_topic(topic, 2, &[]).unwrap();
    (kafka, proxy)
}

fn wait_in_doubt(broker: &BrokerProcess, route: &str) {
    wait_for("records in flight", PATIENCE, || {
        let in_doubt = &broker.route(route)?["in_doubt"];
        Ok((in_doubt.as_u64() > Some(0)).then_some(()))
    })
    .unwrap();
}

#[test]
fn nothing_is_lost_or_doubled_when_the_link_flaps_and_loses_answers() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let (kafka, proxy) = linked("flaps");
    let broker = gateway(proxy.address(), &["flaps"]);
    publish(&broker, "flaps", 0..40);
    wait_well(&broker, "flaps");
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&broker, "flaps", 40..1000));
        let pause = |ms| thread::sleep(Duration::from_millis(ms));
        for round in 0.. {
            proxy.hold_replies();
            // Shorter and longer than the bridge takes to find out what Kafka has.
            pause(round % 5 * 100);
            proxy.cut();
            proxy.unblock();
            pause(round % 3 * 150);
            proxy.down();
            pause(50);
            proxy.up();
            if round >= 15 && publishing.is_finished() {
                break;
            }
        }
    });
    wait_well(&broker, "flaps");
    check(&kafka, "flaps", 0..1000);
}

#[test]
fn nothing_is_lost_or_doubled_when_kafka_has_forgotten_us_in_a_long_outage() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let (kafka, proxy) = linked("outage");
    let mut broker = gateway(proxy.address(), &["outage"]);
    publish(&broker, "outage", 0..40);
    wait_well(&broker, "outage");
    let mut next = 40;
    for (are_answers_lost, is_restarted) in
        [(true, false), (false, false), (true, true), (false, true)]
    {
        if are_answers_lost {
            proxy.hold_replies();
        } else {
            proxy.block();
        }
        publish(&broker, "outage", next..next + 40);
        wait_in_doubt(&broker, "outage");
        proxy.down();
        proxy.unblock();
        publish(&broker, "outage", next + 40..next + 80);
        if is_restarted {
            broker.restart().unwrap();
        }
        kafka.forget_producers("outage").unwrap();
        proxy.up();
        wait_well(&broker, "outage");
        next += 80;
    }
    check(&kafka, "outage", 0..next);
}
