//! A client and a driver around one [`Connection`], in time that only the test moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mqtt::codec::{Limits, decode};
use mqtt::server::{
    Accept, Connection, DisconnectCause, Event, Misbehaviour, Options, Outgoing, PublishTicket,
};
use mqtt::{
    Acknowledgement, Connack, Connect, Delivery, Message, MessageProperties, Packet, PacketId,
    PacketType, ProtocolVersion, Publish, QoS, ReasonCode, TopicName,
};

use crate::raw::{encoded, string};

/// Where the tests' time begins. An [`Instant`] cannot be made in another way; from here on only
/// the tests move it.
pub(crate) fn start_of_time() -> Instant {
    Instant::now()
}

/// The tested connection with what lies around it.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
    pub(crate) version: ProtocolVersion,
    /// Bytes that the driver has read and the machine has not taken.
    pub(crate) input: BytesMut,
    received: BytesMut,
}

impl Client {
    /// A connection that awaits CONNECT.
    pub(crate) fn new(version: ProtocolVersion, options: Options) -> Self {
        let now = start_of_time();
        let connection = Connection::new(Arc::new(options), now);
        Self {
            connection,
            now,
            version,
            input: BytesMut::new(),
            received: BytesMut::new(),
        }
    }

    /// A connection that is past CONNACK.
    pub(crate) fn connected(version: ProtocolVersion, options: Options) -> Self {
        Self::connected_with(Connect::new(version, string("c")), options)
    }

    pub(crate) fn connected_with(connect: Connect, options: Options) -> Self {
        let mut client = Self::new(connect.version, options);
        client.send(&Packet::Connect(Box::new(connect)));
        assert!(matches!(client.events()[..], [Event::Connect(_)]));
        client
            .connection
            .accept(client.now, Accept::default())
            .unwrap();
        assert_eq!(client.connack().reason_code, ReasonCode::Success);
        client
    }

    /// Moves time and lets the machine know.
    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now += duration;
        if self
            .connection
            .poll_timeout()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.connection.handle_timeout(self.now);
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        self.send_bytes(&encoded(self.version, packet));
    }

    /// Hands bytes to the machine, once.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.connection.handle_bytes(self.now, &mut self.input);
    }

    /// All events, and those that come when the machine may go on.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let before = events.len();
            events.extend(std::iter::from_fn(|| self.connection.poll_event()));
            if events.len() == before {
                return events;
            }
            self.connection.handle_bytes(self.now, &mut self.input);
        }
    }

    /// What the server has sent since the last call.
    pub(crate) fn received(&mut self) -> Vec<Packet> {
        while let Some(chunk) = self.connection.poll_transmit() {
            self.received.extend_from_slice(&chunk);
        }
        self.connection.handle_transmitted(self.now);
        while let Some(chunk) = self.connection.poll_transmit() {
            self.received.extend_from_slice(&chunk);
        }
        let limits = Limits {
            packet_bytes_max: u32::MAX,
            ..Limits::default()
        };
        std::iter::from_fn(|| decode(&mut self.received, Some(self.version), &limits).unwrap())
            .collect()
    }

    pub(crate) fn connack(&mut self) -> Connack {
        match &self.received()[..] {
            [Packet::Connack(connack)] => (**connack).clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Publishes with QoS 1 and returns the ticket.
    pub(crate) fn publish(&mut self, packet_id: u16) -> PublishTicket {
        self.send(&publish(packet_id));
        match &self.events()[..] {
            [
                Event::Publish {
                    ticket: Some(ticket),
                    ..
                },
            ] => *ticket,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn complete(&mut self, ticket: PublishTicket, reason_code: ReasonCode) {
        self.connection
            .complete_publish(self.now, ticket, reason_code)
            .unwrap();
    }

    /// Sends a packet that must not be sent, and asserts what becomes of the connection.
    #[track_caller]
    pub(crate) fn assert_misbehaved(mut self, packet: &Packet, expected: Misbehaviour) {
        self.send(packet);
        let told = self.told();
        assert_eq!(self.cause(), DisconnectCause::Misbehaved(expected));
        let is_told = self.version == ProtocolVersion::V5;
        assert_eq!(
            told,
            is_told.then(|| expected.reason_code()),
            "{}",
            self.version
        );
    }

    /// Asserts that the connection has ended, as the last event and once, and returns why.
    pub(crate) fn cause(&mut self) -> DisconnectCause {
        self.ended().0
    }

    /// Why the connection has ended, and whether the will is to be published.
    pub(crate) fn ended(&mut self) -> (DisconnectCause, bool) {
        assert!(self.connection.is_closed(), "still open");
        assert!(!self.connection.wants_read());
        assert_eq!(self.connection.poll_timeout(), None);
        let mut events = self.events();
        let last = events.pop();
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, Event::Disconnected { .. }))
        );
        match last {
            Some(Event::Disconnected {
                cause,
                publish_will,
            }) => (cause, publish_will),
            other => panic!("{other:?}"),
        }
    }

    /// The reason of the DISCONNECT that the server has sent, if any.
    pub(crate) fn told(&mut self) -> Option<ReasonCode> {
        match self.received().last() {
            Some(Packet::Disconnect(disconnect)) => Some(disconnect.reason_code),
            _ => None,
        }
    }
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// An acknowledgement of this type.
pub(crate) fn acknowledgement(packet: PacketType, number: u16, code: ReasonCode) -> Packet {
    let acknowledgement = Acknowledgement::new(id(number), code);
    match packet {
        PacketType::Puback => Packet::Puback(acknowledgement),
        PacketType::Pubrec => Packet::Pubrec(acknowledgement),
        PacketType::Pubrel => Packet::Pubrel(acknowledgement),
        PacketType::Pubcomp => Packet::Pubcomp(acknowledgement),
        other => panic!("{other} is none"),
    }
}

/// A delivery as plain as can be.
pub(crate) fn outgoing(message: &Arc<Message>) -> Outgoing<'_> {
    Outgoing {
        message,
        qos: message.qos,
        retain: false,
        message_expiry_interval: None,
        subscription_identifiers: &[],
    }
}

/// Options with QoS 2.
pub(crate) fn exactly_once() -> Options {
    Options {
        maximum_qos: QoS::ExactlyOnce,
        ..Options::default()
    }
}

/// A PUBLISH with the payload `p`.
pub(crate) fn publish_qos(packet_id: u16, qos: QoS) -> Packet {
    let Packet::Publish(plain) = publish(packet_id) else {
        panic!()
    };
    let (packet_id, dup) = (id(packet_id), false);
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
    };
    Packet::Publish(Publish { delivery, ..plain })
}

/// A PUBLISH of QoS 1 with the payload `p`.
pub(crate) fn publish(packet_id: u16) -> Packet {
    publish_with(packet_id, b"p")
}

/// A PUBLISH of QoS 1.
pub(crate) fn publish_with(packet_id: u16, payload: &'static [u8]) -> Packet {
    let packet_id = PacketId::new(packet_id).unwrap();
    Packet::Publish(Publish {
        delivery: Delivery::AtLeastOnce {
            packet_id,
            dup: false,
        },
        retain: false,
        topic: Some(topic("t")),
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        properties: MessageProperties::default(),
        payload: Bytes::from_static(payload),
    })
}

pub(crate) fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// A message with a payload of this many bytes.
pub(crate) fn message(payload_bytes: usize) -> Arc<Message> {
    Arc::new(Message {
        topic: topic("t"),
        payload: vec![b'x'; payload_bytes].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: MessageProperties::default(),
    })
}

/// The packet identifiers of the PUBACKs among the packets, with their codes.
pub(crate) fn pubacks(packets: &[Packet]) -> Vec<(u16, ReasonCode)> {
    packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Puback(puback) => Some((puback.packet_id.get(), puback.reason_code)),
            _ => None,
        })
        .collect()
}
