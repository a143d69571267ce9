//! Publishing: acknowledgement, delivery, order, and which log a message goes to.

use std::time::Duration;

use broker::{Durability, KeyPart, KeyTemplate, Limits, RefusalCause, Unmapped};
use bytes::{Bytes, BytesMut};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    BinaryData, MessageProperties, Packet, PayloadFormat, Publish, QoS, ReasonCode, TopicAlias,
    UserProperty,
};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, publish, retained, string, text,
};

#[test]
fn message_of_either_qos_reaches_subscribers_of_both_versions() {
    let broker = TestBroker::start(Setup::default());
    let mut subscribers = BOTH.map(|version| broker.client(version, &format!("s-{version:?}")));
    for subscriber in &mut subscribers {
        subscriber.subscribe("a/#");
    }
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        for (packet_id, qos) in [(0, QoS::AtMostOnce), (7, QoS::AtLeastOnce)] {
            let payload = format!("{version:?} {qos}");
            publisher.publish(publish(packet_id, "a/b", &payload));
            if packet_id > 0 {
                assert_eq!(publisher.receive_puback(), (7, ReasonCode::Success));
            }
            for subscriber in &mut subscribers {
                let received = subscriber.receive_publish();
                assert_eq!(text(&received.payload), payload);
                assert_eq!(received.topic, Some("a/b".parse().unwrap()));
                assert_eq!(received.delivery.qos(), qos);
                assert!(!received.retain);
            }
        }
        publisher.send(Packet::Disconnect(mqtt::Disconnect::default()));
        assert_eq!(publisher.receive_end(), None);
    }
    assert_eq!(broker.records("all").len(), 4);
}

#[test]
fn puback_and_delivery_come_with_the_commit_and_not_before() {
    for version in BOTH {
        let broker = TestBroker::start(Setup::held());
        let mut subscriber = broker.client(version, "subscriber");
        subscriber.subscribe("#");
        let mut publisher = broker.client(version, "publisher");
        publisher.publish(publish(5, "a", "x"));
        publisher.expect_nothing();
        subscriber.expect_nothing();
        assert_eq!(broker.probe.status().pending_publishes, 1);

        broker.commit();
        assert_eq!(publisher.receive_puback(), (5, ReasonCode::Success));
        assert_eq!(subscriber.receive_payloads(1), ["x"]);
        assert_eq!(broker.probe.status().pending_publishes, 0);
    }
}

#[test]
fn log_with_an_interval_acknowledges_at_once_and_delivers_with_the_commit() {
    let log = TestLog {
        durability: Durability::Interval,
        ..TestLog::held("all", &["#"])
    };
    let broker = TestBroker::start(Setup::with_logs(&[log]));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "x");
    subscriber.expect_nothing();
    broker.commit();
    assert_eq!(subscriber.receive_payloads(1), ["x"]);
}

#[test]
fn message_of_a_memory_log_is_acknowledged_and_delivered_without_being_stored() {
    let broker = TestBroker::start(Setup {
        memory: &["panels/#"],
        ..Setup::held()
    });
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("panels/1", "x");
    assert_eq!(subscriber.receive_payloads(1), ["x"]);
    let counters = broker.probe.counters();
    assert_eq!((counters.published.get(), counters.live_only.get()), (0, 1));
}

#[test]
fn qos0_is_delivered_at_once_and_logged_with_the_commit() {
    let broker = TestBroker::start(Setup::held());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(0, "a", "x"));
    assert_eq!(subscriber.receive_payloads(1), ["x"]);
    assert_eq!(broker.records("all"), []);
    broker.commit();
    assert_eq!(broker.records("all").len(), 1);
}

/// Publishes with QoS 1 and does not wait.
fn publish_all(publisher: &mut TestClient, topics: &[&str]) {
    for (number, topic) in (1..).zip(topics) {
        publisher.publish(publish(number, topic, topic));
    }
}

#[test]
fn messages_of_a_commit_come_in_the_canonical_order_of_the_log() {
    let by_topic = |name, filters| TestLog {
        partitions: 4,
        key: KeyTemplate::new(vec![KeyPart::Topic]),
        ..TestLog::held(name, filters)
    };
    let broker = TestBroker::start(Setup::with_logs(&[
        by_topic("first", &["a/#"]),
        by_topic("second", &["b/#"]),
    ]));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    let topics = [
        "b/1", "a/5", "b/2", "a/4", "a/5", "a/3", "b/3", "a/2", "b/1", "a/1",
    ];
    publish_all(&mut publisher, &topics);
    subscriber.expect_nothing();
    assert_eq!(publisher.ping(), []);
    broker.commit();

    let received: Vec<String> = (0..topics.len())
        .map(|_| text(&subscriber.receive_publish().payload))
        .collect();
    let id = |log: &str| broker.store.log(log).unwrap().id;
    assert!(id("first") < id("second"));
    let of = |log: &str| broker.records(log).into_iter().map(|(topic, _)| topic);
    let expected: Vec<String> = of("first").chain(of("second")).collect();
    assert_ne!(expected[..6], ["a/5", "a/4", "a/5", "a/3", "a/2", "a/1"]);
    assert_eq!(received, expected);
    // Acknowledgements keep to the order of the publishes.
    let acknowledged: Vec<u16> = topics.map(|_| publisher.receive_puback().0).to_vec();
    assert_eq!(acknowledged, Vec::from_iter(1..=10));
}

#[test]
fn order_per_client_and_topic_holds_through_many_commits() {
    let log = TestLog {
        partitions: 4,
        ..TestLog::new("all", &["#"])
    };
    let broker = TestBroker::start(Setup::with_logs(&[log]));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publishers = ["p1", "p2", "p3"].map(|id| broker.client(V311, id));
    for round in 0..10_u32 {
        for (number, publisher) in publishers.iter_mut().enumerate() {
            for message in 0..50_u16 {
                let topic = format!("{number}/{}", message % 3);
                let payload = format!("{:04}", round * 50 + u32::from(message));
                publisher.publish(publish(message + 1, &topic, payload));
            }
        }
        for publisher in &mut publishers {
            let acknowledged: Vec<u16> = (0..50).map(|_| publisher.receive_puback().0).collect();
            assert_eq!(acknowledged, Vec::from_iter(1..=50));
        }
    }
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..1_500 {
        let received = subscriber.receive_publish();
        let topic = received.topic.unwrap();
        let before = last.insert(topic, received.payload.clone());
        assert!(before.is_none_or(|before| before < received.payload));
    }
    assert_eq!(last.len(), 9);
}

#[test]
fn puback_waits_for_those_of_earlier_publishes() {
    let broker = TestBroker::start(Setup {
        memory: &["memory"],
        ..Setup::held()
    });
    let mut publisher = broker.client(V5, "publisher");
    publish_all(&mut publisher, &["a", "memory"]);
    publisher.expect_nothing();
    broker.commit();
    assert_eq!(publisher.receive_puback().0, 1);
    assert_eq!(publisher.receive_puback().0, 2);
}

#[test]
fn message_goes_into_the_log_that_takes_it_and_into_one_only() {
    for unmapped in [Unmapped::Default, Unmapped::LiveOnly] {
        let broker = TestBroker::start(Setup {
            unmapped,
            memory: &["m/#"],
            ..Setup::with_logs(&[
                TestLog::new("first", &["+/x", "a/#"]),
                TestLog::new("second", &["b/#", "a/x"]),
            ])
        });
        let mut publisher = broker.client(V5, "publisher");
        for topic in ["a/x", "b/x", "b/y", "m/x", "other", "$dev/x"] {
            for retain in [false, true] {
                if retain && topic.starts_with('$') {
                    continue;
                }
                for packet_id in [0, 1] {
                    let payload = format!("{packet_id}{}", if retain { "r" } else { "" });
                    publisher.publish(Publish {
                        retain,
                        ..publish(packet_id, topic, payload)
                    });
                }
                assert_eq!(publisher.receive_puback().1, ReasonCode::Success);
            }
        }
        let records = |log: &str| {
            let records = broker.records(log).into_iter();
            let joined = records.map(|(topic, payload)| format!("{topic} {payload}"));
            joined.collect::<Vec<_>>()
        };
        let all = |topic: &str| ["0", "1", "0r", "1r"].map(|payload| format!("{topic} {payload}"));
        broker.commit();
        assert_eq!(records("first"), [all("a/x"), all("b/x")].concat());
        assert_eq!(records("second"), all("b/y"));
        let unretained = match unmapped {
            Unmapped::Default => vec!["other 1"],
            Unmapped::LiveOnly => vec![],
        };
        let memory = ["m/x 0r", "m/x 1r"];
        let expected = [&memory[..], &unretained, &["other 0r", "other 1r"]].concat();
        assert_eq!(records("default"), expected);
    }
}

#[test]
fn message_that_no_log_takes_goes_to_the_subscribers_of_the_moment() {
    for unmapped in [Unmapped::Default, Unmapped::LiveOnly] {
        let broker = TestBroker::start(Setup {
            unmapped,
            default_log: TestLog::held("default", &[]),
            ..Setup::with_logs(&[])
        });
        let mut subscriber = broker.client(V311, "subscriber");
        subscriber.subscribe("#");
        let mut publisher = broker.client(V5, "publisher");
        publisher.publish(publish(0, "a", "qos 0"));
        assert_eq!(subscriber.receive_payloads(1), ["qos 0"]);
        publisher.publish(publish(1, "a", "qos 1"));
        match unmapped {
            Unmapped::Default => {
                publisher.expect_nothing();
                subscriber.expect_nothing();
                broker.commit();
            }
            Unmapped::LiveOnly => {}
        }
        assert_eq!(publisher.receive_puback(), (1, ReasonCode::Success));
        assert_eq!(subscriber.receive_payloads(1), ["qos 1"]);
        broker.commit();
        let stored = usize::from(unmapped == Unmapped::Default);
        assert_eq!(broker.records("default").len(), stored);
    }
}

#[test]
fn topic_names_that_nobody_may_publish_to_are_refused() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    for filter in ["$SYS/#", "$other/#"] {
        subscriber.subscribe(filter);
    }
    let deep = "/".repeat(32);
    let refused = ["$SYS/x", "$share/g/x", "$replay/x", &deep];
    let mut v5 = broker.client(V5, "v5");
    for topic in refused {
        v5.publish(publish(1, topic, "x"));
        assert_eq!(
            v5.receive_puback(),
            (1, ReasonCode::TopicNameInvalid),
            "{topic}"
        );
    }
    // Retained, it would have to be logged, and a `$` topic never is.
    v5.publish(retained(publish(2, "$other/x", "x")));
    assert_eq!(v5.receive_puback(), (2, ReasonCode::TopicNameInvalid));
    for topic in refused {
        for packet_id in [0, 1] {
            let mut v311 = broker.client(V311, "v311");
            v311.publish(publish(packet_id, topic, "x"));
            assert_eq!(v311.receive_end(), None);
        }
        let mut v5 = broker.client(V5, "v5 again");
        v5.publish(publish(0, topic, "x"));
        assert_eq!(v5.receive_end(), Some(ReasonCode::TopicNameInvalid));
    }
    let mut v5 = broker.client(V5, "v5");
    v5.publish_acknowledged("$other/x", "live");
    assert_eq!(subscriber.receive_payloads(1), ["live"]);
    assert_eq!(broker.records("all"), []);
    let refusals = &broker.probe.counters().refused;
    assert_eq!(refusals.get(RefusalCause::TopicName), 17);
}

#[test]
fn record_has_the_key_and_everything_of_the_message() {
    let key = vec![
        KeyPart::TopicLevel(1),
        KeyPart::Literal("/".to_owned()),
        KeyPart::ClientId,
    ];
    let log = TestLog {
        key: KeyTemplate::new(key),
        ..TestLog::new("all", &["#"])
    };
    let broker = TestBroker::start(Setup::with_logs(&[log]));
    let mut publisher = broker.client(V5, "publisher");
    let before_ms = broker.store.now_ms();
    publisher.publish(Publish {
        properties: MessageProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_interval: Some(60),
            content_type: Some(string("text/plain")),
            response_topic: Some("answers".parse().unwrap()),
            correlation_data: Some(BinaryData::try_from(Bytes::from_static(b"\0\xff")).unwrap()),
            user_properties: vec![UserProperty {
                name: string("unit"),
                value: string("°C"),
            }],
        },
        ..publish(1, "sensors/press", "21.5")
    });
    publisher.receive_puback();
    let after_ms = broker.store.now_ms();

    let partition = broker
        .store
        .log("all")
        .unwrap()
        .partitions()
        .next()
        .unwrap();
    let mut reader = broker.store.partition_reader(partition, storage::Offset(0));
    let storage::Read::Batches(batches) = reader.read(1_000).unwrap() else {
        panic!("nothing there");
    };
    let record = batches[0].batch.records().next().unwrap().unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"press/publisher"[..]));
    let message = storage::Message::from_record(&record).unwrap();
    let expires_at_ms = message.expires_at_ms.unwrap();
    assert!((before_ms + 60_000..=after_ms + 60_000).contains(&expires_at_ms));
    assert_eq!(
        message,
        storage::Message {
            topic: "sensors/press".into(),
            payload: "21.5".into(),
            client_id: "publisher".into(),
            qos: 1,
            payload_is_utf8: true,
            expires_at_ms: Some(expires_at_ms),
            content_type: Some("text/plain".into()),
            response_topic: Some("answers".into()),
            correlation_data: Some(Bytes::from_static(b"\0\xff")),
            user_properties: vec![("unit".into(), "°C".into())],
            ..storage::Message::default()
        }
    );
}

#[test]
fn properties_reach_the_subscriber() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    let properties = MessageProperties {
        payload_format: Some(PayloadFormat::Utf8),
        message_expiry_interval: None,
        content_type: Some(string("text/plain")),
        response_topic: Some("answers".parse().unwrap()),
        correlation_data: Some(BinaryData::try_from(Bytes::from_static(b"c")).unwrap()),
        user_properties: vec![UserProperty {
            name: string("k"),
            value: string("v"),
        }],
    };
    for payload in ["small".to_owned(), "large".repeat(20_000)] {
        publisher.publish(Publish {
            properties: properties.clone(),
            ..publish(1, "a", &payload)
        });
        let received = subscriber.receive_publish();
        assert_eq!(received.properties, properties);
        assert_eq!(received.payload, payload);
    }
}

/// A message that expires.
fn expiring(packet_id: u16, topic: &str, seconds: u32) -> Publish {
    Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(seconds),
            ..MessageProperties::default()
        },
        ..publish(packet_id, topic, seconds.to_string())
    }
}

#[test]
fn expired_message_is_not_delivered_and_others_say_what_is_left() {
    let broker = TestBroker::start(Setup::held());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(expiring(1, "a", 1));
    publisher.publish(expiring(2, "a", 100));
    assert_eq!(publisher.ping(), []);
    std::thread::sleep(Duration::from_millis(1_100));
    broker.commit();
    let received = subscriber.receive_publish();
    assert_eq!(text(&received.payload), "100");
    let left = received.properties.message_expiry_interval.unwrap();
    assert!(left < 100, "{left}");
    assert_eq!(publisher.receive_puback(), (1, ReasonCode::Success));
    assert_eq!(broker.records("all").len(), 2);
}

#[test]
fn retained_qos0_is_delivered_with_its_commit_and_not_overtaken() {
    let broker = TestBroker::start(Setup::held());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(0, "a", "1"));
    publisher.publish(retained(publish(0, "a", "2")));
    publisher.publish(publish(0, "a", "3"));
    assert_eq!(publisher.ping(), []);
    assert_eq!(subscriber.receive_payloads(1), ["1"]);
    subscriber.expect_nothing();
    // Who comes now gets it as one that is published later, not the state before it.
    let mut late = broker.client(V5, "late");
    late.subscribe("#");
    late.expect_nothing();
    broker.commit();
    assert_eq!(subscriber.receive_payloads(2), ["2", "3"]);
    assert_eq!(late.receive_payloads(2), ["2", "3"]);
    publisher.publish(publish(0, "a", "4"));
    assert_eq!(subscriber.receive_payloads(1), ["4"]);
}

#[test]
fn retained_messages_do_not_overtake_what_rides_under_their_topic_name() {
    let log = TestLog {
        partitions: 8,
        key: KeyTemplate::new(vec![KeyPart::Topic]),
        ..TestLog::held("all", &["#"])
    };
    let broker = TestBroker::start(Setup::with_logs(&[log]));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    let topics = ["a", "b", "c", "d", "e", "f"];
    for (number, is_retained) in [(1, true), (2, false), (3, true), (4, false)] {
        for topic in topics {
            publisher.publish(Publish {
                retain: is_retained,
                ..publish(0, topic, number.to_string())
            });
        }
    }
    publisher.expect_nothing();
    broker.commit();
    let mut received = std::collections::BTreeMap::new();
    for _ in 0..24 {
        let message = subscriber.receive_publish();
        let topic = message.topic.unwrap().as_str().to_owned();
        let payloads: &mut String = received.entry(topic).or_default();
        payloads.push_str(&text(&message.payload));
    }
    for topic in topics {
        assert_eq!(received[topic], "1234", "{topic}");
    }
}

#[test]
fn message_does_not_overtake_one_that_rides_with_a_later_commit() {
    let mut setup = Setup::held();
    setup.store.commit_bytes_max = 4_096;
    let broker = TestBroker::start(setup);
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    // All in one go: the first commit is full when the third message comes.
    let mut bytes = BytesMut::new();
    for packet in [
        retained(publish(0, "a", "1")),
        publish(1, "b", [b'x'; 4_000]),
        publish(0, "a", "2"),
    ] {
        Packet::Publish(packet).encode(V5, &mut bytes).unwrap();
    }
    publisher.send_bytes(&bytes);
    assert_eq!(subscriber.receive_payloads(1), ["1"]);
    publisher.publish(publish(0, "a", "3"));
    // By then it is handled; the PUBACK of `b`, whose commit is full, comes before or after.
    publisher.ping();
    broker.commit();
    assert_eq!(subscriber.receive_payloads(2), ["2", "3"]);
}

#[test]
fn message_of_a_memory_log_does_not_overtake_a_retained_one() {
    let broker = TestBroker::start(Setup {
        memory: &["m"],
        default_log: TestLog::held("default", &[]),
        ..Setup::held()
    });
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("m");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(1, "m", "1")));
    publisher.publish(publish(2, "m", "2"));
    publisher.publish(publish(0, "m", "3"));
    publisher.expect_nothing();
    subscriber.expect_nothing();
    // Others are not held up.
    broker
        .client(V5, "other")
        .publish_acknowledged("m", "other");
    assert_eq!(subscriber.receive_payloads(1), ["other"]);
    broker.commit();
    assert_eq!(subscriber.receive_payloads(3), ["1", "2", "3"]);
    assert_eq!(publisher.receive_puback().0, 1);
    assert_eq!(publisher.receive_puback().0, 2);
    assert_eq!(broker.records("default").len(), 1);
}

#[test]
fn what_rides_with_the_commit_of_another_is_bounded() {
    let broker = TestBroker::start(Setup {
        memory: &["m"],
        default_log: TestLog::held("default", &[]),
        limits: Limits {
            commit_queue_bytes_max: 1_000,
            ..Limits::default()
        },
        ..Setup::held()
    });
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("m");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(0, "m", "first")));
    for number in 0..50 {
        publisher.publish(publish(0, "m", format!("{number:0100}")));
    }
    crate::support::wait_for("a full queue", || broker.probe.status().held_publishes == 1);
    assert!(broker.probe.status().pending_publishes < 15);
    broker.commit();
    assert_eq!(subscriber.receive_payloads(1), ["first"]);
    let expected: Vec<String> = (0..50).map(|number| format!("{number:0100}")).collect();
    assert_eq!(subscriber.receive_payloads(50), expected);
}

#[test]
fn topic_alias_stands_for_its_topic_name() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    let alias = TopicAlias::new(16);
    publisher.publish(Publish {
        topic_alias: alias,
        ..publish(1, "a/b", "1")
    });
    publisher.publish(Publish {
        topic_alias: alias,
        topic: None,
        ..publish(2, "unused", "2")
    });
    assert_eq!(publisher.receive_puback().0, 1);
    assert_eq!(publisher.receive_puback().0, 2);
    let records = broker.records("all");
    assert_eq!(records[1], ("a/b".to_owned(), "2".to_owned()));
    publisher.publish(Publish {
        topic_alias: TopicAlias::new(17),
        ..publish(3, "a/b", "3")
    });
    assert_eq!(publisher.receive_end(), Some(ReasonCode::TopicAliasInvalid));
}

#[test]
fn message_larger_than_the_subscriber_takes_is_dropped_for_it_alone() {
    let broker = TestBroker::start(Setup::default());
    let mut connect = crate::support::connect(V5, "small");
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(100);
    let mut small = TestClient::connect(broker.address(), connect);
    let mut large = broker.client(V5, "large");
    small.subscribe("#");
    large.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "x".repeat(200));
    publisher.publish_acknowledged("a", "y");
    assert_eq!(large.receive_payloads(2), ["x".repeat(200), "y".to_owned()]);
    assert_eq!(small.receive_payloads(1), ["y"]);
    let dropped = &broker.probe.counters().dropped;
    assert_eq!(dropped.get(broker::DropCause::PacketTooLarge), 1);
}
