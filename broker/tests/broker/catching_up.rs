//! Sessions that come back to a log that is much larger than what they want of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mqtt::ProtocolVersion::V5;
use mqtt::{Packet, QoS, ReasonCode, SubscriptionOptions};
use storage::{LogPartition, Message, Offset, PartitionId, StoreCounters, StoreOptions};

use crate::support::{
    Setup, TestBroker, TestClient, TestLog, go, publish, qos1, staying, text, wait_for,
};

/// Bytes of a message that nobody waits for.
const FILLING: usize = 60_000;

fn come(broker: &TestBroker, client_id: &str) -> TestClient {
    let (client, connack) = TestClient::try_connect(broker.address(), staying(V5, client_id));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    client
}

/// Segments of 1 MiB, and nothing of the log in memory.
fn setup() -> Setup {
    let setup = Setup::default();
    Setup {
        store: StoreOptions {
            ring_bytes_max: 0,
            ..setup.store
        },
        ..setup
    }
}

/// Messages of other topics, some 2 MiB of them: one segment and part of the next.
fn fill(broker: &TestBroker) {
    append(broker, "filling", 36, &vec![b'x'; FILLING]);
}

/// Behind the broker's back: it has not pushed them to anybody.
fn append(broker: &TestBroker, topic: &'static str, count: usize, payload: &[u8]) {
    let log = broker.store.log("all").unwrap().id;
    for _ in 0..count {
        let message = Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            client_id: "publisher".into(),
            qos: 1,
            ..Message::default()
        };
        let appended = broker.store.append(log, b"publisher", &message).unwrap();
        broker.store.wait_durable(appended.commit).unwrap();
    }
}

fn is_caught_up(broker: &TestBroker) {
    wait_for("live sessions", || {
        broker.probe.status().sessions_behind == 0
    });
}

/// Bytes of commits that were read from segments, and segments that were opened.
fn cost(counters: &StoreCounters) -> (u64, u64) {
    (counters.bytes_read(), counters.segments_opened())
}

#[test]
fn client_that_returns_for_a_rare_topic_has_only_the_parts_with_it_read() {
    let broker = TestBroker::start(setup());
    let mut client = come(&broker, "client");
    client.subscribe("rare/+");
    client.subscribe_with("filling", SubscriptionOptions::default(), None);
    go(&broker, client);
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..4 {
        for _ in 0..2 {
            fill(&broker);
        }
        publisher.publish_acknowledged("rare/1", number.to_string());
    }
    for _ in 0..2 {
        fill(&broker);
    }
    let (read, opened) = cost(broker.store.counters());
    let mut client = come(&broker, "client");
    assert_eq!(client.receive_payloads(4), ["0", "1", "2", "3"]);
    is_caught_up(&broker);
    let (read, opened) = {
        let after = cost(broker.store.counters());
        (after.0 - read, after.1 - opened)
    };
    let all = 10 * 36 * FILLING as u64;
    // The newest segments have no set of topics yet: they are read.
    assert!(read < all / 3, "{read} of {all} bytes were read");
    assert!(opened <= 8, "{opened} segments were opened");
    assert!(broker.store.counters().segments_passed_over() >= 4);
    publisher.publish_acknowledged("rare/2", "live");
    assert_eq!(client.receive_payloads(1), ["live"]);
    client.expect_nothing();
}

#[test]
fn client_without_a_message_in_a_large_log_is_live_without_reading_it() {
    let broker = TestBroker::start(setup());
    let mut client = come(&broker, "client");
    client.subscribe("rare");
    go(&broker, client);
    for _ in 0..6 {
        fill(&broker);
    }
    let (read, _) = cost(broker.store.counters());
    let mut client = come(&broker, "client");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("rare", "live");
    assert_eq!(client.receive_payloads(1), ["live"]);
    let read = cost(broker.store.counters()).0 - read;
    assert!(read < 2 * 36 * FILLING as u64, "{read} bytes were read");
}

/// What was sent before is found again, although nobody subscribes to it any more and others that
/// are read for at the same time want something else.
#[test]
fn message_in_flight_of_a_topic_that_is_not_subscribed_to_any_more_is_sent_again() {
    let broker = TestBroker::start(setup());
    let mut other = come(&broker, "other");
    other.subscribe("rare");
    go(&broker, other);
    let mut client = come(&broker, "client");
    client.subscribe("a");
    client.subscribe("rare");
    let mut publisher = broker.client(V5, "publisher");
    fill(&broker);
    publisher.publish_acknowledged("a", "in flight");
    match client.receive() {
        Packet::Publish(publish) => assert_eq!(text(&publish.payload), "in flight"),
        other => panic!("{other:?}"),
    }
    client.send(Packet::Unsubscribe(mqtt::Unsubscribe {
        packet_id: crate::support::id(9),
        filters: vec!["a".parse().unwrap()],
        user_properties: Vec::new(),
    }));
    assert!(matches!(client.receive(), Packet::Unsuback(_)));
    go(&broker, client);
    for _ in 0..4 {
        fill(&broker);
    }
    publisher.publish_acknowledged("rare", "new");
    let mut other = come(&broker, "other");
    let mut client = come(&broker, "client");
    assert_eq!(client.receive_payloads(2), ["in flight", "new"]);
    assert_eq!(other.receive_payloads(1), ["new"]);
}

/// Two of the topics are subscribed to by one client each, and both come back at once to places far
/// apart; a third one subscribes to more while it is read for.
#[test]
fn every_client_gets_its_messages_in_order_when_many_are_read_for_together() {
    let broker = TestBroker::start(setup());
    let mut expected = [Vec::new(), Vec::new(), Vec::new()];
    let filters = ["a/#", "b/#", "+/both"];
    let mut publisher = broker.client(V5, "publisher");
    for (index, filter) in filters.into_iter().enumerate() {
        let mut client = come(&broker, &format!("client {index}"));
        client.subscribe(filter);
        go(&broker, client);
        fill(&broker);
        for number in 0..60 {
            let topic = ["a/x", "b/x", "a/both", "b/both", "c"][number % 5];
            let payload = format!("{index}.{number}");
            publisher.publish_acknowledged(topic, &payload);
            for (reader, filter) in filters.iter().enumerate().take(index + 1) {
                let filter: mqtt::TopicFilter = filter.parse().unwrap();
                if filter.matches(&topic.parse().unwrap()) {
                    expected[reader].push(payload.clone());
                }
            }
        }
    }
    let mut clients: Vec<_> = (0..3)
        .map(|index| come(&broker, &format!("client {index}")))
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let count = expected[index].len();
        assert_eq!(client.receive_payloads(count), expected[index], "{index}");
    }
    is_caught_up(&broker);
    publisher.publish_acknowledged("a/both", "live");
    for index in [0, 2] {
        assert_eq!(clients[index].receive_payloads(1), ["live"]);
    }
    for client in &mut clients {
        client.expect_nothing();
    }
}

/// It comes from then on, although what is read at that moment is not read for it.
#[test]
fn subscription_that_is_made_while_the_log_is_read_misses_nothing() {
    let broker = TestBroker::start(setup());
    let mut publisher = broker.client(V5, "publisher");
    for round in 0..10 {
        let name = format!("client {round}");
        let mut client = come(&broker, &name);
        client.subscribe("old");
        go(&broker, client);
        fill(&broker);
        publisher.publish_acknowledged("old", "old");
        let mut client = come(&broker, &name);
        // The answer comes behind what the log has.
        client.send(Packet::Subscribe(mqtt::Subscribe {
            packet_id: crate::support::id(7),
            subscriptions: vec![mqtt::Subscription {
                filter: "new".parse().unwrap(),
                options: qos1(),
            }],
            subscription_identifier: None,
            user_properties: Vec::new(),
        }));
        let mut received = Vec::new();
        let mut published = Vec::new();
        let mut first_expected = None;
        while first_expected
            .is_none_or(|first| received.last() != published.last() || published.len() < first + 10)
        {
            if first_expected.is_none_or(|first| published.len() < first + 10) {
                let payload = format!("new {}", published.len());
                publisher.publish_acknowledged("new", &payload);
                published.push(payload);
            }
            match client.receive() {
                Packet::Suback(_) => first_expected = Some(published.len()),
                Packet::Publish(message) => {
                    let packet_id = message.delivery.packet_id().unwrap();
                    let puback = mqtt::Acknowledgement::new(packet_id, ReasonCode::Success);
                    client.send(Packet::Puback(puback));
                    received.push(text(&message.payload));
                }
                other => panic!("{other:?}"),
            }
        }
        received.retain(|payload| payload != "old");
        let expected = &published[first_expected.unwrap()..];
        assert!(
            received.ends_with(expected),
            "{received:?} for {expected:?}"
        );
        go(&broker, client);
    }
}

/// Publishes that wait for a commit that does not come yet.
#[test]
fn reading_for_sessions_that_are_behind_makes_way_for_publishes_that_wait() {
    let held = TestLog::held("held", &["held"]);
    let broker = TestBroker::start(Setup {
        logs: vec![held, TestLog::new("all", &["#"])],
        ..setup()
    });
    let mut client = come(&broker, "client");
    client.subscribe("filling");
    go(&broker, client);
    fill(&broker);
    let mut client = come(&broker, "client");
    client.receive_payloads(36);
    is_caught_up(&broker);
    let pauses = || broker.probe.counters().catch_up_pauses.get();
    assert_eq!(pauses(), 0);
    go(&broker, client);
    fill(&broker);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(1, "held", "waits"));
    wait_for("a publish that waits", || {
        broker.probe.status().pending_publishes == 1
    });
    let mut client = come(&broker, "client");
    client.receive_payloads(36);
    assert!(pauses() > 0);
    broker.commit();
    assert_eq!(publisher.receive_puback().1, ReasonCode::Success);
}

/// One that was away, too, and reads what is not in memory any more.
#[test]
fn reading_for_sessions_that_are_behind_makes_way_for_an_uplink() {
    let broker = TestBroker::start(setup());
    let mut client = come(&broker, "client");
    client.subscribe("filling");
    go(&broker, client);
    for _ in 0..5 {
        fill(&broker);
    }
    let store = broker.store.clone();
    let partition = LogPartition {
        log: store.log("all").unwrap().id,
        partition: PartitionId(0),
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let uplink = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut reader = store.partition_reader(partition, Offset(0));
            reader.read(65_536).unwrap();
        }
    });
    let mut client = come(&broker, "client");
    client.receive_payloads(5 * 36);
    is_over.store(true, Ordering::Relaxed);
    uplink.join().unwrap();
    assert!(broker.probe.counters().catch_up_pauses.get() > 0);
}

#[test]
fn subscription_with_qos_0_has_nothing_read() {
    let broker = TestBroker::start(setup());
    let mut client = come(&broker, "client");
    let options = SubscriptionOptions {
        qos: QoS::AtMostOnce,
        ..SubscriptionOptions::default()
    };
    client.subscribe_with("#", options, None);
    client.subscribe("rare");
    go(&broker, client);
    for _ in 0..5 {
        fill(&broker);
    }
    let (read, _) = cost(broker.store.counters());
    let mut client = come(&broker, "client");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("rare", "live");
    assert_eq!(client.receive_payloads(1), ["live"]);
    let read = cost(broker.store.counters()).0 - read;
    assert!(read < 2 * 36 * FILLING as u64, "{read} bytes were read");
    client.expect_nothing();
}
