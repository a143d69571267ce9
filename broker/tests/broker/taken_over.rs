//! A connection is taken over: what its client had said by then counts, also what nobody had heard yet, and its
//! will comes before what the client sends next.

use std::path::Path;

use broker::DropCause;
use bytes::BytesMut;
use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Connect, Delivery, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode,
};

use crate::support::{
    Setup, TestBroker, TestClient, connect, connect_with_will, go, id, publish, qos1, retained,
    staying, text, wait_for, with_little_room,
};

fn come(broker: &TestBroker) -> TestClient {
    TestClient::connect(broker.address(), staying(V5, "client"))
}

fn answer(packet_id: PacketId) -> Acknowledgement {
    Acknowledgement::new(packet_id, ReasonCode::Success)
}

/// Sends these packets, in one go with publishes for which there is no room: the broker has read them, and
/// will not look at them before the next commit.
fn say_unheard(broker: &TestBroker, client: &mut TestClient, packets: Vec<Packet>) {
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("live");
    let first = retained(publish(0, "live", "0".repeat(100)));
    let others = (1..12).map(|number| publish(0, "live", format!("{number:0100}")));
    let publishes = [first].into_iter().chain(others).map(Packet::Publish);
    let mut bytes = BytesMut::new();
    for packet in publishes.chain(packets) {
        packet.encode(V5, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes);
    wait_for("a full queue", || broker.probe.status().held_publishes == 1);
}

fn retain_qos2(broker: &TestBroker, topic: &str) {
    let delivery = Delivery::ExactlyOnce {
        packet_id: id(1),
        dup: false,
    };
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(Publish {
        delivery,
        ..retained(publish(0, topic, [b'x'; 3_000]))
    });
    publisher.expect_nothing();
    broker.commit();
    assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
}

/// They are more than what a session keeps of messages in no log.
#[test]
fn retained_messages_of_qos_2_that_the_client_has_come_no_second_time() {
    let broker = TestBroker::start(with_little_room());
    retain_qos2(&broker, "r/1");
    retain_qos2(&broker, "r/2");
    let mut client = come(&broker);
    let options = mqtt::SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..qos1()
    };
    client.subscribe_with("r/#", options, None);
    let mut ids = Vec::new();
    for _ in 0..2 {
        match client.receive() {
            Packet::Publish(publish) => ids.extend(publish.delivery.packet_id()),
            other => panic!("{other:?} in the place of PUBLISH"),
        }
    }
    let pubrecs = ids.iter().map(|id| Packet::Pubrec(answer(*id))).collect();
    say_unheard(&broker, &mut client, pubrecs);

    let mut client = come(&broker);
    let mut released = Vec::new();
    while released.len() < 2 {
        match client.receive() {
            Packet::Pubrel(pubrel) => {
                released.push(pubrel.packet_id);
                client.send(Packet::Pubcomp(answer(pubrel.packet_id)));
            }
            other => panic!("{other:?} in the place of PUBREL"),
        }
    }
    assert_eq!(released, ids);
    client.expect_nothing();
    let dropped = &broker.probe.counters().dropped;
    assert_eq!(dropped.get(DropCause::MailboxFull), 0);
}

#[test]
fn message_of_a_group_that_the_client_has_comes_to_nobody_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = |path: &Path, setup| TestBroker::start_at(path, setup);
    let path = folder.path().join("data");
    let broker = start(&path, with_little_room());
    let mut client = come(&broker);
    client.subscribe("$share/group/a");
    let mut publisher = broker.client(V5, "publisher");
    for (number, payload) in [(1, "first"), (2, "second")] {
        publisher.publish(publish(number, "a", payload));
    }
    publisher.expect_nothing();
    broker.commit();
    let mut ids = Vec::new();
    for expected in ["first", "second"] {
        let Packet::Publish(publish) = client.receive() else {
            panic!("no PUBLISH");
        };
        assert_eq!(text(&publish.payload), expected);
        ids.extend(publish.delivery.packet_id());
    }
    let puback = Packet::Puback(answer(ids[0]));
    say_unheard(&broker, &mut client, vec![puback]);

    let mut client = come(&broker);
    // It acknowledges nothing.
    let Packet::Publish(again) = client.receive() else {
        panic!("no PUBLISH");
    };
    assert_eq!(text(&again.payload), "second");
    go(&broker, client);
    broker.stop();
    let broker = start(&path, Setup::default());
    let mut client = come(&broker);
    assert_eq!(client.receive_payloads(1), ["second"]);
    client.expect_nothing();
    broker.stop();
}

/// The will of a connection that is taken over finds no room.
#[test]
fn will_that_waits_is_not_overtaken_by_what_its_client_sends_when_it_is_back() {
    let broker = TestBroker::start(with_little_room());
    let mut watcher = broker.client(V5, "other");
    watcher.subscribe("live");
    let first = connect_with_will(V5, "client", "live", "gone");
    let mut first = TestClient::connect(broker.address(), first);
    say_unheard(&broker, &mut first, Vec::new());
    let mut second = broker.client(V5, "client");
    assert_eq!(first.receive_end(), Some(ReasonCode::SessionTakenOver));
    second.publish(publish(0, "live", "back"));
    second.publish(publish(1, "live", "and on"));
    // Others are not held up.
    let mut other = broker.client(V5, "third");
    other.publish_acknowledged("live", "other");
    assert_eq!(watcher.receive_payloads(1), ["other"]);
    broker.commit();
    let before: Vec<_> = (0..11).map(|number| format!("{number:0100}")).collect();
    assert_eq!(watcher.receive_payloads(11), before);
    assert_eq!(watcher.receive_payloads(3), ["gone", "back", "and on"]);
    assert_eq!(second.receive_puback(), (1, ReasonCode::Success));
}

#[test]
fn will_of_a_connection_that_is_taken_over_comes_before_what_is_sent_with_connect() {
    for is_kept in [false, true] {
        let broker = TestBroker::start(Setup::default());
        let mut watcher = broker.client(V5, "watcher");
        watcher.subscribe("status");
        let will = connect_with_will(V5, "client", "status", "gone").will;
        let of_client = match is_kept {
            true => staying(V5, "client"),
            false => connect(V5, "client"),
        };
        let of_client = Connect { will, ..of_client };
        let _first = TestClient::connect(broker.address(), of_client.clone());
        let mut bytes = BytesMut::new();
        let connect = Packet::Connect(Box::new(of_client));
        connect.encode(V5, &mut bytes).unwrap();
        let back = Packet::Publish(publish(1, "status", "back"));
        back.encode(V5, &mut bytes).unwrap();
        let mut second = TestClient::open(broker.address(), V5);
        second.send_bytes(&bytes);
        assert_eq!(watcher.receive_payloads(2), ["gone", "back"], "{is_kept}");
    }
}

/// It stands behind publishes that wait, so nobody has heard it when the client is back.
#[test]
fn good_bye_that_nobody_has_heard_yet_counts_when_the_client_comes_again() {
    for expires_at_once in [false, true] {
        let broker = TestBroker::start(with_little_room());
        let mut watcher = broker.client(V5, "status watcher");
        watcher.subscribe("status");
        let of_client = Connect {
            will: connect_with_will(V5, "client", "status", "gone").will,
            ..staying(V5, "client")
        };
        let mut client = TestClient::connect(broker.address(), of_client);
        let good_bye = Disconnect {
            session_expiry_interval: expires_at_once.then_some(0),
            ..Disconnect::default()
        };
        say_unheard(&broker, &mut client, vec![Packet::Disconnect(good_bye)]);
        let (_client, connack) = TestClient::try_connect(broker.address(), staying(V5, "client"));
        assert_eq!(connack.session_present, !expires_at_once);
        broker.commit();
        watcher.expect_nothing();
        assert_eq!(broker.probe.counters().wills.get(), 0);
    }
}
