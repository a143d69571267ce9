//! Real clients publish to the product, and what they published is read back from Apache Kafka by
//! real readers: key, headers, order, nothing more and nothing less. And what one client leaves
//! behind (retained messages, wills) reaches another.
//!
//! mosquitto_pub and mosquitto_sub, paho-mqtt, rumqttc; confluent-kafka and kcat.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod delivering;
mod rumqttc_client;
mod who;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};
use tests::kafka::records::{self, Record, read, read_with_kcat};
use tests::kafka::{self, Kafka};
use tests::mqtt::Version;
use tests::{mosquitto, python, skip};

use who::{COUNT, Program, Who};

/// The headers of a record that nobody gave properties to.
const PLAIN_HEADERS: [&str; 6] = [
    "tg-id",
    "tg-time",
    "tg-time-quality",
    "mqtt-topic",
    "mqtt-client-id",
    "mqtt-qos",
];

/// Everything that this suite talks to, or the reason for a skip.
fn peers() -> Result<(), String> {
    kafka::available()?;
    python::available()?;
    mosquitto::clients()?;
    records::kcat()?;
    Ok(())
}

/// A broker with a log of its own for each test, each on its way to a topic of its name.
fn bridged_broker() -> &'static BrokerProcess {
    static BROKER: OnceLock<BrokerProcess> = OnceLock::new();
    BROKER.get_or_init(|| {
        let kafka = Kafka::shared().unwrap();
        let mut tables = String::new();
        for log in ["plain", "properties"] {
            kafka.create_topic(log, 3, &[]).unwrap();
            tables.push_str(&format!(
                "[[log]]\nname = \"{log}\"\nfilters = [\"{log}/#\"]\npartitions = 6\n"
            ));
        }
        let options = Options {
            tables,
            ..Options::default()
        };
        let routes = [("plain", "plain"), ("properties", "properties")];
        BrokerProcess::start(options.bridged(kafka.bootstrap(), &routes)).unwrap()
    })
}

/// Records of the client, in order of their offsets in the log.
fn of_client<'r>(records: &'r [Record], client_id: &str) -> Vec<&'r Record> {
    let is_of = |record: &&Record| record.header("mqtt-client-id").unwrap() == client_id;
    let mut found: Vec<&Record> = records.iter().filter(is_of).collect();
    found.sort_by_key(|record| record.origin().unwrap().offset);
    found
}

/// Waits until the topic has this many records, and the bridge nothing more to send.
fn read_back(broker: &BrokerProcess, topic: &str, count: usize) -> Vec<Record> {
    let kafka = Kafka::shared().unwrap();
    wait_for("the records in Kafka", PATIENCE, || {
        let ends: i64 = kafka.end_offsets(topic)?.iter().sum();
        Ok((ends >= i64::try_from(count)?).then_some(()))
    })
    .unwrap();
    broker.wait_replicated(topic).unwrap();
    let records = read(kafka.bootstrap(), topic).unwrap();
    assert_eq!(records.len(), count);
    records
}

#[test]
fn records_of_every_client_are_in_kafka_with_key_headers_and_order() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let broker = bridged_broker();
    let port = broker.mqtt().port();
    for who in Who::all() {
        who.publish_numbers(port, &format!("plain/{}", who.client_id()));
    }
    let all = Who::all().count() * COUNT;
    let records = read_back(broker, "plain", all);

    for who in Who::all() {
        let client_id = who.client_id();
        let own = of_client(&records, &client_id);
        let payloads: Vec<String> = own
            .iter()
            .map(|record| record.value_text().trim().to_owned())
            .collect();
        let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        assert_eq!(payloads, expected, "{client_id}");
        for record in own {
            check_plain_record(record, who);
        }
    }
    check_order(&records);

    // The other reader sees the same.
    let mut with_kcat = read_with_kcat(Kafka::shared().unwrap().bootstrap(), "plain").unwrap();
    let mut records = records;
    for list in [&mut with_kcat, &mut records] {
        list.sort_by_key(|record| (record.partition, record.offset));
    }
    assert_eq!(with_kcat, records);
}

fn check_plain_record(record: &Record, who: Who) {
    let client_id = who.client_id();
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, PLAIN_HEADERS, "{record:?}");
    assert_eq!(record.key_text(), client_id);
    let header = |name| record.header(name).unwrap();
    assert_eq!(header("mqtt-topic"), format!("plain/{client_id}"));
    assert_eq!(header("mqtt-qos"), who.qos.to_string());
    assert!(["synced", "estimated"].contains(&&*header("tg-time-quality")));
    assert_eq!(header("tg-time"), record.timestamp_ms.to_string());
    let origin = record.origin().unwrap();
    assert_eq!((&*origin.gateway, &*origin.log), ("gw-1", "plain"));
    // Six partitions into three, as Kafka's own partitioner would.
    assert_eq!(record.partition, i32::from(origin.partition % 3));
}

/// Each partition of the log is in its partition of the topic from offset 0 on, without a gap, each
/// record once, in order.
fn check_order(records: &[Record]) {
    let mut next: BTreeMap<u16, u64> = BTreeMap::new();
    let mut by_place: Vec<&Record> = records.iter().collect();
    by_place.sort_by_key(|record| (record.partition, record.offset));
    for record in by_place {
        let origin = record.origin().unwrap();
        let expected = next.entry(origin.partition).or_default();
        assert_eq!(origin.offset, *expected, "{record:?}");
        *expected += 1;
    }
}

/// The properties that each client gives its message, as MQTT names them.
const CONTENT_TYPE: &str = "text/plain";
const RESPONSE_TOPIC: &str = "answers/7";
const CORRELATION_DATA: &str = "question-7";
const USER_PROPERTIES: [(&str, &str); 4] = [
    ("unit", "C"),
    ("room", "3"),
    ("unit", "K"),
    ("tg-id", "forged"),
];

#[test]
fn properties_of_every_client_are_headers_in_kafka() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let broker = bridged_broker();
    let port = broker.mqtt().port();
    let topic = "properties/a";
    let who = |program| Who {
        program,
        version: Version::V5,
        qos: 1,
    };
    mosquitto_with_properties(who(Program::Mosquitto), port, topic);
    paho_with_properties(who(Program::Paho), port, topic);
    let client_id = who(Program::Rumqttc).client_id();
    let publish = rumqttc_client::Publish {
        client_id: &client_id,
        topic,
        qos: 1,
        retain: true,
        payloads: &["message".to_owned()],
    };
    rumqttc_client::publish_v5(port, &publish, rumqttc_client::properties());

    let records = read_back(broker, "properties", 3);
    for program in Program::ALL {
        let record = of_client(&records, &who(program).client_id())[0];
        let header = |name| record.header(name).unwrap();
        let time_ms: i64 = header("tg-time").parse().unwrap();
        let expires_ms: i64 = header("mqtt-expires").parse().unwrap();
        // An hour, and what passes between two looks at the clock on a busy machine.
        let life_ms = expires_ms - time_ms;
        assert!((3_590_000..=3_610_000).contains(&life_ms), "{life_ms} ms");
        let after_plain: Vec<(&str, &str)> = record
            .headers
            .iter()
            .skip(PLAIN_HEADERS.len())
            .map(|(name, value)| (&**name, str::from_utf8(value.as_deref().unwrap()).unwrap()))
            .filter(|(name, _)| *name != "mqtt-expires")
            .collect();
        let expected = [
            ("mqtt-retain", "1"),
            ("mqtt-content-type", CONTENT_TYPE),
            ("mqtt-response-topic", RESPONSE_TOPIC),
            ("mqtt-correlation-data", CORRELATION_DATA),
            ("mqtt-payload-format", "utf-8"),
            ("unit", "C"),
            ("room", "3"),
            ("unit", "K"),
            ("user-tg-id", "forged"),
        ];
        assert_eq!(after_plain, expected, "{program:?}");
        assert_eq!(record.value_text(), "message");
        record.origin().unwrap();
    }
    let mut with_kcat = read_with_kcat(Kafka::shared().unwrap().bootstrap(), "properties").unwrap();
    let mut records = records;
    for list in [&mut with_kcat, &mut records] {
        list.sort_by_key(|record| (record.partition, record.offset));
    }
    assert_eq!(with_kcat, records);
}

fn mosquitto_with_properties(who: Who, port: u16, topic: &str) {
    let mut arguments = vec!["-r", "-m", "message"];
    for property in [
        ["content-type", CONTENT_TYPE],
        ["response-topic", RESPONSE_TOPIC],
        ["correlation-data", CORRELATION_DATA],
        ["payload-format-indicator", "1"],
        ["message-expiry-interval", "3600"],
    ] {
        arguments.extend(["-D", "PUBLISH"]);
        arguments.extend(property);
    }
    for (name, value) in USER_PROPERTIES {
        arguments.extend(["-D", "PUBLISH", "user-property", name, value]);
    }
    who.mosquitto_pub(port, topic, &arguments, "");
}

fn paho_with_properties(who: Who, port: u16, topic: &str) {
    let (port, client_id) = (port.to_string(), who.client_id());
    let mut arguments = vec![&*port, "--topic", topic, "--protocol", "5", "--retain"];
    arguments.extend(["--payload", "message"]);
    arguments.extend(["--client-id", &client_id, "--payload-format", "1"]);
    arguments.extend(["--content-type", CONTENT_TYPE]);
    arguments.extend(["--response-topic", RESPONSE_TOPIC]);
    arguments.extend(["--correlation-data", CORRELATION_DATA]);
    arguments.extend(["--message-expiry", "3600"]);
    for (name, value) in USER_PROPERTIES {
        arguments.extend(["--user-property", name, value]);
    }
    python::run("mqtt_publish.py", &arguments, PATIENCE).unwrap();
}
