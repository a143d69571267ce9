//! Replays: what was published before a client subscribed, then what is published now.

use std::num::NonZeroU16;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use broker::{Authentication, Authorizer, Client, ConnectAttempt, Limits};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Acknowledgement, Delivery, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Suback,
    Subscribe, Subscription, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe,
    UserProperty,
};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, go, id, publish, qos1, staying, string, text,
    wait_for,
};

fn of_qos(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..qos1() }
}

/// Subscribes to filters; the property goes with MQTT 5.
fn try_subscribe(
    client: &mut TestClient,
    filters: &[&str],
    property: Option<&str>,
    options: SubscriptionOptions,
) -> Suback {
    let subscriptions = filters.iter().map(|filter| Subscription {
        filter: filter.parse().unwrap(),
        options,
    });
    let user_properties = property.into_iter().map(|value| UserProperty {
        name: string("replay-from"),
        value: string(value),
    });
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: subscriptions.collect(),
        subscription_identifier: None,
        user_properties: user_properties.collect(),
    }));
    match client.receive() {
        Packet::Suback(suback) => suback,
        other => panic!("{other:?} in the place of SUBACK"),
    }
}

/// Replays a filter from there on, as the version does it.
fn replay(
    client: &mut TestClient,
    version: ProtocolVersion,
    from: &str,
    filter: &str,
    options: SubscriptionOptions,
) {
    let suback = match version {
        V5 => try_subscribe(client, &[filter], Some(from), options),
        V311 => {
            let filter = format!("$replay/{from}/{filter}");
            try_subscribe(client, &[&filter], None, options)
        }
    };
    assert_eq!(suback.reason_codes, [ReasonCode::granted(options.qos)]);
}

fn unsubscribe(client: &mut TestClient, filter: &str) -> Vec<Packet> {
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(78),
        filters: vec![filter.parse().unwrap()],
        user_properties: Vec::new(),
    }));
    let mut before = Vec::new();
    loop {
        match client.receive() {
            Packet::Unsuback(_) => return before,
            packet => before.push(packet),
        }
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Publishes numbers, each with its commit.
fn publish_numbers(client: &mut TestClient, topic: &str, range: std::ops::Range<u32>) {
    for number in numbers(range) {
        client.publish_acknowledged(topic, number);
    }
}

fn wait_until_live(broker: &TestBroker) {
    wait_for("live messages", || {
        broker.probe.counters().replays.get() == 0
    });
}

fn come(broker: &TestBroker, version: ProtocolVersion) -> TestClient {
    TestClient::connect(broker.address(), staying(version, "client"))
}

fn small() -> Limits {
    Limits {
        mailbox_bytes_max: 16_384,
        packet_bytes_max: 16_384,
        inflight_max: NonZeroU16::new(4).unwrap(),
        ..Limits::default()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

#[test]
fn history_comes_from_each_kind_of_beginning_and_live_messages_follow() {
    let broker = TestBroker::start(Setup {
        memory: &["a/live"],
        ..Setup::default()
    });
    let mut publisher = broker.client(V5, "publisher");
    publish_numbers(&mut publisher, "a/b", 0..10);
    publisher.publish_acknowledged("b", "another");
    std::thread::sleep(Duration::from_millis(50));
    let commit = broker.store.durable().next();
    let time_ms = broker.store.now().ms;
    let seconds = time_ms.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let time = format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        date(days),
        second / 3_600,
        second / 60 % 60,
        second % 60,
        time_ms.rem_euclid(1_000)
    );
    std::thread::sleep(Duration::from_millis(50));
    publish_numbers(&mut publisher, "a/b", 10..20);
    let commit = format!("commit:{}", commit.0);
    for version in BOTH {
        for (from, first) in [
            ("-1h", 0),
            ("-3600s", 0),
            ("-60m", 0),
            ("-1d", 0),
            ("2020-01-01T00:00:00Z", 0),
            (&time, 10),
            ("commit:0", 0),
            (&commit, 10),
            ("last:1", 19),
            ("last:7", 13),
            ("last:15", 5),
            ("last:100", 0),
            ("-0s", 20),
            ("2999-01-01T00:00:00Z", 20),
            ("commit:18446744073709551615", 20),
        ] {
            let mut client = broker.client(version, "client");
            replay(&mut client, version, from, "a/#", qos1());
            let count = 20 - first as usize;
            assert_eq!(client.receive_payloads(count), numbers(first..20), "{from}");
            client.expect_nothing();
            wait_until_live(&broker);
            assert_eq!(broker.probe.status().subscriptions, 1);
            // What is in no log is in no other replay.
            publisher.publish(publish(0, "a/live", "now"));
            assert_eq!(client.receive_payloads(1), ["now"], "{from}");
            client.expect_nothing();
        }
    }
}

/// The day of the calendar that is so many days after 1970 began.
fn date(days: i64) -> String {
    let (mut year, mut days) = (1970, days);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[test]
fn history_and_live_messages_come_without_a_gap_or_twice_while_others_publish() {
    for (setup, qos) in [
        (Setup::default(), QoS::AtLeastOnce),
        (Setup::with_limits(small()), QoS::AtLeastOnce),
        (Setup::default(), QoS::ExactlyOnce),
    ] {
        let broker = TestBroker::start(setup);
        let mut publisher = broker.client(V5, "publisher");
        let publish_qos = move |client: &mut TestClient, number: u32| {
            let message = publish(1, "a/b", format!("{number}{:300}", ""));
            match qos {
                QoS::ExactlyOnce => {
                    client.publish(Publish {
                        delivery: Delivery::ExactlyOnce {
                            packet_id: id(1),
                            dup: false,
                        },
                        ..message
                    });
                    let acknowledgement = Acknowledgement::new(id(1), ReasonCode::Success);
                    assert!(matches!(client.receive(), Packet::Pubrec(_)));
                    client.send(Packet::Pubrel(acknowledgement));
                    assert!(matches!(client.receive(), Packet::Pubcomp(_)));
                }
                _ => {
                    client.publish(message);
                    client.receive_puback();
                }
            }
        };
        for number in 0..300 {
            publish_qos(&mut publisher, number);
        }
        let address = broker.address();
        let publishing = std::thread::spawn(move || {
            for number in 300..700 {
                publish_qos(&mut publisher, number);
            }
            publisher
        });
        let subscribers: Vec<_> = (0..4)
            .map(|subscriber: u32| {
                std::thread::sleep(Duration::from_millis(60));
                std::thread::spawn(move || {
                    let version = BOTH[subscriber as usize % 2];
                    let client_id = format!("client-{subscriber}");
                    let mut client = TestClient::connect(address, staying(version, &client_id));
                    replay(&mut client, version, "-1h", "a/+", of_qos(qos));
                    let payloads = client.receive_payloads(700).into_iter();
                    let payloads: Vec<_> = payloads.map(|p| p.trim_end().to_owned()).collect();
                    assert_eq!(payloads, numbers(0..700));
                    client
                })
            })
            .collect();
        let mut publisher = publishing.join().unwrap();
        let clients: Vec<_> = subscribers.into_iter().map(|s| s.join().unwrap()).collect();
        wait_until_live(&broker);
        assert_eq!(broker.probe.status().subscriptions, 4);
        publish_qos(&mut publisher, 700);
        for mut client in clients {
            assert_eq!(client.receive_payloads(1)[0].trim_end(), "700");
            client.expect_nothing();
        }
    }
}

#[test]
fn messages_of_qos_0_that_are_in_the_log_are_replayed_and_with_the_smaller_qos() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..300 {
        publisher.publish(publish(number % 3, "a", format!("{number:0500}")));
        if number % 3 > 0 {
            publisher.receive_puback();
        }
    }
    publisher.ping();
    broker.commit();
    for version in BOTH {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = broker.client(version, "client");
            replay(&mut client, version, "commit:0", "a", of_qos(qos));
            for number in 0..300 {
                let message = client.receive_publish();
                assert_eq!(text(&message.payload), format!("{number:0500}"));
                let published = if number % 3 == 0 {
                    QoS::AtMostOnce
                } else {
                    QoS::AtLeastOnce
                };
                assert_eq!(message.delivery.qos(), qos.min(published));
            }
            client.expect_nothing();
        }
    }
}

#[test]
fn history_that_a_mailbox_has_no_room_for_waits_in_the_log_and_holds_up_nobody() {
    let broker = TestBroker::start(Setup::with_limits(small()));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..200 {
        publisher.publish_acknowledged("a", format!("{number:01000}"));
    }
    for version in BOTH {
        let mut client = broker.client(version, "client");
        client.subscribe("live");
        replay(&mut client, version, "commit:0", "a", qos1());
        wait_for("a full queue", || {
            broker.probe.status().queued_bytes > 2_000
        });
        for number in 0..10 {
            publisher.publish_acknowledged("live", format!("{number:0100}"));
        }
        assert!(broker.probe.status().queued_bytes <= 16_384 + 4_096);
        let (mut history, mut live, mut live_after) = (0, 0, 0);
        while history < 200 || live < 10 {
            let message = client.receive_publish();
            let number: u32 = text(&message.payload).parse().unwrap();
            match message.topic.unwrap().as_str() {
                "a" => {
                    assert_eq!(number, history);
                    history += 1;
                }
                _ => {
                    assert_eq!(number, live);
                    live += 1;
                    live_after = history;
                }
            }
        }
        assert!(
            live_after < 100,
            "the last live message came after {live_after} old ones"
        );
        client.expect_nothing();
    }
}

#[test]
fn replay_goes_on_when_its_client_is_back_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut broker = TestBroker::start_at(&path, Setup::with_limits(small()));
    let mut published = 0;
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut publisher = broker.client(V5, "publisher");
            publish_exactly(&mut publisher, published..published + 300);
            let first = published;
            published += 300;
            drop(publisher);
            let mut client = come(&broker, version);
            replay(&mut client, version, "last:300", "a", of_qos(qos));
            let mut received = client.receive_payloads(50);
            for round in 0..4 {
                // Some are under way, others wait.
                let mut publisher = broker.client(V5, "publisher");
                publish_exactly(&mut publisher, published..published + 20);
                published += 20;
                drop(publisher);
                go(&broker, client);
                if round % 2 == 1 {
                    broker.stop();
                    broker = TestBroker::start_at(&path, Setup::with_limits(small()));
                }
                client = come(&broker, version);
                received.extend(client.receive_payloads(30));
            }
            while received.len() < (published - first) as usize {
                received.extend(client.receive_payloads(1));
            }
            assert!(received == numbers(first..published), "{received:?}");
            client.expect_nothing();
            wait_until_live(&broker);
            assert_eq!(unsubscribe(&mut client, "a"), []);
            go(&broker, client);
        }
    }
    broker.stop();
}

/// With QoS 2.
fn publish_exactly(client: &mut TestClient, range: std::ops::Range<u32>) {
    for number in numbers(range) {
        client.publish(Publish {
            delivery: Delivery::ExactlyOnce {
                packet_id: id(9),
                dup: false,
            },
            ..publish(0, "a", number)
        });
        assert!(matches!(client.receive(), Packet::Pubrec(_)));
        let acknowledgement = Acknowledgement::new(id(9), ReasonCode::Success);
        client.send(Packet::Pubrel(acknowledgement));
        assert!(matches!(client.receive(), Packet::Pubcomp(_)));
    }
}

/// What a SIGKILL leaves is a copy of the folder.
#[test]
fn replay_goes_on_after_a_crash_with_nothing_lost_and_qos_2_once() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for live in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data");
            let broker = TestBroker::start_at(&path, Setup::with_limits(small()));
            let mut publisher = broker.client(V5, "publisher");
            publish_exactly(&mut publisher, 0..100);
            let mut client = come(&broker, V5);
            replay(&mut client, V5, "commit:0", "a", of_qos(qos));
            let count: u32 = if live { 98 } else { 40 };
            let before = client.receive_payloads(count as usize);
            assert_eq!(before, numbers(0..count));
            if live {
                // The last ones are under way, and live ones behind them.
                wait_until_live(&broker);
                publish_exactly(&mut publisher, 100..110);
            } else {
                client.ping();
            }
            broker.commit();
            let after_crash = folder.path().join("after");
            copy(&path, &after_crash);
            drop(client);
            broker.stop();

            let broker = TestBroker::start_at(&after_crash, Setup::with_limits(small()));
            let mut client = come(&broker, V5);
            let mut publisher = broker.client(V5, "publisher");
            let end = if live { 110 } else { 100 };
            publish_exactly(&mut publisher, end..end + 10);
            let mut after: Vec<u32> = Vec::new();
            while after.last() != Some(&(end + 9)) {
                after.push(client.receive_payloads(1)[0].parse().unwrap());
            }
            client.expect_nothing();
            let expected = count..end + 10;
            match qos {
                QoS::ExactlyOnce => assert_eq!(after, expected.collect::<Vec<_>>()),
                // Some come again, but in order and without a gap.
                _ => {
                    assert!(after[0] <= expected.start, "{after:?}");
                    assert_eq!(after, (after[0]..expected.end).collect::<Vec<_>>());
                }
            }
            broker.stop();
        }
    }
}

#[test]
fn unsubscribing_in_the_middle_ends_a_replay_by_each_of_its_names() {
    let broker = TestBroker::start(Setup::with_limits(small()));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..200 {
        publisher.publish_acknowledged("a", format!("{number:01000}"));
    }
    for version in BOTH {
        for name in ["a", "$replay/commit:0/a", "$replay/-1h/a"] {
            let mut client = broker.client(version, "client");
            replay(&mut client, version, "commit:0", "a", qos1());
            client.receive_payloads(5);
            let on_their_way = unsubscribe(&mut client, name);
            assert!(on_their_way.len() <= 4, "{on_their_way:?}");
            for packet in on_their_way {
                let Packet::Publish(message) = packet else {
                    panic!("{packet:?}");
                };
                let packet_id = message.delivery.packet_id().unwrap();
                let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
                client.send(Packet::Puback(puback));
            }
            client.expect_nothing();
            publisher.publish_acknowledged("a", format!("{:01000}", 0));
            client.expect_nothing();
            wait_until_live(&broker);
            assert_eq!(broker.probe.status().subscriptions, 0);
            // What has become live ends as well.
            replay(&mut client, version, "last:1", "a", qos1());
            client.receive_payloads(1);
            wait_until_live(&broker);
            assert_eq!(unsubscribe(&mut client, name), []);
            publisher.publish_acknowledged("a", format!("{:01000}", 0));
            client.expect_nothing();
        }
    }
}

#[test]
fn what_is_no_replay_is_refused_with_what_is_allowed_and_the_rest_of_the_packet_is_not() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("c", "retained");
    publisher.publish_acknowledged("b", "old");
    let mut client = broker.client(V5, "five");
    let reason = |suback: &Suback| suback.problem.reason_string.clone().unwrap().to_string();
    let granted = ReasonCode::GrantedQos1;
    for (filter, says) in [
        ("$replay/yesterday/a", "allowed are -90s"),
        ("$replay/last:0/a", "allowed are last:1 to last:100000"),
        ("$replay/last:100001/a", "allowed are last:1 to last:100000"),
        ("$replay/-1h", "a topic filter is to follow"),
        ("$replay/-1h/$replay/-1h/a", "a topic filter is to follow"),
    ] {
        let suback = try_subscribe(&mut client, &["x", filter, "y"], None, qos1());
        let code = ReasonCode::TopicFilterInvalid;
        assert_eq!(suback.reason_codes, [granted, code, granted], "{filter}");
        assert!(reason(&suback).contains(says), "{}", reason(&suback));
    }
    let suback = try_subscribe(
        &mut client,
        &["$replay/commit:0/b", "a", "$share/g/a"],
        Some("1h"),
        qos1(),
    );
    let code = ReasonCode::ImplementationSpecificError;
    assert_eq!(
        suback.reason_codes,
        [granted, code, code],
        "the filter's own beginning counts"
    );
    assert!(reason(&suback).contains("allowed are -90s"));
    assert_eq!(client.receive_payloads(1), ["old"]);
    let suback = try_subscribe(&mut client, &["$replay/-1h/$share/g/a"], None, qos1());
    let code = ReasonCode::SharedSubscriptionsNotSupported;
    assert_eq!(suback.reason_codes, [code]);
    // Retained messages are history.
    let suback = try_subscribe(&mut client, &["c"], Some("2999-01-01T00:00:00Z"), qos1());
    assert_eq!(suback.reason_codes, [granted]);
    client.expect_nothing();

    let mut client = broker.client(V311, "old");
    let filters = [
        "x",
        "$replay/yesterday/a",
        "$replay/-1h",
        "$replay/last:0/a",
    ];
    let suback = try_subscribe(&mut client, &filters, None, qos1());
    let code = ReasonCode::UnspecifiedError;
    assert_eq!(suback.reason_codes, [granted, code, code, code]);
}

#[test]
fn replay_is_refused_where_there_is_no_log() {
    let broker = TestBroker::start(Setup {
        is_degraded: true,
        ..Setup::default()
    });
    let mut client = broker.client(V5, "five");
    let suback = try_subscribe(&mut client, &["a"], Some("-1h"), qos1());
    assert_eq!(
        suback.reason_codes,
        [ReasonCode::ImplementationSpecificError]
    );
    assert!(suback.problem.reason_string.is_some());
    let mut client = broker.client(V311, "old");
    let suback = try_subscribe(&mut client, &["$replay/-1h/a", "a"], None, qos1());
    let codes = [ReasonCode::UnspecifiedError, ReasonCode::GrantedQos1];
    assert_eq!(suback.reason_codes, codes);
}

#[test]
fn a_fifth_replay_is_refused_until_one_is_live() {
    let broker = TestBroker::start(Setup::with_limits(small()));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..100 {
        publisher.publish_acknowledged("a/b/c/d", format!("{number:01000}"));
    }
    for version in BOTH {
        let mut client = broker.client(version, "client");
        let filters = ["a/#", "a/b/#", "a/b/c/#", "a/b/c/d", "+/b/c/d"];
        let filters = filters.map(|filter| format!("$replay/commit:0/{filter}"));
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        let suback = try_subscribe(&mut client, &filters, None, qos1());
        let refused = match version {
            V5 => ReasonCode::QuotaExceeded,
            V311 => ReasonCode::UnspecifiedError,
        };
        let granted = ReasonCode::GrantedQos1;
        let codes = [granted, granted, granted, granted, refused];
        assert_eq!(suback.reason_codes, codes);
        let mut counts = [0; 100];
        for _ in 0..400 {
            let number: usize = client.receive_payloads(1)[0].parse().unwrap();
            counts[number] += 1;
        }
        assert_eq!(counts, [4; 100]);
        client.expect_nothing();
        wait_until_live(&broker);
        replay(&mut client, version, "last:1", "+/b/c/d", qos1());
        assert_eq!(client.receive_payloads(1).len(), 1);
    }
}

/// What it may not have of its own or of others it does not get.
#[derive(Debug)]
struct NoHistory;

impl Authorizer for NoHistory {
    fn authenticate(&self, _: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(Ok(broker::Identity::new("anybody", Rc::new(()))))
    }

    fn may_publish(&self, _: Client<'_>, _: &TopicName, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: Client<'_>, filter: &TopicFilter) -> bool {
        filter.as_str() != "hidden"
    }

    fn may_replay(&self, client: Client<'_>, filter: &TopicFilter) -> bool {
        filter.as_str() != "secret" || client.client_id == "publisher"
    }

    fn may_receive(&self, _: Client<'_>, topic: &TopicName) -> bool {
        topic.as_str() != "a/secret"
    }
}

#[test]
fn replay_needs_a_permission_of_its_own_and_gives_no_more_than_a_subscription() {
    let broker = TestBroker::start(Setup {
        authorizer: Box::new(|| Rc::new(NoHistory)),
        ..Setup::default()
    });
    let mut publisher = broker.client(V5, "publisher");
    for topic in ["a/open", "a/secret", "secret", "hidden", "a/open"] {
        publisher.publish_acknowledged(topic, topic);
    }
    for version in BOTH {
        let mut client = broker.client(version, "client");
        let filters = [
            "$replay/-1h/secret",
            "$replay/-1h/hidden",
            "secret",
            "$replay/-1h/a/+",
        ];
        let suback = try_subscribe(&mut client, &filters, None, qos1());
        let refused = match version {
            V5 => ReasonCode::NotAuthorized,
            V311 => ReasonCode::UnspecifiedError,
        };
        let granted = ReasonCode::GrantedQos1;
        assert_eq!(suback.reason_codes, [refused, refused, granted, granted]);
        assert_eq!(client.receive_payloads(2), ["a/open", "a/open"]);
        client.expect_nothing();
    }
    let no_local = SubscriptionOptions {
        no_local: true,
        ..qos1()
    };
    replay(&mut publisher, V5, "commit:0", "secret", no_local);
    publisher.expect_nothing();
    replay(&mut publisher, V5, "commit:0", "secret", qos1());
    assert_eq!(publisher.receive_payloads(1), ["secret"]);
}

/// Payloads up to one, and SUBACK, in whatever order; every message is acknowledged.
fn payloads_up_to(client: &mut TestClient, last: &str) -> Vec<String> {
    let (mut payloads, mut is_answered) = (Vec::new(), false);
    while !is_answered || payloads.last().is_none_or(|payload| payload != last) {
        match client.receive() {
            Packet::Publish(message) => {
                payloads.push(text(&message.payload));
                let packet_id = message.delivery.packet_id().unwrap();
                let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
                client.send(Packet::Puback(puback));
            }
            Packet::Suback(_) => is_answered = true,
            other => panic!("{other:?}"),
        }
    }
    payloads
}

/// Sends SUBSCRIBE, and does not wait for its answer.
fn send_subscribe(client: &mut TestClient, filter: &str) {
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: filter.parse().unwrap(),
            options: qos1(),
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
}

#[test]
fn subscription_that_is_there_is_replaced_and_loses_nothing() {
    for version in BOTH {
        for from in ["last:3", "2999-01-01T00:00:00Z", "commit:9999", "-0s"] {
            let broker = TestBroker::start(Setup::with_limits(small()));
            let mut publisher = broker.client(V5, "publisher");
            let mut client = come(&broker, version);
            client.subscribe("a");
            go(&broker, client);
            publish_numbers(&mut publisher, "a", 0..200);
            let mut client = come(&broker, version);
            // It is behind, and asks for less than it is owed.
            let mut received = client.receive_payloads(1);
            send_subscribe(&mut client, &format!("$replay/{from}/a"));
            received.extend(payloads_up_to(&mut client, "199"));
            for number in numbers(0..200) {
                assert!(received.contains(&number), "{from}: {number} is missing");
            }
            wait_until_live(&broker);
        }
    }
}

#[test]
fn replay_that_is_asked_for_again_begins_anew_and_a_mere_subscription_does_not_interrupt_it() {
    for version in BOTH {
        let broker = TestBroker::start(Setup::with_limits(small()));
        let mut publisher = broker.client(V5, "publisher");
        publish_numbers(&mut publisher, "a", 0..200);
        let mut client = come(&broker, version);
        replay(&mut client, version, "last:150", "a", qos1());
        let mut received = client.receive_payloads(10);
        send_subscribe(&mut client, "a");
        received.extend(payloads_up_to(&mut client, "199"));
        assert_eq!(received, numbers(50..200));
        client.expect_nothing();
        wait_until_live(&broker);

        replay(&mut client, version, "commit:0", "a", qos1());
        client.receive_payloads(10);
        // What is live for the first is so for the second.
        publish_numbers(&mut publisher, "a", 200..210);
        send_subscribe(&mut client, "$replay/-0s/a");
        let received = payloads_up_to(&mut client, "209");
        assert!(received.len() < 100, "{received:?}");
        assert!(received.ends_with(&numbers(200..210)), "{received:?}");
        send_subscribe(&mut client, "$replay/last:50/a");
        assert_eq!(payloads_up_to(&mut client, "209"), numbers(160..210));
    }
}

#[test]
fn replay_begins_with_the_oldest_that_retention_has_left() {
    let mut log = TestLog::new("all", &["#"]);
    log.pin = None;
    let broker = TestBroker::start(Setup {
        retention_bytes: Some(2 << 20),
        ..Setup::with_logs(&[log])
    });
    let mut publisher = broker.client(V5, "publisher");
    let partition = broker
        .store
        .log("all")
        .unwrap()
        .partitions()
        .next()
        .unwrap();
    let mut published = 0;
    wait_for("retention", || {
        for _ in 0..50 {
            publisher.publish_acknowledged("a", format!("{published:020000}"));
            published += 1;
        }
        broker.store.log_start(partition).0 > 0
    });
    for version in BOTH {
        for from in ["-1h", "commit:1", "last:100000", "2020-01-01T00:00:00Z"] {
            let start = broker.store.log_start(partition).0;
            let mut client = broker.client(version, "client");
            replay(&mut client, version, from, "a", qos1());
            let first: u64 = client.receive_payloads(1)[0].parse().unwrap();
            assert!(first >= start, "{first} comes, {start} is the oldest");
            for number in first + 1..published {
                let payload = client.receive_payloads(1).remove(0);
                assert_eq!(payload.parse::<u64>().unwrap(), number, "{from}");
            }
            client.expect_nothing();
        }
    }
}

/// The client stays, and does nothing that writes its session down.
#[test]
fn replay_does_not_begin_again_far_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::with_limits(small()));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..100_u32 {
        publisher.publish_acknowledged("a", number.to_string());
    }
    let mut client = come(&broker, V5);
    replay(&mut client, V5, "commit:0", "a", qos1());
    assert_eq!(client.receive_payloads(60), numbers(0..60));
    client.ping();
    // Longer than the pause between two rounds.
    std::thread::sleep(Duration::from_secs(12));
    broker.commit();
    let after_crash = folder.path().join("after");
    copy(&path, &after_crash);
    drop(client);
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::with_limits(small()));
    let mut client = come(&broker, V5);
    let first: u32 = client.receive_payloads(1)[0].parse().unwrap();
    assert!((50..=60).contains(&first), "it begins again with {first}");
    let count = 99 - first as usize;
    assert_eq!(client.receive_payloads(count), numbers(first + 1..100));
    broker.stop();
}
