//! Any operations on the server's state machine: it does not panic, keeps its bounds, sends only
//! packets, and ends once.
//!
//! Input: operations, each one byte that says which, and one byte of argument. Operation 0 is
//! followed by as many bytes from the client as its argument says.

#![no_main]

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mqtt::codec::{Limits, decode};
use mqtt::server::{
    Accept, Connection, Event, InflightEntry, InflightState, Options, Outgoing, PublishTicket,
    ReleaseTicket, SubscribeTicket, UnsubscribeTicket,
};
use mqtt::{Message, MessageProperties, PacketId, ProtocolVersion, QoS, ReasonCode};

fuzz_target!(|data: &[u8]| {
    let mut driver = Driver::new();
    let mut rest = data;
    while let [operation, argument, tail @ ..] = rest {
        rest = tail;
        if operation % OPERATIONS == 0 {
            let len = usize::from(*argument).min(rest.len());
            let (bytes, tail) = rest.split_at(len);
            rest = tail;
            driver.bytes(bytes);
        } else {
            driver.run(operation % OPERATIONS, *argument);
        }
        driver.check_bounds();
    }
    driver.finish();
});

const OPERATIONS: u8 = 23;

/// Most deliveries that an earlier connection has left: more than the window has places.
const LEFT_MAX: u16 = 6;

/// The connection with a driver that does whatever the input says.
struct Driver {
    connection: Connection,
    now: Instant,
    input: BytesMut,
    publishes: Vec<PublishTicket>,
    releases: Vec<ReleaseTicket>,
    subscribes: Vec<(SubscribeTicket, usize)>,
    unsubscribes: Vec<(UnsubscribeTicket, usize)>,
    version: Option<ProtocolVersion>,
    transmitted: BytesMut,
    ends: usize,
}

/// Small bounds, so that all of them are met.
fn options() -> Options {
    const FOUR: NonZeroU16 = NonZeroU16::new(4).unwrap();
    Options {
        receive_maximum: FOUR,
        maximum_qos: QoS::ExactlyOnce,
        topic_alias_maximum: 3,
        topic_alias_sent_max: 2,
        inflight_max: FOUR,
        queue_messages_max: 5,
        queue_bytes_max: 1_000,
        transmit_bytes_max: 600,
        suspended_publishes_max: 2,
        suspended_bytes_max: 100,
        limits: Limits {
            packet_bytes_max: 2_000,
            ..Limits::default()
        },
        ..Options::default()
    }
}

impl Driver {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(Arc::new(options()), now),
            now,
            input: BytesMut::new(),
            publishes: Vec::new(),
            releases: Vec::new(),
            subscribes: Vec::new(),
            unsubscribes: Vec::new(),
            version: None,
            transmitted: BytesMut::new(),
            ends: 0,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.connection.wants_read() {
            self.input.extend_from_slice(bytes);
        }
        self.connection.handle_bytes(self.now, &mut self.input);
        self.version = self.version.or(self.connection.version());
    }

    fn run(&mut self, operation: u8, argument: u8) {
        let now = self.now;
        let which = usize::from(argument);
        let code = ReasonCode::from_u8(argument).unwrap_or_default();
        match operation {
            1 => drop(self.connection.accept(now, Accept::default())),
            2 => drop(self.connection.refuse(code)),
            3 => self.poll(),
            4 => {
                if let Some(ticket) = pick(&self.publishes, which) {
                    let _ = self
                        .connection
                        .complete_publish(now, ticket, ReasonCode::Success);
                }
            }
            5 => {
                if let Some(ticket) = self.publishes.first() {
                    let _ = self.connection.complete_publish(now, *ticket, code);
                }
            }
            6 => {
                if let Some(ticket) = pick(&self.publishes, which) {
                    let _ = self.connection.suspend(now, ticket);
                }
            }
            7 => self.complete_requests(which),
            8 => self.publish(which, QoS::AtMostOnce),
            9 => self.publish(which, QoS::AtLeastOnce),
            10 => {
                self.now += Duration::from_millis(100 * u64::from(argument));
                self.connection.handle_timeout(self.now);
            }
            11 => self.transmit(16 * which),
            12 if argument % 2 == 0 => self.connection.pause(now),
            12 => self.connection.resume(now),
            13 => self.connection.disconnect(code),
            14 => self.connection.handle_end_of_stream(),
            _ => self.run_qos_2(operation, argument),
        }
    }

    fn run_qos_2(&mut self, operation: u8, argument: u8) {
        let now = self.now;
        let packet_id = id(u16::from(argument % 10) + 1);
        let message = message(argument.into(), QoS::ExactlyOnce);
        let outgoing = outgoing(&message);
        match operation {
            15 => {
                if let Some(ticket) = pick(&self.releases, argument.into()) {
                    let _ = self
                        .connection
                        .complete_release(now, ticket, ReasonCode::Success);
                }
            }
            16 => {
                if let Some(packet_id) = self.connection.reserve() {
                    assert!(!self.connection.release(now, packet_id), "nobody has it");
                }
            }
            17 => drop(self.connection.publish_reserved(now, packet_id, outgoing)),
            18 => drop(self.connection.cancel(now, packet_id)),
            19 => drop(self.connection.release(now, packet_id)),
            20 => drop(self.connection.resend(now, packet_id, outgoing)),
            21 => drop(self.connection.forget(now, packet_id)),
            _ => self.accept_with(argument),
        }
    }

    /// Accepts with what an earlier connection has left: a state for every two bits.
    fn accept_with(&mut self, mut states: u8) {
        let mut inflight = Vec::new();
        for number in 1..=LEFT_MAX {
            let state = match states & 3 {
                0 => InflightState::AwaitsPuback,
                1 => InflightState::AwaitsPubrec,
                2 => InflightState::OwesPubrel,
                _ => InflightState::AwaitsPubcomp,
            };
            states = states.rotate_right(2);
            let packet_id = id(number);
            inflight.push(InflightEntry { packet_id, state });
        }
        let accept = Accept {
            session_present: true,
            inflight,
            ..Accept::default()
        };
        let _ = self.connection.accept(self.now, accept);
    }

    fn poll(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert_eq!(self.ends, 0, "an event after the last one");
            match event {
                Event::Publish { ticket, .. } => self.publishes.extend(ticket),
                Event::Release { ticket, .. } => self.releases.push(ticket),
                Event::Subscribe {
                    ticket,
                    subscriptions,
                    ..
                } => {
                    self.subscribes.push((ticket, subscriptions.len()));
                }
                Event::Unsubscribe {
                    ticket, filters, ..
                } => {
                    self.unsubscribes.push((ticket, filters.len()));
                }
                Event::Disconnected { .. } => self.ends += 1,
                _ => {}
            }
        }
    }

    fn complete_requests(&mut self, which: usize) {
        if let Some((ticket, filters)) = pick(&self.subscribes, which) {
            let codes = vec![ReasonCode::GrantedQos1; filters];
            let _ = self.connection.complete_subscribe(self.now, ticket, codes);
        }
        if let Some((ticket, filters)) = pick(&self.unsubscribes, which) {
            let codes = vec![ReasonCode::Success; filters];
            let _ = self
                .connection
                .complete_unsubscribe(self.now, ticket, codes);
        }
    }

    fn publish(&mut self, bytes: usize, qos: QoS) {
        let message = message(bytes, qos);
        let outgoing = Outgoing {
            message_expiry_interval: (bytes % 2 == 0).then_some(5),
            ..outgoing(&message)
        };
        self.connection.publish(self.now, outgoing);
    }

    fn transmit(&mut self, bytes: usize) {
        let buffer = self.connection.transmit_buffer();
        let bytes = bytes.min(buffer.remaining());
        self.transmitted
            .extend_from_slice(&buffer.copy_to_bytes(bytes));
        self.connection.handle_transmitted(self.now);
    }

    fn check_bounds(&self) {
        let connection = &self.connection;
        assert!(connection.inflight() <= usize::from(LEFT_MAX));
        assert!(connection.free_places() <= 4);
        assert!(connection.pending_releases() <= 4);
        assert!(connection.queued_messages() <= 5);
        assert!(connection.queued_messages() == 1 || connection.queued_bytes() <= 1_000);
        assert!(connection.pending_publishes() <= 8);
        // One large message, the room for answers, and one answer and the last DISCONNECT more.
        assert!(connection.transmit_bytes() <= 16 * 256 + 65_536 + 2_000);
        if connection.is_closed() {
            assert!(!connection.wants_read());
            assert_eq!(connection.poll_timeout(), None);
        }
    }

    fn finish(&mut self) {
        self.transmit(usize::MAX);
        self.connection.handle_end_of_stream();
        self.poll();
        assert_eq!(self.ends, 1, "the end comes once");
        let mut left = self.connection.take_inflight();
        let count = left.len();
        left.sort_unstable_by_key(|entry| entry.packet_id);
        left.dedup_by_key(|entry| entry.packet_id);
        assert_eq!(left.len(), count, "an identifier is in use twice");
        let limits = Limits {
            packet_bytes_max: u32::MAX,
            ..Limits::default()
        };
        // The answer to an unserved CONNECT is in the shape that its sender understands.
        let Some(version) = self.version else { return };
        while decode(&mut self.transmitted, Some(version), &limits)
            .expect("we sent what is no packet")
            .is_some()
        {}
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

fn message(bytes: usize, qos: QoS) -> Arc<Message> {
    Arc::new(Message {
        topic: "t".parse().expect("a topic name"),
        payload: Bytes::from(vec![0; 16 * bytes]),
        qos,
        retain: false,
        properties: MessageProperties::default(),
    })
}

fn outgoing(message: &Arc<Message>) -> Outgoing<'_> {
    Outgoing {
        message,
        qos: message.qos,
        retain: false,
        message_expiry_interval: None,
        subscription_identifiers: &[],
    }
}

fn pick<T: Copy>(tickets: &[T], which: usize) -> Option<T> {
    tickets.get(which.checked_rem(tickets.len())?).copied()
}
