//! The state machine under random operations, whatever their order: it does not panic, it keeps
//! its bounds, and it ends once.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mqtt::codec::{Limits, decode};
use mqtt::server::{
    Accept, Connection, Event, Options, Outgoing, PublishOutcome, PublishTicket, SubscribeTicket,
    UnsubscribeTicket,
};
use mqtt::{Packet, ProtocolVersion, QoS, ReasonCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::client::{message, publish, start_of_time};
use crate::raw::{V5, V311, encoded, string};
use crate::strategies::packet;

#[derive(Debug, Clone)]
enum Operation {
    Accept,
    Acknowledge {
        number: u16,
    },
    Bytes(Vec<u8>),
    Complete {
        which: Index,
        code: ReasonCode,
    },
    CompleteRequest {
        which: Index,
        codes: usize,
    },
    Disconnect(ReasonCode),
    EndOfStream,
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
    Receive {
        number: u16,
    },
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
        40 => (1..30_u16).prop_map(|number| Operation::Receive { number }),
        1 => code().prop_map(Operation::Refuse),
        8 => Just(Operation::Resume),
        12 => which().prop_map(|which| Operation::Suspend { which }),
        24 => (0..1_500_usize).prop_map(|bytes| Operation::Transmit { bytes }),
    ]
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
            Operation::Accept => drop(connection.accept(now, Accept::default())),
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
            Operation::Receive { number } => self.packet(&publish(number)),
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

    fn poll(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert_eq!(self.disconnected, 0, "an event after the last one");
            match event {
                Event::Publish { ticket, .. } => self.publishes.extend(ticket),
                Event::Subscribe { ticket, .. } => self.subscribes.push(ticket),
                Event::Unsubscribe { ticket, .. } => self.unsubscribes.push(ticket),
                Event::Disconnected { .. } => self.disconnected += 1,
                Event::Connect(_) | Event::Acknowledged { .. } | Event::Expired { .. } => {}
            }
        }
    }

    fn publish(&mut self, bytes: usize, qos: QoS, message_expiry_interval: Option<u32>) {
        let is_closed = self.connection.is_closed();
        let message = message(bytes);
        let outcome = self.connection.publish(
            self.now,
            Outgoing {
                message: &message,
                qos,
                retain: false,
                message_expiry_interval,
                subscription_identifiers: &[],
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
        assert!(connection.inflight() <= 4);
        assert!(connection.queued_messages() <= options.queue_messages_max);
        assert!(connection.queued_bytes() <= options.queue_bytes_max);
        assert!(connection.pending_publishes() <= 8);
        // Messages, the room for answers, and one answer and the last DISCONNECT more.
        assert!(connection.transmit_bytes() <= 600 + 65_536 + 2_000);
        if connection.is_closed() {
            assert!(!connection.wants_read());
            assert_eq!(connection.poll_timeout(), None);
            assert_eq!(
                (connection.inflight(), connection.pending_publishes()),
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
