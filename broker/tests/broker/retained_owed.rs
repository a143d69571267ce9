//! Retained messages that a client has not got when its connection ends: its session is owed them.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use broker::Limits;
use mqtt::ProtocolVersion::V5;
use mqtt::{
    Packet, ProtocolVersion, Publish, QoS, RetainHandling, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe,
};

use crate::session_resends::copy;
use crate::support::{
    BOTH, Setup, TestBroker, TestClient, go, id, publish, qos1, retained, staying, text,
};

const COUNT: usize = 100;

fn setup() -> Setup {
    Setup::with_limits(Limits {
        inflight_max: NonZeroU16::new(8).unwrap(),
        ..Limits::default()
    })
}

fn retain_all(broker: &TestBroker, bytes: usize) {
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..COUNT {
        let payload = format!("{number}{}", " ".repeat(bytes));
        publisher.retain_acknowledged(&format!("a/{number:03}"), payload);
    }
}

fn come(broker: &TestBroker, version: ProtocolVersion) -> TestClient {
    TestClient::connect(broker.address(), staying(version, "client"))
}

fn subscribe(client: &mut TestClient, options: SubscriptionOptions) {
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: "a/#".parse().unwrap(),
            options,
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
    // Messages may come before SUBACK.
    let mut before = Vec::new();
    loop {
        match client.receive() {
            Packet::Suback(_) => break,
            other => before.push(other),
        }
    }
    client.put_back(before);
}

fn number_of(publish: &Publish) -> usize {
    assert!(publish.retain);
    text(&publish.payload).trim().parse().unwrap()
}

/// So many messages, which are acknowledged.
fn take(client: &mut TestClient, count: usize) -> Vec<usize> {
    let taken = std::iter::repeat_with(|| number_of(&client.receive_publish()));
    taken.take(count).collect()
}

/// What comes before nothing more does, unacknowledged: what waits for the client to have caught up, too.
fn whatever_comes(client: &mut TestClient) -> Vec<Packet> {
    let mut packets = Vec::new();
    for _ in 0..10 {
        packets.extend(client.ping());
        std::thread::sleep(Duration::from_millis(40));
    }
    packets
}

/// Everything that comes, which is acknowledged; none twice.
fn take_rest(client: &mut TestClient, mut numbers: BTreeSet<usize>) -> BTreeSet<usize> {
    while numbers.len() < COUNT {
        let number = number_of(&client.receive_publish());
        assert!(numbers.insert(number), "{number} came twice");
    }
    assert_eq!(whatever_comes(client), []);
    numbers
}

#[test]
fn retained_messages_that_did_not_come_before_the_connection_ended_come_in_the_next() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let broker = TestBroker::start(setup());
            retain_all(&broker, 0);
            let mut client = come(&broker, version);
            subscribe(&mut client, SubscriptionOptions { qos, ..qos1() });
            let mut numbers = BTreeSet::new();
            for _ in 0..3 {
                numbers.extend(take(&mut client, 10));
                // Some are on their way to it.
                client.ping();
                go(&broker, client);
                client = come(&broker, version);
            }
            assert_eq!(numbers.len(), 30, "{version:?} {qos:?}");
            take_rest(&mut client, numbers);
            // That was all.
            go(&broker, client);
            assert_eq!(whatever_comes(&mut come(&broker, version)), []);
            broker.stop();
        }
    }
}

/// More is on its way than a session keeps in memory.
#[test]
fn retained_messages_in_flight_that_are_not_kept_come_again() {
    // The second time all were looked at, and the last are in flight.
    for before in [20, 93] {
        let broker = TestBroker::start(setup());
        retain_all(&broker, 2_000);
        let mut client = come(&broker, V5);
        subscribe(&mut client, qos1());
        let mut numbers = BTreeSet::from_iter(take(&mut client, before));
        client.ping();
        go(&broker, client);
        let mut client = come(&broker, V5);
        numbers.extend(take(&mut client, COUNT - before));
        assert_eq!(numbers.len(), COUNT);
        assert_eq!(whatever_comes(&mut client), []);
        broker.stop();
    }
}

#[test]
fn retained_messages_that_did_not_come_before_the_broker_ended_come_after_its_start() {
    for is_crash in [false, true] {
        for version in BOTH {
            let folder = tempfile::tempdir().unwrap();
            let mut path = folder.path().join("data");
            let broker = TestBroker::start_at(&path, setup());
            retain_all(&broker, 0);
            let mut client = come(&broker, version);
            subscribe(&mut client, qos1());
            let first = take(&mut client, 30);
            client.ping();
            if is_crash {
                let after_crash = folder.path().join("after");
                copy(&path, &after_crash);
                path = after_crash;
            }
            drop(client);
            broker.stop();

            let broker = TestBroker::start_at(&path, setup());
            // What is to be looked through, and not for the client.
            let mut publisher = broker.client(V5, "publisher");
            for _ in 0..200 {
                publisher.publish_acknowledged("b", " ".repeat(1_000));
            }
            let mut client = come(&broker, version);
            let count = if is_crash { COUNT } else { COUNT - 30 };
            let rest = take(&mut client, count);
            assert_eq!(whatever_comes(&mut client), []);
            let all = BTreeSet::from_iter(first.into_iter().chain(rest));
            assert_eq!(all.len(), COUNT);
            // It is written down that they came.
            broker.commit();
            let after_crash = folder.path().join("at the end");
            copy(&path, &after_crash);
            drop(client);
            broker.stop();
            let broker = TestBroker::start_at(&after_crash, setup());
            assert_eq!(whatever_comes(&mut come(&broker, version)), []);
            broker.stop();
        }
    }
}

#[test]
fn retained_messages_are_not_owed_of_a_subscription_that_was_taken_back_or_made_again() {
    let broker = TestBroker::start(setup());
    retain_all(&broker, 0);
    let mut client = come(&broker, V5);
    subscribe(&mut client, qos1());
    take(&mut client, 10);
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(9),
        filters: vec!["a/#".parse().unwrap()],
        user_properties: Vec::new(),
    }));
    let packets = std::iter::repeat_with(|| client.receive());
    let in_flight = packets.take_while(|packet| !matches!(packet, Packet::Unsuback(_)));
    let in_flight = in_flight.count() + client.ping().len();
    go(&broker, client);
    let mut client = come(&broker, V5);
    let again = whatever_comes(&mut client);
    assert_eq!(again.len(), in_flight, "what was in flight");
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::DoNotSend,
        ..qos1()
    };
    subscribe(&mut client, options);
    go(&broker, client);
    let mut client = come(&broker, V5);
    take(&mut client, again.len());
    // One may have waited for a place in the window when the client unsubscribed.
    let waited = whatever_comes(&mut client);
    assert!(waited.len() <= 1, "{waited:?}");
    broker.stop();
}

/// What the client missed comes first, so that the newest of a topic comes last.
#[test]
fn retained_messages_come_after_what_the_client_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, setup());
    retain_all(&broker, 0);
    let mut client = come(&broker, V5);
    subscribe(&mut client, qos1());
    let mut numbers = BTreeSet::from_iter(take(&mut client, 10));
    client.ping();
    drop(client);
    broker.stop();
    let broker = TestBroker::start_at(&path, setup());
    let mut publisher = broker.client(V5, "publisher");
    for payload in ["older", "newest"] {
        publisher.publish(retained(publish(1, "a/010", payload)));
        publisher.receive_puback();
    }
    let mut client = come(&broker, V5);
    let mut of_last = Vec::new();
    while numbers.len() < COUNT - 1 || of_last.len() < 3 {
        let publish = client.receive_publish();
        match publish.topic.as_ref().unwrap().as_str() == "a/010" {
            true => of_last.push((text(&publish.payload), publish.retain)),
            false => assert!(numbers.insert(number_of(&publish))),
        }
    }
    let expected = [("older", false), ("newest", false), ("newest", true)];
    assert_eq!(
        of_last,
        expected.map(|(text, retain)| (text.to_owned(), retain))
    );
    assert_eq!(whatever_comes(&mut client), []);
    broker.stop();
}
