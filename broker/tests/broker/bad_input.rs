//! Bytes that no client should send. Whoever sends them is disconnected with the reason; nobody
//! else notices.

use broker::{EndCause, Limits};
use bytes::BytesMut;
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Acknowledgement, Packet, ReasonCode};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, id, publish, wait_for};

/// A publisher and a subscriber whose messages must keep flowing.
struct Bystanders {
    publisher: TestClient,
    subscriber: TestClient,
    next: u32,
}

impl Bystanders {
    fn new(broker: &TestBroker) -> Self {
        let mut subscriber = broker.client(V311, "bystander 1");
        subscriber.subscribe("bystanders");
        Self {
            publisher: broker.client(V5, "bystander 2"),
            subscriber,
            next: 0,
        }
    }

    fn exchange(&mut self) {
        self.next += 1;
        let payload = self.next.to_string();
        self.publisher.publish_acknowledged("bystanders", &payload);
        assert_eq!(self.subscriber.receive_payloads(1), [payload]);
    }
}

#[test]
fn broken_packets_end_their_connection_with_the_reason_and_no_other() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        packet_bytes_max: 1_000,
        mailbox_bytes_max: 100_000,
        ..Limits::default()
    }));
    let mut bystanders = Bystanders::new(&broker);
    let cases: [(&[u8], ReasonCode); 8] = [
        (b"\x00\x00", ReasonCode::MalformedPacket),
        (b"\xff\xff\xff\xff\xff", ReasonCode::MalformedPacket),
        // A PUBLISH of 16 KiB, of which only the length has come.
        (b"\x30\x80\x80\x01", ReasonCode::PacketTooLarge),
        // A topic name that is not UTF-8, one with a null character, one with a wildcard.
        (b"\x30\x05\x00\x02\xc3\x28\x00", ReasonCode::MalformedPacket),
        (b"\x30\x05\x00\x02a\x00\x00", ReasonCode::MalformedPacket),
        (b"\x30\x05\x00\x02a#\x00", ReasonCode::MalformedPacket),
        // QoS 3, a second CONNECT.
        (
            b"\x36\x06\x00\x01a\x00\x01\x00",
            ReasonCode::MalformedPacket,
        ),
        (
            b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03abc",
            ReasonCode::ProtocolError,
        ),
    ];
    for (bytes, expected) in cases {
        let mut client = broker.client(V5, "broken");
        // What came before is done.
        client.publish(publish(0, "before", "x"));
        client.send_bytes(bytes);
        // What comes after is not looked at.
        client.send(Packet::Publish(publish(0, "after", "x")));
        assert_eq!(client.receive_end(), Some(expected), "{bytes:02x?}");
        bystanders.exchange();
    }
    let topics = broker.records("all").into_iter().map(|(topic, _)| topic);
    let topics: Vec<String> = topics.filter(|topic| topic != "bystanders").collect();
    assert_eq!(topics, ["before"; 8]);
    let ended = &broker.probe.counters().ended;
    wait_for("the ends", || ended.get(EndCause::Invalid) == 8);
}

#[test]
fn broken_packets_of_a_311_client_close_its_connection_without_a_word() {
    let broker = TestBroker::start(Setup::default());
    let mut bystanders = Bystanders::new(&broker);
    let cases: [&[u8]; 5] = [
        b"\x00\x00",
        b"\x30\x04\x00\x02\xc3\x28",
        b"\x30\x04\x00\x02a#",
        // SUBSCRIBE with wrong flags, a second CONNECT.
        b"\x80\x06\x00\x01\x00\x01a\x00",
        b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc",
    ];
    for bytes in cases {
        let mut client = broker.client(V311, "broken");
        client.publish(publish(0, "before", "x"));
        client.send_bytes(bytes);
        client.send(Packet::Publish(publish(0, "after", "x")));
        assert_eq!(client.receive_end(), None, "{bytes:02x?}");
        bystanders.exchange();
    }
    let topics = broker.records("all").into_iter().map(|(topic, _)| topic);
    let topics: Vec<String> = topics.filter(|topic| topic != "bystanders").collect();
    assert_eq!(topics, ["before"; 5]);
    let ended = &broker.probe.counters().ended;
    wait_for("the ends", || ended.get(EndCause::Invalid) == 5);
}

#[test]
fn connection_that_begins_wrongly_is_refused_where_it_can_be_told() {
    let broker = TestBroker::start(Setup::default());
    let mut bystanders = Bystanders::new(&broker);
    let connack = |bytes: &[u8], version| {
        let mut client = TestClient::open(broker.address(), version);
        client.send_bytes(bytes);
        let answer = client.try_receive().map(|packet| match packet {
            Packet::Connack(connack) => connack.reason_code,
            other => panic!("{other:?} in the place of CONNACK"),
        });
        assert_eq!(client.try_receive(), None);
        answer
    };
    let unsupported = Some(ReasonCode::UnsupportedProtocolVersion);
    let level_2 = b"\x10\x0f\x00\x06MQIsdp\x02\x02\x00\x00\x00\x01c";
    assert_eq!(connack(level_2, V311), unsupported);
    let level_6 = b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c";
    assert_eq!(connack(level_6, V5), unsupported);
    // Not MQTT at all.
    assert_eq!(connack(b"GET / HTTP/1.1\r\n\r\n", V311), None);
    // PINGREQ before CONNECT.
    assert_eq!(connack(b"\xc0\x00", V311), None);
    // A client identifier that is not UTF-8.
    let ill_formed = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff";
    assert_eq!(connack(ill_formed, V5), Some(ReasonCode::MalformedPacket));
    bystanders.exchange();
}

#[test]
fn packets_in_pieces_are_taken_whole() {
    let broker = TestBroker::start(Setup::default());
    let mut bystanders = Bystanders::new(&broker);
    for version in BOTH {
        let mut client = TestClient::open(broker.address(), version);
        let mut bytes = BytesMut::new();
        let connect = Packet::Connect(Box::new(connect(version, "in pieces")));
        connect.encode(version, &mut bytes).unwrap();
        for number in 1..=3 {
            let packet = Packet::Publish(publish(number, "pieces", number.to_string()));
            packet.encode(version, &mut bytes).unwrap();
        }
        for byte in &bytes {
            client.send_bytes(&[*byte]);
            bystanders.exchange();
        }
        assert!(matches!(client.receive(), Packet::Connack(_)));
        for number in 1..=3 {
            assert_eq!(client.receive_puback().0, number);
        }
    }
}

#[test]
fn half_packets_of_many_connections_disturb_nobody() {
    let broker = TestBroker::start(Setup::default());
    let mut bystanders = Bystanders::new(&broker);
    let mut packet = BytesMut::new();
    let whole = Packet::Publish(publish(1, "half", vec![b'x'; 100_000]));
    whole.encode(V5, &mut packet).unwrap();
    let (first, rest) = packet.split_at(70_000);
    let mut clients: Vec<TestClient> = (0..20)
        .map(|number| broker.client(V5, &format!("half {number}")))
        .collect();
    for client in &mut clients {
        client.send_bytes(first);
        bystanders.exchange();
    }
    // Some never send the rest.
    drop(clients.split_off(10));
    for client in &mut clients {
        client.send_bytes(rest);
        assert_eq!(client.receive_puback(), (1, ReasonCode::Success));
        bystanders.exchange();
    }
    let large = broker.messages("all").into_iter();
    assert_eq!(
        large
            .filter(|message| message.payload.len() == 100_000)
            .count(),
        10
    );
}

#[test]
fn more_publishes_than_the_receive_maximum_end_the_connection_of_an_mqtt5_client() {
    let broker = TestBroker::start(Setup::held());
    // While somebody waits who could send more, full windows do not hurry the commit.
    let mut patient = broker.client(V5, "patient");
    patient.publish(publish(1, "a", "x"));
    patient.expect_nothing();
    let mut client = broker.client(V5, "greedy");
    for number in 1..=65 {
        client.publish(publish(number, "a", "x"));
    }
    assert_eq!(
        client.receive_end(),
        Some(ReasonCode::ReceiveMaximumExceeded)
    );
    // A 3.1.1 client does not know of it, and is read no further.
    let mut client = broker.client(V311, "greedy");
    for number in 1..=65 {
        client.publish(publish(number, "a", "x"));
    }
    let published = || broker.probe.counters().published.get();
    wait_for("a full window", || published() == 1 + 64 + 64);
    broker.client(V5, "other").expect_nothing();
    assert_eq!(published(), 1 + 64 + 64);
    broker.commit();
    for number in 1..=64 {
        assert_eq!(client.receive_puback().0, number);
    }
    wait_for("the last one", || published() == 1 + 64 + 65);
}

/// More of them than may wait for their answer at a time.
#[test]
fn pubrel_is_answered_although_no_identifier_is_known() {
    let broker = TestBroker::start(Setup::default());
    for (version, told) in [
        (V311, ReasonCode::Success),
        (V5, ReasonCode::PacketIdentifierNotFound),
    ] {
        let mut client = broker.client(version, "releasing");
        for number in 1..=200 {
            let pubrel = Acknowledgement::new(id(number), ReasonCode::Success);
            client.send(Packet::Pubrel(pubrel));
        }
        for number in 1..=200 {
            let pubcomp = Acknowledgement::new(id(number), told);
            assert_eq!(client.receive(), Packet::Pubcomp(pubcomp));
        }
    }
}
