//! Messages of QoS 2 to a client: reserved identifiers, PUBREL and the window.

use std::num::{NonZeroU16, NonZeroU32};

use mqtt::server::{Accept, Event, InflightEntry, InflightState, Options, PublishOutcome};
use mqtt::{
    Connect, ConnectProperties, Delivery, Packet, PacketId, PacketType, ProtocolVersion, QoS,
    ReasonCode,
};

use crate::client::{Client, acknowledgement, exactly_once, id, message, outgoing};
use crate::raw::*;

const SUCCESS: ReasonCode = ReasonCode::Success;

pub(crate) fn with_window(inflight_max: u16) -> Options {
    Options {
        inflight_max: NonZeroU16::new(inflight_max).unwrap(),
        ..exactly_once()
    }
}

/// A connection that goes on with what an earlier one has left.
pub(crate) fn resumed(connect: Connect, options: Options, inflight: &[InflightEntry]) -> Client {
    let mut client = Client::new(connect.version, options);
    client.send(&Packet::Connect(Box::new(connect)));
    assert!(matches!(client.events()[..], [Event::Connect(_)]));
    let accept = Accept {
        session_present: true,
        inflight: inflight.to_vec(),
        ..Accept::default()
    };
    client.connection.accept(client.now, accept).unwrap();
    client.connack();
    client
}

pub(crate) fn plain(version: ProtocolVersion) -> Connect {
    Connect::new(version, string("c"))
}

pub(crate) fn entries(states: &[InflightState]) -> Vec<InflightEntry> {
    let numbered = (1..).zip(states);
    numbered
        .map(|(number, &state)| InflightEntry {
            packet_id: id(number),
            state,
        })
        .collect()
}

pub(crate) fn sent(number: u16) -> PublishOutcome {
    let packet_id = Some(id(number));
    PublishOutcome::Sent { packet_id }
}

pub(crate) fn reserve(client: &mut Client) -> PacketId {
    client.connection.reserve().unwrap()
}

fn publish_reserved(client: &mut Client, packet_id: PacketId, bytes: usize) -> PublishOutcome {
    let message = message(bytes);
    let connection = &mut client.connection;
    connection.publish_reserved(client.now, packet_id, outgoing(&message))
}

/// Reserves and publishes.
pub(crate) fn send_qos_2(client: &mut Client) -> PacketId {
    let packet_id = reserve(client);
    assert_eq!(
        publish_reserved(client, packet_id, 1),
        sent(packet_id.get())
    );
    packet_id
}

pub(crate) fn send_qos_1(client: &mut Client) -> PublishOutcome {
    let message = message(1);
    client.connection.publish(client.now, outgoing(&message))
}

pub(crate) fn resend(client: &mut Client, number: u16, bytes: usize) -> PublishOutcome {
    let message = message(bytes);
    let connection = &mut client.connection;
    connection.resend(client.now, id(number), outgoing(&message))
}

pub(crate) fn release(client: &mut Client, number: u16) -> bool {
    client.connection.release(client.now, id(number))
}

pub(crate) fn says(client: &mut Client, packet: PacketType, number: u16) {
    client.send(&acknowledgement(packet, number, SUCCESS));
}

/// The types of the packets that the client has got, and their identifiers.
pub(crate) fn received(client: &mut Client) -> Vec<(PacketType, u16)> {
    let named = |packet: Packet| {
        let packet_id = match &packet {
            Packet::Publish(publish) => publish.delivery.packet_id().unwrap(),
            Packet::Pubrel(pubrel) => pubrel.packet_id,
            other => panic!("{other:?}"),
        };
        (packet.packet_type(), packet_id.get())
    };
    client.received().into_iter().map(named).collect()
}

pub(crate) fn acknowledged(number: u16) -> Event {
    Event::Acknowledged {
        packet_id: id(number),
        reason_code: SUCCESS,
    }
}

fn told_received(number: u16) -> Event {
    Event::Received {
        packet_id: id(number),
        reason_code: SUCCESS,
    }
}

pub(crate) const PUBLISH: PacketType = PacketType::Publish;
pub(crate) const PUBREL: PacketType = PacketType::Pubrel;
pub(crate) const PUBACK: PacketType = PacketType::Puback;
pub(crate) const PUBREC: PacketType = PacketType::Pubrec;
pub(crate) const PUBCOMP: PacketType = PacketType::Pubcomp;

#[test]
fn a_message_of_qos_2_goes_out_step_by_step() {
    for version in VERSIONS {
        let mut client = Client::connected(version, exactly_once());
        let packet_id = reserve(&mut client);
        assert_eq!(client.received(), [], "it is to be durable first");
        assert_eq!(publish_reserved(&mut client, packet_id, 1), sent(1));
        let packets = client.received();
        let [Packet::Publish(publish)] = &packets[..] else {
            panic!("{packets:?}")
        };
        let dup = false;
        assert_eq!(publish.delivery, Delivery::ExactlyOnce { packet_id, dup });

        says(&mut client, PUBREC, 1);
        assert_eq!(client.events(), [told_received(1)]);
        assert_eq!(client.received(), [], "nor the PUBREL before it is durable");
        assert!(release(&mut client, 1));
        assert_eq!(received(&mut client), [(PUBREL, 1)]);
        assert!(!release(&mut client, 1), "it was released");
        assert_eq!(client.received(), []);

        assert_eq!(client.connection.inflight(), 1);
        says(&mut client, PUBCOMP, 1);
        assert_eq!(client.events(), [acknowledged(1)]);
        assert_eq!(client.connection.inflight(), 0);
    }
}

/// It follows one of QoS 2 that is being made durable.
#[test]
fn a_message_of_qos_1_can_be_reserved_and_keeps_its_turn() {
    for version in VERSIONS {
        let mut client = Client::connected(version, exactly_once());
        let first = reserve(&mut client);
        let second = client.connection.reserve_at_least_once().unwrap();
        assert_eq!(client.connection.inflight(), 2);
        says(&mut client, PUBACK, second.get());
        assert_eq!(client.events(), [], "it was not sent");
        assert_eq!(publish_reserved(&mut client, first, 1), sent(1));
        assert_eq!(publish_reserved(&mut client, second, 1), sent(2));
        let deliveries = client.received().into_iter().map(|packet| match packet {
            Packet::Publish(publish) => publish.delivery,
            other => panic!("{other:?}"),
        });
        let dup = false;
        let expected = [
            Delivery::ExactlyOnce {
                packet_id: first,
                dup,
            },
            Delivery::AtLeastOnce {
                packet_id: second,
                dup,
            },
        ];
        assert_eq!(deliveries.collect::<Vec<_>>(), expected);
        assert_eq!(
            publish_reserved(&mut client, second, 1),
            PublishOutcome::NotReserved
        );
        says(&mut client, PUBACK, second.get());
        assert_eq!(client.events(), [acknowledged(2)]);

        let third = client.connection.reserve_at_least_once().unwrap();
        let states = [InflightState::AwaitsPubrec, InflightState::AwaitsPuback];
        let left = [first, third].into_iter().zip(states);
        let left = left.map(|(packet_id, state)| InflightEntry { packet_id, state });
        assert_eq!(client.connection.take_inflight(), left.collect::<Vec<_>>());
    }
}

#[test]
fn qos_2_is_not_sent_without_a_reserved_identifier() {
    let mut client = Client::connected(V5, exactly_once());
    let message = message(1);
    let qos = QoS::ExactlyOnce;
    let delivery = mqtt::server::Outgoing {
        qos,
        ..outgoing(&message)
    };
    let outcome = client.connection.publish(client.now, delivery);
    assert_eq!(outcome, PublishOutcome::NotReserved);
    assert_eq!(
        publish_reserved(&mut client, id(1), 1),
        PublishOutcome::NotReserved
    );
    send_qos_2(&mut client);
    assert_eq!(
        publish_reserved(&mut client, id(1), 1),
        PublishOutcome::NotReserved
    );

    let mut client = Client::connected(V5, Options::default());
    assert_eq!(client.connection.reserve(), None, "QoS 2 is not served");
}

#[test]
fn the_window_holds_both_qos_until_their_last_acknowledgement() {
    let mut client = Client::connected(V5, with_window(3));
    assert_eq!(client.connection.free_places(), 3);
    assert_eq!(send_qos_1(&mut client), sent(1));
    send_qos_2(&mut client);
    reserve(&mut client);
    assert_eq!(client.connection.free_places(), 0);
    assert_eq!(client.connection.reserve(), None);

    assert!(client.connection.cancel(client.now, id(3)));
    assert!(!client.connection.cancel(client.now, id(2)), "it was sent");
    assert_eq!(client.connection.free_places(), 1);
    send_qos_2(&mut client);
    says(&mut client, PUBREC, 2);
    release(&mut client, 2);
    assert_eq!(client.connection.free_places(), 0);
    says(&mut client, PUBCOMP, 2);
    assert_eq!(client.connection.free_places(), 1);
    says(&mut client, PUBACK, 1);
    client.send(&acknowledgement(PUBREC, 4, ReasonCode::QuotaExceeded));
    assert_eq!(client.connection.free_places(), 3);
    let over = Event::Acknowledged {
        packet_id: id(4),
        reason_code: ReasonCode::QuotaExceeded,
    };
    assert_eq!(client.events()[3], over);
}

#[test]
fn the_client_s_receive_maximum_holds_for_qos_2() {
    let properties = ConnectProperties {
        receive_maximum: NonZeroU16::new(1),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        properties,
        ..plain(V5)
    };
    let mut client = Client::connected_with(connect, exactly_once());
    send_qos_2(&mut client);
    assert_eq!(client.connection.reserve(), None);
}

#[test]
fn pubrels_leave_in_the_order_of_the_pubrecs() {
    for version in VERSIONS {
        let mut client = Client::connected(version, exactly_once());
        for _ in 1..=3 {
            send_qos_2(&mut client);
        }
        client.received();
        for number in [2, 3, 1] {
            says(&mut client, PUBREC, number);
        }
        assert!(release(&mut client, 1) && release(&mut client, 3));
        assert_eq!(client.received(), [], "2 was first");
        assert!(release(&mut client, 2));
        assert_eq!(
            received(&mut client),
            [(PUBREL, 2), (PUBREL, 3), (PUBREL, 1)]
        );
    }
}

#[test]
fn a_message_that_the_client_does_not_take_frees_its_identifier() {
    let properties = ConnectProperties {
        maximum_packet_size: NonZeroU32::new(28),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        properties,
        ..plain(V5)
    };
    let mut client = Client::connected_with(connect.clone(), exactly_once());
    let packet_id = reserve(&mut client);
    let outcome = publish_reserved(&mut client, packet_id, 21);
    assert_eq!(outcome, PublishOutcome::DroppedTooLarge);
    assert_eq!(client.connection.inflight(), 0);
    assert_eq!(client.received(), []);

    let states = [InflightState::AwaitsPuback, InflightState::AwaitsPubrec];
    let mut client = resumed(connect, exactly_once(), &entries(&states));
    for number in [1, 2] {
        assert_eq!(
            resend(&mut client, number, 21),
            PublishOutcome::DroppedTooLarge
        );
    }
    assert_eq!(
        received(&mut client),
        [(PUBREL, 2)],
        "the client may have it"
    );
    says(&mut client, PUBCOMP, 2);
    assert_eq!(client.connection.inflight(), 0);
}

#[test]
fn a_full_transmit_buffer_takes_messages_later() {
    let options = Options {
        transmit_bytes_max: 1_000,
        ..exactly_once()
    };
    let mut client = Client::connected(V5, options.clone());
    assert_eq!(client.connection.free_bytes(), 1_000);
    let [first, second] = [(); 2].map(|()| reserve(&mut client));
    assert_eq!(publish_reserved(&mut client, first, 900), sent(1));
    assert!(client.connection.free_bytes() < 100);
    assert_eq!(
        publish_reserved(&mut client, second, 200),
        PublishOutcome::NoRoom
    );
    assert_eq!(client.connection.inflight(), 2, "it keeps its place");
    assert_eq!(received(&mut client), [(PUBLISH, 1)]);
    assert_eq!(publish_reserved(&mut client, second, 200), sent(2));

    let states = [InflightState::AwaitsPubrec; 2];
    let mut client = resumed(plain(V5), options, &entries(&states));
    assert_eq!(resend(&mut client, 1, 900), sent(1));
    assert_eq!(resend(&mut client, 2, 200), PublishOutcome::NoRoom);
    client.received();
    assert_eq!(resend(&mut client, 2, 200), sent(2));
}
