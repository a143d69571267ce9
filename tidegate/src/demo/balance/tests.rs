//! The balance finds each kind of untruth, and names the record.

use record_batch::{BatchBuilder, Record, RecordFields};

use super::{Balance, GatewayBooks, Report};
use crate::demo::device::{DeviceBooks, TopicBooks};
use crate::demo::message::{Kind, client_id};

const SEED: u64 = 3;
const TOPIC: &str = "demo.telemetry";

/// Device 0 has published `published` messages of each kind, the acknowledged kinds acknowledged.
fn books(published: u64, resends: u64) -> DeviceBooks {
    let topics = Kind::ALL.map(|kind| TopicBooks {
        kind,
        published,
        acknowledged: if kind.is_acknowledged() { published } else { 0 },
    });
    DeviceBooks {
        device: 0,
        topics: topics.to_vec(),
        resends,
        complaint: None,
    }
}

fn record_with(offset: u64, tg_id: u64, kind: Kind, payload: &str) -> Record {
    let (topic, client) = (kind.topic(0), client_id(0));
    let tg_id = format!("gw/1/telemetry-0/{tg_id}");
    let mut batch = BatchBuilder::new(i64::try_from(offset).unwrap());
    let headers: [(&[u8], Option<&[u8]>); 3] = [
        (b"tg-id", Some(tg_id.as_bytes())),
        (b"mqtt-topic", Some(topic.as_bytes())),
        (b"mqtt-client-id", Some(client.as_bytes())),
    ];
    let fields = RecordFields {
        value: Some(payload.as_bytes()),
        headers: &headers,
        ..RecordFields::default()
    };
    batch.append(&fields).unwrap();
    let (batch, _) = record_batch::Batch::parse(batch.finish()).unwrap();
    batch.records().next().unwrap().unwrap()
}

fn record(offset: u64, kind: Kind, number: u64) -> Record {
    let payload = kind.payload(SEED, 0, number);
    record_with(offset, offset, kind, &payload)
}

/// Kind and number of everything, in order: three messages of each kind.
fn all() -> Vec<(Kind, u64)> {
    let of_kind = |kind: Kind| (1..=3).map(move |number| (kind, number));
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

fn close(balance: Balance) -> Report {
    let gateway = GatewayBooks {
        replicated: balance.records,
        waiting: 0,
        lost: 0,
    };
    balance.close(gateway, &[])
}

fn report(resends: u64, records: &[(Kind, u64)]) -> Report {
    let mut balance = Balance::new(SEED, vec![books(3, resends)]);
    for (offset, (kind, number)) in (0..).zip(records) {
        balance.take(TOPIC, 0, &record(offset, *kind, *number));
    }
    close(balance)
}

/// The one check that failed, with its detail.
fn failed(report: &Report) -> (&'static str, String) {
    let mut failed = report.checks.iter().filter(|check| !check.passed);
    let check = failed.next().expect("a check fails");
    assert!(failed.next().is_none(), "{report:?}");
    (check.name, check.detail.clone())
}

fn has_passed(report: &Report) -> bool {
    report.checks.iter().all(|check| check.passed)
}

#[test]
fn everything_passes_when_each_message_is_there_once_in_order() {
    let report = report(0, &all());
    assert!(has_passed(&report), "{report:?}");
    assert_eq!((report.acknowledged, report.acknowledged_upstream), (9, 9));
    assert_eq!((report.qos0_sent, report.qos0_upstream), (3, 3));
    assert_eq!((report.upstream_records, report.copies), (12, 0));
}

#[test]
fn missing_message_is_named_with_its_neighbours_offsets() {
    let mut records = all();
    records.retain(|record| *record != (Kind::State, 2));
    let (name, detail) = failed(&report(0, &records));
    assert_eq!(name, "nothing acknowledged is lost");
    assert!(
        detail.contains(
            "press-01 plant/line1/press-01/state message 2: demo.telemetry-0 has nothing between \
             message 1 (offset 3) and message 3 (offset 4)"
        ),
        "{detail}"
    );
}

#[test]
fn missing_message_of_qos_0_is_no_fault() {
    let mut records = all();
    records.retain(|(kind, _)| *kind != Kind::Vibration);
    let report = report(0, &records);
    assert!(has_passed(&report), "{report:?}");
    assert_eq!((report.qos0_sent, report.qos0_upstream), (3, 0));
}

#[test]
fn repeated_tg_id_is_named_with_both_offsets() {
    let mut balance = Balance::new(SEED, vec![books(3, 5)]);
    for (offset, (kind, number)) in (0..).zip(all()) {
        balance.take(TOPIC, 0, &record(offset, kind, number));
    }
    let payload = Kind::Alarm.payload(SEED, 0, 2);
    balance.take(TOPIC, 0, &record_with(12, 1, Kind::Alarm, &payload));
    let (name, detail) = failed(&close(balance));
    assert_eq!(name, "nothing twice");
    assert!(
        detail.contains(
            "press-01 alarms/line1/press-01 message 2 at demo.telemetry-0 offset 12 and at offset \
             1, tg-id gw/1/telemetry-0/1"
        ),
        "{detail}"
    );
}

#[test]
fn copies_are_no_fault_when_the_device_has_sent_them() {
    let mut records = all();
    records.insert(3, (Kind::Alarm, 3));
    let with_resend = report(1, &records);
    assert!(has_passed(&with_resend), "{with_resend:?}");
    assert_eq!(with_resend.copies, 1);
    let (name, detail) = failed(&report(0, &records));
    assert_eq!(name, "nothing twice");
    assert!(detail.contains("press-01: 1 copies, 0 resends"), "{detail}");
}

#[test]
fn copy_of_qos_0_is_a_fault_however_often_was_resent() {
    let mut records = all();
    records.push((Kind::Vibration, 3));
    assert_eq!(failed(&report(9, &records)).0, "nothing twice");
}

#[test]
fn later_message_before_an_earlier_one_is_named() {
    let mut records = all();
    records.swap(6, 7);
    let (name, detail) = failed(&report(0, &records));
    assert_eq!(name, "order is kept");
    assert!(
        detail.contains("temperature message 1 at demo.telemetry-0 offset 7: after message 2"),
        "{detail}"
    );
}

#[test]
fn topic_in_two_partitions_is_named() {
    let mut balance = Balance::new(SEED, vec![books(3, 0)]);
    for (offset, (kind, number)) in (0..).zip(all()) {
        let partition = i32::from((kind, number) == (Kind::State, 3));
        balance.take(TOPIC, partition, &record(offset, kind, number));
    }
    let (name, detail) = failed(&close(balance));
    assert_eq!(name, "order is kept");
    assert!(
        detail.contains("others are in demo.telemetry-0"),
        "{detail}"
    );
}

#[test]
fn record_is_unknown_when_a_byte_of_it_or_its_number_is_wrong() {
    let wrong = Kind::Alarm
        .payload(SEED, 0, 3)
        .replace("severity", "Severity");
    let unsent = Kind::Alarm.payload(SEED, 0, 4);
    for payload in [wrong.as_str(), unsent.as_str(), "", "7"] {
        let mut balance = Balance::new(SEED, vec![books(3, 0)]);
        for (offset, (kind, number)) in (0..).zip(all()) {
            balance.take(TOPIC, 0, &record(offset, kind, number));
        }
        balance.take(TOPIC, 0, &record_with(12, 12, Kind::Alarm, payload));
        let (name, detail) = failed(&close(balance));
        assert_eq!(name, "nothing invented");
        assert!(detail.contains("demo.telemetry-0 offset 12"), "{detail}");
    }
}

#[test]
fn gateway_is_taken_at_its_word() {
    let books_of = |replicated, waiting, lost| {
        let mut balance = Balance::new(SEED, vec![books(3, 0)]);
        for (offset, (kind, number)) in (0..).zip(all()) {
            balance.take(TOPIC, 0, &record(offset, kind, number));
        }
        let gateway = GatewayBooks {
            replicated,
            waiting,
            lost,
        };
        balance.close(gateway, &[])
    };
    assert!(has_passed(&books_of(12, 0, 0)));
    assert_eq!(failed(&books_of(11, 0, 0)).0, "the gateway's books agree");
    assert_eq!(failed(&books_of(12, 0, 1)).0, "the gateway's books agree");
    assert_eq!(failed(&books_of(12, 1, 0)).0, "everything has arrived");
}

#[test]
fn unacknowledged_messages_complaints_and_old_states_are_told() {
    let mut unsettled = books(3, 0);
    unsettled.topics[0].acknowledged = 2;
    let mut complaining = books(3, 0);
    complaining.complaint = Some("acknowledgement of packet id 9".to_owned());
    for (books, expected) in [
        (unsettled, "1 messages were not acknowledged in time"),
        (complaining, "press-01: acknowledgement of packet id 9"),
    ] {
        let mut balance = Balance::new(SEED, vec![books]);
        for (offset, (kind, number)) in (0..).zip(all()) {
            balance.take(TOPIC, 0, &record(offset, kind, number));
        }
        let (name, detail) = failed(&close(balance));
        assert_eq!(
            (name, detail.as_str()),
            ("everything has arrived", expected)
        );
    }
    let balance = Balance::new(SEED, vec![books(0, 0)]);
    let states = ["plant/line1/press-01/state".to_owned()];
    let report = balance.close(GatewayBooks::default(), &states);
    let (name, detail) = failed(&report);
    assert_eq!(name, "retained states are the last");
    assert!(detail.contains("plant/line1/press-01/state"), "{detail}");
}
