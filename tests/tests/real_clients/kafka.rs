//! What every client publishes is read back from Apache Kafka by real readers: key, headers, order,
//! nothing more and nothing less.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};
use tests::kafka::records::{self, Record, read, read_with_kcat};
use tests::kafka::{self, Kafka};
use tests::{python, skip};

use crate::message::{Connect, Message, Properties};
use crate::stage::Clients;
use crate::table::Part;
use crate::who::{Level, Program, Who, all_available};

/// Messages of each client in each QoS.
const COUNT: usize = 20;

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
    records::kcat()?;
    all_available()
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

/// Each client in each version, with each QoS, under a name of its own.
fn publishers() -> impl Iterator<Item = (String, Who, u8)> {
    let with_qos = |who: Who| [0, 1, 2].map(|qos| (who.id(&format!("q{qos}")), who, qos));
    Who::all().flat_map(with_qos)
}

#[test]
fn records_of_every_client_are_in_kafka_with_key_headers_and_order() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let broker = bridged_broker();
    let clients = Clients::default();
    for (client_id, who, qos) in publishers() {
        let topic = format!("plain/{client_id}");
        let messages: Vec<Message> = (0..COUNT)
            .map(|number| Message::new(&topic, number.to_string(), qos))
            .collect();
        let connect = Connect::new(&client_id);
        let published = clients.publish(who, broker.mqtt().port(), &connect, &messages);
        published.unwrap().ensure_all().unwrap();
    }
    let records = read_back(broker, "plain", publishers().count() * COUNT);

    for (client_id, _, qos) in publishers() {
        let own = of_client(&records, &client_id);
        let payloads: Vec<String> = own
            .iter()
            .map(|record| record.value_text().trim().to_owned())
            .collect();
        let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        assert_eq!(payloads, expected, "{client_id}");
        for record in own {
            check_plain_record(record, &client_id, qos);
        }
    }
    check_order(&records);
    compare_with_kcat("plain", records);
}

/// The other reader sees the same.
fn compare_with_kcat(topic: &str, mut records: Vec<Record>) {
    let mut with_kcat = read_with_kcat(Kafka::shared().unwrap().bootstrap(), topic).unwrap();
    for list in [&mut with_kcat, &mut records] {
        list.sort_by_key(|record| (record.partition, record.offset));
    }
    assert_eq!(with_kcat, records);
}

fn check_plain_record(record: &Record, client_id: &str, qos: u8) {
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, PLAIN_HEADERS, "{record:?}");
    assert_eq!(record.key_text(), client_id);
    let header = |name| record.header(name).unwrap();
    assert_eq!(header("mqtt-topic"), format!("plain/{client_id}"));
    assert_eq!(header("mqtt-qos"), qos.to_string());
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

/// The header of the last is not to be taken for the gateway's own.
fn user_properties(program: Program) -> Vec<(String, String)> {
    let mut pairs = [
        ("unit", "C"),
        ("unit", "K"),
        ("room", "3"),
        ("tg-id", "forged"),
    ];
    if program.can(Part::UserPropertyOrder) {
        pairs.swap(1, 2);
    }
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    pairs.map(own).to_vec()
}

#[test]
fn properties_of_every_client_are_headers_in_kafka() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let broker = bridged_broker();
    let clients = Clients::default();
    let client_id = |program: Program| format!("{}-properties", program.name());
    for program in Program::ALL {
        let level = Level::V5;
        let message = Message {
            properties: Properties {
                content_type: Some(CONTENT_TYPE.to_owned()),
                response_topic: Some(RESPONSE_TOPIC.to_owned()),
                correlation_data: Some(CORRELATION_DATA.into()),
                payload_format: Some(1),
                message_expiry: Some(3600),
                user: user_properties(program),
            },
            ..Message::new("properties/a", "message", 1).retained(true)
        };
        let (port, connect) = (broker.mqtt().port(), Connect::new(&client_id(program)));
        let published = clients.publish(Who { program, level }, port, &connect, &[message]);
        published.unwrap().ensure_all().unwrap();
    }

    let records = read_back(broker, "properties", Program::ALL.len());
    for program in Program::ALL {
        let record = of_client(&records, &client_id(program))[0];
        check_properties(record, program);
        assert_eq!(record.value_text(), "message");
        record.origin().unwrap();
    }
    compare_with_kcat("properties", records);
}

fn check_properties(record: &Record, program: Program) {
    let header = |name| record.header(name).unwrap();
    let time_ms: i64 = header("tg-time").parse().unwrap();
    let expires_ms: i64 = header("mqtt-expires").parse().unwrap();
    // An hour, and what passes between two looks at the clock on a busy machine.
    let life_ms = expires_ms - time_ms;
    assert!((3_590_000..=3_610_000).contains(&life_ms), "{life_ms} ms");
    let text = |value: &str| value.to_owned();
    let after_plain: Vec<(String, String)> = record
        .headers
        .iter()
        .skip(PLAIN_HEADERS.len())
        .map(|(name, value)| (&**name, str::from_utf8(value.as_deref().unwrap()).unwrap()))
        .filter(|(name, _)| *name != "mqtt-expires")
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    let mut expected = [
        ("mqtt-retain", "1"),
        ("mqtt-content-type", CONTENT_TYPE),
        ("mqtt-response-topic", RESPONSE_TOPIC),
        ("mqtt-correlation-data", CORRELATION_DATA),
        ("mqtt-payload-format", "utf-8"),
    ]
    .map(|(name, value)| (text(name), text(value)))
    .to_vec();
    expected.extend(user_properties(program));
    expected.last_mut().unwrap().0 = text("user-tg-id");
    assert_eq!(after_plain, expected, "{program:?}");
}
