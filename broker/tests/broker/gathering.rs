//! How often it is written down how deliveries of QoS 2 stand, when there is a backlog of them.

use std::num::NonZeroU16;

use broker::Limits;
use bytes::Bytes;
use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Delivery, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionOptions,
};
use storage::Message;

use crate::support::{Setup, TestBroker, TestClient, go, staying, text};

/// A session that is away while so many messages come, numbered, those with an even number with QoS 2 if
/// others have 1.
fn backlog(broker: &TestBroker, count: usize, qos_of_odd: u8) -> TestClient {
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    client.subscribe_with("a", options, None);
    go(broker, client);
    let log = broker.store.log("all").unwrap().id;
    for number in 0..count {
        let message = Message {
            topic: "a".into(),
            payload: Bytes::from(number.to_string()),
            client_id: "publisher".into(),
            qos: if number % 2 == 0 { 2 } else { qos_of_odd },
            ..Message::default()
        };
        let appended = broker.store.append(log, b"publisher", &message).unwrap();
        broker.store.wait_durable(appended.commit).unwrap();
    }
    TestClient::connect(broker.address(), staying(V5, "client"))
}

fn number(publish: &Publish) -> usize {
    text(&publish.payload).parse().unwrap()
}

fn answer(packet_id: PacketId) -> Acknowledgement {
    Acknowledgement::new(packet_id, ReasonCode::Success)
}

/// Messages of QoS 1 in between do not make one burst many.
#[test]
fn burst_of_messages_of_both_qos_is_written_down_with_few_commits() {
    let broker = TestBroker::start(Setup::default());
    let mut client = backlog(&broker, 60, 1);
    let counters = broker.store.counters();
    let before = counters.commits();
    for expected in 0..60 {
        let Packet::Publish(publish) = client.receive() else {
            panic!("no PUBLISH");
        };
        assert_eq!(number(&publish), expected);
        let is_qos2 = expected % 2 == 0;
        let qos = publish.delivery.qos();
        assert_eq!(qos == QoS::ExactlyOnce, is_qos2);
    }
    let commits = counters.commits() - before;
    assert!(commits <= 8, "{commits} commits");
}

/// It leaves room for less than is worth to be written.
#[test]
fn client_that_keeps_most_of_its_window_for_ever_gets_everything() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        inflight_max: NonZeroU16::new(16).unwrap(),
        ..Limits::default()
    }));
    let mut client = backlog(&broker, 40, 2);
    let mut numbers = Vec::new();
    while numbers.len() < 40 {
        match client.receive() {
            Packet::Publish(publish) => {
                numbers.push(number(&publish));
                let Delivery::ExactlyOnce { packet_id, .. } = publish.delivery else {
                    panic!("{publish:?}");
                };
                if numbers.len() > 13 {
                    client.send(Packet::Pubrec(answer(packet_id)));
                }
            }
            Packet::Pubrel(pubrel) => client.send(Packet::Pubcomp(answer(pubrel.packet_id))),
            other => panic!("{other:?}"),
        }
    }
    assert!(numbers.is_sorted());
}
