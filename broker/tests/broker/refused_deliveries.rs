//! Deliveries that a client refuses with its acknowledgement (MQTT 5, 4.4 and 4.8.2): they are over.

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Connect, Delivery, Packet, Publish, QoS, ReasonCode, SubscriptionOptions,
};

use crate::support::{
    Setup, TestBroker, TestClient, connect, go, id, publish, staying, text, wait_for,
};

fn subscribe(client: &mut TestClient, filter: &str) {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    let code = client.subscribe_with(filter, options, None);
    assert_eq!(code, ReasonCode::GrantedQos2);
}

/// Publishes a message of QoS 1 and one of QoS 2.
fn publish_both(publisher: &mut TestClient, names: [&str; 2]) {
    publisher.publish_acknowledged("a", names[0]);
    publisher.publish(Publish {
        delivery: Delivery::ExactlyOnce {
            packet_id: id(9),
            dup: false,
        },
        ..publish(0, "a", names[1])
    });
    let success = Acknowledgement::new(id(9), ReasonCode::Success);
    assert_eq!(publisher.receive(), Packet::Pubrec(success.clone()));
    publisher.send(Packet::Pubrel(success.clone()));
    assert_eq!(publisher.receive(), Packet::Pubcomp(success));
}

/// Takes the next messages and says no to each; their payloads.
fn refuse(client: &mut TestClient, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        let Packet::Publish(publish) = client.receive() else {
            panic!("no PUBLISH")
        };
        let packet_id = publish.delivery.packet_id().unwrap();
        let no = Acknowledgement::new(packet_id, ReasonCode::UnspecifiedError);
        client.send(match publish.delivery.qos() {
            QoS::AtLeastOnce => Packet::Puback(no),
            _ => Packet::Pubrec(no),
        });
        payloads.push(text(&publish.payload));
    }
    client.expect_nothing();
    payloads
}

#[test]
fn refused_delivery_does_not_come_again() {
    for restarts in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut broker = TestBroker::start_at(&path, Setup::default());
        let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
        subscribe(&mut client, "a");
        let mut publisher = broker.client(V5, "publisher");
        publish_both(&mut publisher, ["1", "2"]);
        assert_eq!(refuse(&mut client, 2), ["1", "2"]);
        go(&broker, client);
        if restarts {
            drop(publisher);
            broker.stop();
            broker = TestBroker::start_at(&path, Setup::default());
        }
        let (mut client, connack) =
            TestClient::try_connect(broker.address(), staying(V5, "client"));
        assert!(connack.session_present);
        client.expect_nothing();
        let mut publisher = broker.client(V5, "publisher");
        publish_both(&mut publisher, ["3", "4"]);
        assert_eq!(client.receive_payloads(2), ["3", "4"]);
        broker.stop();
    }
}

#[test]
fn delivery_that_one_member_refuses_goes_to_no_other() {
    let broker = TestBroker::start(Setup::default());
    let come = |name: &str, connect: fn(mqtt::ProtocolVersion, &str) -> Connect| {
        let mut client = TestClient::connect(broker.address(), connect(V5, name));
        subscribe(&mut client, "$share/group/a");
        client
    };
    for connect in [staying, connect] {
        let mut first = come("first", connect);
        let mut publisher = broker.client(V5, "publisher");
        publish_both(&mut publisher, ["1", "2"]);
        assert_eq!(refuse(&mut first, 2), ["1", "2"]);
        let mut second = come("second", connect);
        second.expect_nothing();
        let before = broker.probe.status().connections;
        drop(first);
        wait_for("the end of the connection", || {
            broker.probe.status().connections < before
        });
        second.expect_nothing();
        publish_both(&mut publisher, ["3", "4"]);
        assert_eq!(second.receive_payloads(2), ["3", "4"]);
        second.expect_nothing();
        for name in ["first", "second"] {
            drop(broker.client(V5, name));
        }
    }
}
