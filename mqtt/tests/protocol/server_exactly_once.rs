//! A client that keeps its state and a broker with the durable sets of a session: whatever step the
//! connection is lost at, and whether or not the broker loses its memory with it, each message of
//! QoS 2 is passed on once and in order, in both directions.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use mqtt::codec::{Limits, decode};
use mqtt::server::{Connection, Options};
use mqtt::{Connect, Packet, ProtocolVersion, QoS};

use crate::client::start_of_time;
use crate::raw::*;
use crate::session_model::{Broker, Device, MESSAGES, WINDOW};

/// Both sides and what is on its way between them.
struct World {
    version: ProtocolVersion,
    now: Instant,
    device: Device,
    broker: Broker,
    connection: Connection,
    to_broker: BytesMut,
    input: BytesMut,
    to_device: BytesMut,
}

const ACTIONS: u32 = 7;

impl World {
    fn new(version: ProtocolVersion) -> Self {
        let now = start_of_time();
        let mut world = Self {
            version,
            now,
            device: Device::default(),
            broker: Broker::default(),
            connection: Connection::new(Arc::new(options()), now),
            to_broker: BytesMut::new(),
            input: BytesMut::new(),
            to_device: BytesMut::new(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.device.is_connected = false;
        self.connection = Connection::new(Arc::new(options()), self.now);
        self.input.clear();
        self.to_device.clear();
        let connect = Connect {
            clean_start: false,
            ..Connect::new(self.version, string("c"))
        };
        let connect = encoded(self.version, &Packet::Connect(Box::new(connect)));
        self.to_broker = BytesMut::from(&connect[..]);
    }

    fn lose(&mut self, is_crash: bool) {
        self.broker.lose(&mut self.connection, self.now, is_crash);
        self.connect();
    }

    /// Does one thing; `false` when there is none of this sort to do.
    fn act(&mut self, action: u32) -> bool {
        let (connection, now) = (&mut self.connection, self.now);
        match action {
            0 => self.receive(),
            1 => {
                let is_there = !self.to_broker.is_empty() && connection.wants_read();
                if is_there {
                    self.input.extend_from_slice(&self.to_broker.split());
                }
                let before = self.input.len();
                connection.handle_bytes(now, &mut self.input);
                is_there || self.input.len() < before
            }
            2 => match connection.poll_event() {
                None => false,
                Some(event) => {
                    self.broker.handle(connection, now, event);
                    true
                }
            },
            3 => self.broker.commit(connection, now),
            4 => self.broker.deliver(connection, now),
            5 => match connection.poll_transmit() {
                None => false,
                Some(chunk) => {
                    self.to_device.extend_from_slice(&chunk);
                    connection.handle_transmitted(now);
                    true
                }
            },
            _ => {
                let packet = self.device.publish_next();
                let is_there = packet.is_some();
                self.send(packet);
                is_there
            }
        }
    }

    fn receive(&mut self) -> bool {
        let limits = Limits::default();
        match decode(&mut self.to_device, Some(self.version), &limits).unwrap() {
            None => false,
            Some(packet) => {
                let answers = self.device.handle(&packet);
                self.send(answers);
                true
            }
        }
    }

    fn send(&mut self, packets: impl IntoIterator<Item = Packet>) {
        for packet in packets {
            self.to_broker
                .extend_from_slice(&encoded(self.version, &packet));
        }
    }

    /// Runs until nothing is left to do, and gives the number of steps. What is done next is
    /// chosen by `seed`.
    fn run(&mut self, seed: u32, losses: &[(usize, bool)]) -> usize {
        let mut random = seed;
        for step in 0.. {
            if let Some((_, is_crash)) = losses.iter().find(|(at, _)| *at == step) {
                self.lose(*is_crash);
            }
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let first = (random >> 16) % ACTIONS;
            let mut actions = (0..ACTIONS).map(|next| (first + next) % ACTIONS);
            if !actions.any(|action| self.act(action)) {
                return step;
            }
            assert!(step < 2_000, "it does not come to an end");
        }
        unreachable!()
    }
}

fn options() -> Options {
    Options {
        maximum_qos: QoS::ExactlyOnce,
        receive_maximum: WINDOW,
        inflight_max: WINDOW,
        ..Options::default()
    }
}

/// Gives the number of steps.
fn check(version: ProtocolVersion, seed: u32, losses: &[(usize, bool)]) -> usize {
    let mut world = World::new(version);
    let steps = world.run(seed, losses);
    let name = format!("{version}, seed {seed}, lost at {losses:?}");
    let all: Vec<u8> = (0..MESSAGES).collect();
    assert_eq!(world.broker.durable.log, all, "to the broker: {name}");
    assert_eq!(world.device.got, all, "to the client: {name}");
    assert!(world.device.outgoing.is_empty(), "{name}");
    assert!(world.device.known.is_empty(), "{name}");
    assert!(world.broker.durable.received.is_empty(), "{name}");
    assert!(world.broker.durable.bindings.is_empty(), "{name}");
    assert_eq!(world.connection.inflight(), 0, "{name}");
    steps
}

#[test]
fn each_message_is_passed_on_once_wherever_the_connection_is_lost() {
    for version in VERSIONS {
        for seed in 0..16 {
            let steps = check(version, seed, &[]);
            for step in 0..steps {
                for is_crash in [false, true] {
                    check(version, seed, &[(step, is_crash)]);
                }
            }
        }
    }
}

#[test]
fn each_message_is_passed_on_once_when_the_connection_is_lost_twice() {
    for version in VERSIONS {
        for seed in 0..1 {
            let steps = check(version, seed, &[]);
            for first in 0..steps {
                for second in first + 1..first + 17 {
                    for crashes in 0..4 {
                        let losses = [(first, crashes & 1 != 0), (second, crashes & 2 != 0)];
                        check(version, seed, &losses);
                    }
                }
            }
        }
    }
}
