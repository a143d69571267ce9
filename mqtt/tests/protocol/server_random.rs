//! The state machine under random operations, whatever their order: it does not panic, it keeps
//! its bounds, and it ends once.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mqtt::codec::{Limits, decode};
use mqtt::server::{
    Accept, Connection, Event, InflightEntry, InflightState, Options, Outgoing, PublishOutcome,
    PublishTicket, ReleaseTicket, SubscribeTicket, UnsubscribeTicket,
};
use mqtt::{Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::client::{acknowledgement, id, message, outgoing, publish_qos, start_of_time};
use crate::raw::{V5, V311, encoded, string};
use crate::strategies::packet;

#[derive(Debug, Clone)]
enum Operation {
    Accept,
    Acknowledge {
        number: u16,
    },
    Bytes(Vec<u8>),
    Cancel {
        which: Index,
    },
    Complete {
        which: Index,
        code: ReasonCode,
    },
    CompleteRelease {
        which: Index,
    },
    CompleteRequest {
        which: Index,
        codes: usize,
    },
    Disconnect(ReasonCode),
    EndOfStream,
    Forget {
        number: u16,
    },
    Packet(Box<Packet>),
    Pass {
        millis: u64,
    },
    Pause,
    Poll,
    Publish {
        bytes: usize,
        qos: QoS,
        expiry: Option<u32>,
    },
    PublishReserved {
        which: Index,
        bytes: usize,
    },
    Qos2 {
        packet: PacketType,
        number: u16,
        code: ReasonCode,
    },
    Receive {
        number: u16,
        qos: QoS,
    },
    Release {
        number: u16,
    },
    Resend {
        number: u16,
        bytes: usize,
    },
    Reserve,
    Refuse(ReasonCode),
    Resume,
    Suspend {
        which: Index,
    },
    Transmit {
        bytes: usize,
    },
}

fn operation(version: ProtocolVersion) -> impl Strategy<Value = Operation> {
    let code = || select(ReasonCode::ALL);
    let qos = || select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let which = any::<Index>;
    prop_oneof![
        8 => Just(Operation::Accept),
        24 => (1..30_u16).prop_map(|number| Operation::Acknowledge { number }),
        1 => vec(any::<u8>(), 0..20).prop_map(Operation::Bytes),
        4 => which().prop_map(|which| Operation::Cancel { which }),
        16 => which().prop_map(|which| Operation::CompleteRelease { which }),
        2 => (1..10_u16).prop_map(|number| Operation::Forget { number }),
        16 => (which(), 0..400_usize)
            .prop_map(|(which, bytes)| Operation::PublishReserved { which, bytes }),
        32 => (select(QOS_2.to_vec()), 1..10_u16, code())
            .prop_map(|(packet, number, code)| Operation::Qos2 { packet, number, code }),
        24 => (1..10_u16).prop_map(|number| Operation::Release { number }),
        8 => (1..10_u16, 0..400_usize)
            .prop_map(|(number, bytes)| Operation::Resend { number, bytes }),
        16 => Just(Operation::Reserve),
        32 => (which(), code()).prop_map(|(which, code)| Operation::Complete { which, code }),
        12 => (which(), 0..3_usize)
            .prop_map(|(which, codes)| Operation::CompleteRequest { which, codes }),
        1 => code().prop_map(Operation::Disconnect),
        1 => Just(Operation::EndOfStream),
        1 => packet(version).prop_map(|packet| Operation::Packet(Box::new(packet))),
        12 => request(version).prop_map(|packet| Operation::Packet(Box::new(packet))),
        6 => (0..6_000_u64).prop_map(|millis| Operation::Pass { millis }),
        3 => Just(Operation::Pause),
        48 => Just(Operation::Poll),
        32 => (0..400_usize, qos(), proptest::option::of(0..20_u32))
            .prop_map(|(bytes, qos, expiry)| Operation::Publish { bytes, qos, expiry }),
        40 => (1..30_u16, select(vec![QoS::AtLeastOnce, QoS::ExactlyOnce]))
            .prop_map(|(number, qos)| Operation::Receive { number, qos }),
        1 => code().prop_map(Operation::Refuse),
        8 => Just(Operation::Resume),
        12 => which().prop_map(|which| Operation::Suspend { which }),
        24 => (0..1_500_usize).prop_map(|bytes| Operation::Transmit { bytes }),
    ]
}

/// What a client sends about messages of QoS 2.
const QOS_2: [PacketType; 3] = [PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp];

/// What an earlier connection has left: more than the window has places.
fn inflight() -> Vec<InflightEntry> {
    let states = [
        InflightState::AwaitsPuback,
        InflightState::AwaitsPubrec,
        InflightState::OwesPubrel,
        InflightState::AwaitsPubcomp,
        InflightState::AwaitsPubrec,
    ];
    let packet_ids = (2..).map(|number| mqtt::PacketId::new(number).unwrap());
    let entries = packet_ids.zip(states);
    entries
        .map(|(packet_id, state)| InflightEntry { packet_id, state })
        .collect()
}

/// What a client sends in the ordinary course of things.
fn request(version: ProtocolVersion) -> impl Strategy<Value = Packet> {
    packet(version).prop_filter("not a request", |packet| {
        matches!(
            packet,
            Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq
        )
    })
}

/// Small bounds, so that all of them are met.
fn options() -> Options {
    Options {
        receive_maximum: NonZeroU16::new(8).unwrap(),
        topic_alias_maximum: 3,
        inflight_max: NonZeroU16::new(4).unwrap(),
        queue_messages_max: 5,
        queue_bytes_max: 1_000,
        transmit_bytes_max: 600,
        suspended_publishes_max: 4,
        suspended_bytes_max: 1_000,
        maximum_qos: QoS::ExactlyOnce,
        limits: Limits {
            packet_bytes_max: 2_000,
            ..Limits::default()
        },
        ..Options::default()
    }
}

/// The connection with a driver that does whatever the operations say.
struct Driver {
    connection: Connection,
    version: ProtocolVersion,
    now: Instant,
    input: BytesMut,
    publishes: Vec<PublishTicket>,
    releases: Vec<ReleaseTicket>,
    reserved: Vec<mqtt::PacketId>,
    subscribes: Vec<SubscribeTicket>,
    unsubscribes: Vec<UnsubscribeTicket>,
    disconnected: usize,
    transmitted: BytesMut,
}

impl Driver {
    fn new(version: ProtocolVersion) -> Self {
        let now = start_of_time();
        let mut driver = Self {
            connection: Connection::new(Arc::new(options()), now),
            version,
            now,
            input: BytesMut::new(),
            publishes: Vec::new(),
            releases: Vec::new(),
            reserved: Vec::new(),
            subscribes: Vec::new(),
            unsubscribes: Vec::new(),
            disconnected: 0,
            transmitted: BytesMut::new(),
        };
        let connect = mqtt::Connect {
            keep_alive_seconds: 10,
            ..mqtt::Connect::new(version, string("c"))
        };
        driver.packet(&Packet::Connect(Box::new(connect)));
        driver
    }

    fn packet(&mut self, packet: &Packet) {
        self.bytes(&encoded(self.version, packet));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.connection.wants_read() {
            self.input.extend_from_slice(bytes);
        }
        self.connection.handle_bytes(self.now, &mut self.input);
    }

    fn run(&mut self, operation: Operation) {
        let now = self.now;
        let connection = &mut self.connection;
        match operation {
            Operation::Accept => {
                let inflight = match self.version {
                    V5 => inflight(),
                    V311 => Vec::new(),
                };
                let accept = Accept {
                    inflight,
                    ..Accept::default()
                };
                let _accepted = connection.accept(now, accept);
            }
            Operation::Acknowledge { number } => {
                let packet_id = mqtt::PacketId::new(number).unwrap();
                let puback = mqtt::Acknowledgement::new(packet_id, ReasonCode::Success);
                self.packet(&Packet::Puback(puback));
            }
            Operation::Bytes(bytes) => self.bytes(&bytes),
            Operation::Complete { which, code } => {
                if let Some(ticket) = pick(&self.publishes, which) {
                    let _completed = connection.complete_publish(now, ticket, code);
                }
            }
            Operation::CompleteRequest { which, codes } => {
                let codes = vec![ReasonCode::Success; codes];
                if let Some(ticket) = pick(&self.subscribes, which) {
                    let _completed = connection.complete_subscribe(now, ticket, codes.clone());
                }
                if let Some(ticket) = pick(&self.unsubscribes, which) {
                    let _completed = connection.complete_unsubscribe(now, ticket, codes);
                }
            }
            Operation::Cancel { .. }
            | Operation::CompleteRelease { .. }
            | Operation::Forget { .. }
            | Operation::PublishReserved { .. }
            | Operation::Qos2 { .. }
            | Operation::Release { .. }
            | Operation::Resend { .. }
            | Operation::Reserve => self.run_qos_2(&operation),
            Operation::Disconnect(code) => connection.disconnect(code),
            Operation::EndOfStream => connection.handle_end_of_stream(),
            Operation::Packet(packet) => self.packet(&packet),
            Operation::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                connection.handle_timeout(self.now);
            }
            Operation::Pause => connection.pause(now),
            Operation::Poll => self.poll(),
            Operation::Publish { bytes, qos, expiry } => self.publish(bytes, qos, expiry),
            Operation::Receive { number, qos } => self.packet(&publish_qos(number, qos)),
            Operation::Refuse(code) => drop(connection.refuse(code)),
            Operation::Resume => connection.resume(now),
            Operation::Suspend { which } => {
                if let Some(ticket) = pick(&self.publishes, which) {
                    let _suspended = connection.suspend(now, ticket);
                }
            }
            Operation::Transmit { bytes } => self.transmit(bytes),
        }
    }

    fn run_qos_2(&mut self, operation: &Operation) {
        let now = self.now;
        let connection = &mut self.connection;
        match *operation {
            Operation::Cancel { which } => {
                if let Some(packet_id) = pick(&self.reserved, which) {
                    let _cancelled = connection.cancel(now, packet_id);
                }
            }
            Operation::CompleteRelease { which } => {
                if let Some(ticket) = pick(&self.releases, which) {
                    let _completed = connection.complete_release(now, ticket, ReasonCode::Success);
                }
            }
            Operation::Forget { number } => {
                let _forgotten = connection.forget(now, id(number));
            }
            Operation::PublishReserved { which, bytes } => {
                if let Some(packet_id) = pick(&self.reserved, which) {
                    let message = message(bytes);
                    let _outcome = connection.publish_reserved(now, packet_id, outgoing(&message));
                }
            }
            Operation::Qos2 {
                packet,
                number,
                code,
            } => {
                let packet = acknowledgement(packet, number, code);
                // A code that the packet does not carry cannot be sent.
                let mut bytes = BytesMut::new();
                if packet.encode(self.version, &mut bytes).is_ok() {
                    self.bytes(&bytes);
                }
            }
            Operation::Release { number } => {
                let _released = connection.release(now, id(number));
            }
            Operation::Resend { number, bytes } => {
                let message = message(bytes);
                let _outcome = connection.resend(now, id(number), outgoing(&message));
            }
            Operation::Reserve => self.reserved.extend(connection.reserve()),
            _ => {}
        }
    }

    fn poll(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert_eq!(self.disconnected, 0, "an event after the last one");
            match event {
                Event::Publish { ticket, .. } => self.publishes.extend(ticket),
                Event::Subscribe { ticket, .. } => self.subscribes.push(ticket),
                Event::Unsubscribe { ticket, .. } => self.unsubscribes.push(ticket),
                Event::Disconnected { .. } => self.disconnected += 1,
                Event::Release { ticket, .. } => self.releases.push(ticket),
                Event::Connect(_)
                | Event::Acknowledged { .. }
                | Event::Received { .. }
                | Event::Expired { .. } => {}
            }
        }
    }

    fn publish(&mut self, bytes: usize, qos: QoS, message_expiry_interval: Option<u32>) {
        let is_closed = self.connection.is_closed();
        let message = message(bytes);
        let outcome = self.connection.publish(
            self.now,
            Outgoing {
                qos,
                message_expiry_interval,
                ..outgoing(&message)
            },
        );
        assert!(!is_closed || outcome == PublishOutcome::NotConnected);
    }

    fn transmit(&mut self, bytes: usize) {
        let buffer = self.connection.transmit_buffer();
        let bytes = bytes.min(buffer.remaining());
        let mut written = vec![0; bytes];
        buffer.copy_to_slice(&mut written);
        self.transmitted.extend_from_slice(&written);
        self.connection.handle_transmitted(self.now);
    }

    fn check_bounds(&self) {
        let connection = &self.connection;
        let options = options();
        assert!(
            connection.inflight() <= 5,
            "the window, or what was handed over"
        );
        assert!(connection.free_places() <= 4);
        assert!(connection.pending_releases() <= 8);
        assert!(connection.queued_messages() <= options.queue_messages_max);
        assert!(connection.queued_bytes() <= options.queue_bytes_max);
        assert!(connection.pending_publishes() <= 16);
        // Messages, the room for answers, and one answer and the last DISCONNECT more.
        assert!(connection.transmit_bytes() <= 600 + 65_536 + 2_000);
        if connection.is_closed() {
            assert!(!connection.wants_read());
            assert_eq!(connection.poll_timeout(), None);
            assert_eq!(
                (connection.free_places(), connection.pending_publishes()),
                (0, 0)
            );
        }
    }

    /// What was sent is a stream of packets that the peer can read.
    fn check_transmitted(&mut self) {
        self.transmit(usize::MAX);
        while decode(
            &mut self.transmitted,
            Some(self.version),
            &Limits::default(),
        )
        .expect("we sent what is no packet")
        .is_some()
        {}
        assert!(
            self.connection.is_closed() || self.transmitted.is_empty(),
            "half a packet"
        );
    }
}

fn pick<T: Copy>(tickets: &[T], which: Index) -> Option<T> {
    (!tickets.is_empty()).then(|| tickets[which.index(tickets.len())])
}

fn check(version: ProtocolVersion, operations: Vec<Operation>) {
    let mut driver = Driver::new(version);
    for operation in operations {
        driver.run(operation);
        driver.check_bounds();
    }
    driver.check_transmitted();
    driver.connection.handle_end_of_stream();
    driver.poll();
    assert_eq!(driver.disconnected, 1, "the end comes once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bounds_hold_under_random_operations_in_3_1_1(
        operations in vec(operation(V311), 0..120),
    ) {
        check(V311, operations);
    }

    #[test]
    fn bounds_hold_under_random_operations_in_mqtt_5(operations in vec(operation(V5), 0..120)) {
        check(V5, operations);
    }
}
