//! Two sides that keep the state of a session: a client as the standard wants it, and a broker with
//! a journal.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use mqtt::server::{
    Accept, Connection, Event, InflightEntry, InflightState, PublishOutcome, PublishTicket,
    ReleaseTicket,
};
use mqtt::{Delivery, Message, Packet, PacketType, Publish, QoS, ReasonCode};

use crate::client::{acknowledgement, id, message, outgoing, publish_qos};

/// Messages in each direction, and how many may be on their way.
pub(crate) const MESSAGES: u8 = 4;
pub(crate) const WINDOW: NonZeroU16 = NonZeroU16::new(2).unwrap();

const SUCCESS: ReasonCode = ReasonCode::Success;

/// The client: what it must remember by the standard (4.1), and what it has got.
#[derive(Default)]
pub(crate) struct Device {
    pub(crate) outgoing: Vec<Published>,
    next: u8,
    /// Identifiers that it has received and that were not released.
    pub(crate) known: BTreeSet<u16>,
    pub(crate) got: Vec<u8>,
    pub(crate) is_connected: bool,
}

pub(crate) struct Published {
    packet_id: u16,
    payload: u8,
    is_received: bool,
}

impl Device {
    fn publish(packet_id: u16, payload: u8, dup: bool) -> Packet {
        let Packet::Publish(plain) = publish_qos(packet_id, QoS::ExactlyOnce) else {
            panic!()
        };
        let packet_id = id(packet_id);
        Packet::Publish(Publish {
            delivery: Delivery::ExactlyOnce { packet_id, dup },
            payload: vec![payload].into(),
            ..plain
        })
    }

    /// The next message, under the first free identifier, so that identifiers are used again soon.
    pub(crate) fn publish_next(&mut self) -> Option<Packet> {
        let is_full = self.outgoing.len() >= usize::from(WINDOW.get());
        if !self.is_connected || is_full || self.next == MESSAGES {
            return None;
        }
        let is_used = |number| self.outgoing.iter().any(|one| one.packet_id == number);
        let packet_id = (1..).find(|number| !is_used(*number)).unwrap();
        let payload = self.next;
        self.next += 1;
        self.outgoing.push(Published {
            packet_id,
            payload,
            is_received: false,
        });
        Some(Self::publish(packet_id, payload, false))
    }

    pub(crate) fn handle(&mut self, packet: &Packet) -> Vec<Packet> {
        let answer = |packet, number| vec![acknowledgement(packet, number, SUCCESS)];
        match packet {
            Packet::Connack(_) => {
                self.is_connected = true;
                self.resend()
            }
            Packet::Pubrec(pubrec) => {
                let number = pubrec.packet_id.get();
                let mut outgoing = self.outgoing.iter_mut();
                let found = outgoing.find(|one| one.packet_id == number);
                found.expect("PUBREC of nothing").is_received = true;
                answer(PacketType::Pubrel, number)
            }
            Packet::Pubcomp(pubcomp) => {
                let number = pubcomp.packet_id.get();
                let mut outgoing = self.outgoing.iter();
                let index = outgoing.position(|one| one.packet_id == number && one.is_received);
                self.outgoing.remove(index.expect("PUBCOMP of nothing"));
                vec![]
            }
            Packet::Publish(publish) => {
                let number = publish.delivery.packet_id().unwrap().get();
                if self.known.insert(number) {
                    self.got.push(u8::try_from(publish.payload.len()).unwrap());
                }
                answer(PacketType::Pubrec, number)
            }
            Packet::Pubrel(pubrel) => {
                self.known.remove(&pubrel.packet_id.get());
                answer(PacketType::Pubcomp, pubrel.packet_id.get())
            }
            other => panic!("{other:?}"),
        }
    }

    fn resend(&self) -> Vec<Packet> {
        let again = |one: &Published| match one.is_received {
            false => Self::publish(one.packet_id, one.payload, true),
            true => acknowledgement(PacketType::Pubrel, one.packet_id, SUCCESS),
        };
        self.outgoing.iter().map(again).collect()
    }
}

/// What survives the broker.
#[derive(Default)]
pub(crate) struct Durable {
    pub(crate) log: Vec<u8>,
    /// Identifiers of the client that were taken and not released.
    pub(crate) received: BTreeSet<u16>,
    /// Identifiers of ours with their messages, in order.
    pub(crate) bindings: Vec<Binding>,
    /// The next message that is not bound.
    position: u8,
}

#[derive(Clone, Copy)]
pub(crate) struct Binding {
    packet_id: u16,
    message: u8,
    is_received: bool,
}

/// Something that is on its way to the journal.
enum Commit {
    Message {
        packet_id: u16,
        payload: u8,
        tickets: Vec<(usize, PublishTicket)>,
    },
    Released {
        packet_id: u16,
        ticket: (usize, ReleaseTicket),
    },
    Bound(Binding),
    Received {
        packet_id: u16,
    },
    Over {
        packet_id: u16,
    },
}

/// A broker with one session.
#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) durable: Durable,
    pending: VecDeque<Commit>,
    position: u8,
    /// What the next connection is to begin with.
    left: Vec<InflightEntry>,
    to_resend: VecDeque<u16>,
    /// Which connection it is; tickets are good for their own one only.
    connection: usize,
    has_accepted: bool,
}

impl Broker {
    pub(crate) fn handle(&mut self, connection: &mut Connection, now: Instant, event: Event) {
        match event {
            Event::Connect(_) => self.accept(connection, now),
            Event::Publish {
                ticket: Some(ticket),
                packet_id: Some(packet_id),
                message,
                ..
            } => self.handle_publish(connection, now, ticket, packet_id.get(), &message),
            Event::Release { ticket, packet_id } => self.pending.push_back(Commit::Released {
                packet_id: packet_id.get(),
                ticket: (self.connection, ticket),
            }),
            Event::Received { packet_id, .. } => self.pending.push_back(Commit::Received {
                packet_id: packet_id.get(),
            }),
            Event::Acknowledged { packet_id, .. } => self.pending.push_back(Commit::Over {
                packet_id: packet_id.get(),
            }),
            Event::Disconnected { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn accept(&mut self, connection: &mut Connection, now: Instant) {
        let inflight = std::mem::take(&mut self.left);
        let accept = Accept {
            session_present: true,
            inflight: inflight.clone(),
            ..Accept::default()
        };
        connection.accept(now, accept).unwrap();
        self.has_accepted = true;
        for InflightEntry { packet_id, state } in inflight {
            match state {
                InflightState::AwaitsPuback => panic!("there is no QoS 1"),
                InflightState::AwaitsPubrec => self.to_resend.push_back(packet_id.get()),
                InflightState::OwesPubrel => self.pending.push_back(Commit::Received {
                    packet_id: packet_id.get(),
                }),
                InflightState::AwaitsPubcomp => assert!(connection.release(now, packet_id)),
            }
        }
    }

    fn handle_publish(
        &mut self,
        connection: &mut Connection,
        now: Instant,
        ticket: PublishTicket,
        number: u16,
        message: &Message,
    ) {
        let ticket = (self.connection, ticket);
        let mut pending = self.pending.iter_mut();
        let joined = pending.find_map(|commit| match commit {
            Commit::Message {
                packet_id, tickets, ..
            } if *packet_id == number => Some(tickets),
            _ => None,
        });
        if let Some(tickets) = joined {
            tickets.push(ticket);
        } else if self.durable.received.contains(&number) {
            connection.complete_publish(now, ticket.1, SUCCESS).unwrap();
        } else {
            self.pending.push_back(Commit::Message {
                packet_id: number,
                payload: message.payload[0],
                tickets: vec![ticket],
            });
        }
    }

    /// Makes the next thing durable, and does what waited for that.
    pub(crate) fn commit(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let Some(commit) = self.pending.pop_front() else {
            return false;
        };
        let durable = &mut self.durable;
        match commit {
            Commit::Message {
                packet_id,
                payload,
                tickets,
            } => {
                durable.log.push(payload);
                durable.received.insert(packet_id);
                let tickets = tickets.iter().filter(|ticket| ticket.0 == self.connection);
                for (_, ticket) in tickets {
                    connection.complete_publish(now, *ticket, SUCCESS).unwrap();
                }
            }
            Commit::Released { packet_id, ticket } => {
                durable.received.remove(&packet_id);
                if ticket.0 == self.connection {
                    connection.complete_release(now, ticket.1, SUCCESS).unwrap();
                }
            }
            Commit::Bound(binding) => {
                durable.bindings.push(binding);
                durable.position = binding.message + 1;
                // One of an earlier connection is not reserved, but waits to be resent.
                send(connection, now, binding);
            }
            Commit::Received { packet_id } => {
                let mut bindings = durable.bindings.iter_mut();
                let binding = bindings.find(|binding| binding.packet_id == packet_id);
                binding.expect("it is bound").is_received = true;
                connection.release(now, id(packet_id));
            }
            Commit::Over { packet_id } => {
                durable
                    .bindings
                    .retain(|binding| binding.packet_id != packet_id);
            }
        }
        true
    }

    /// Resends the next message that is to be, or takes a new one.
    pub(crate) fn deliver(&mut self, connection: &mut Connection, now: Instant) -> bool {
        if let Some(&number) = self.to_resend.front() {
            assert_eq!(connection.reserve(), None, "before everything was resent");
            let mut bindings = self.durable.bindings.iter();
            let Some(binding) = bindings.find(|binding| binding.packet_id == number) else {
                return false;
            };
            let message = payload(binding.message);
            // After a crash there may be more of them than the window has places.
            match connection.resend(now, id(number), outgoing(&message)) {
                PublishOutcome::NoRoom => return false,
                outcome => assert!(
                    matches!(outcome, PublishOutcome::Sent { .. }),
                    "{outcome:?}"
                ),
            }
            self.to_resend.pop_front();
            return true;
        }
        if self.position == MESSAGES {
            return false;
        }
        let Some(packet_id) = connection.reserve() else {
            return false;
        };
        self.pending.push_back(Commit::Bound(Binding {
            packet_id: packet_id.get(),
            message: self.position,
            is_received: false,
        }));
        self.position += 1;
        true
    }

    /// The connection is gone, and the broker's memory with it, or not.
    pub(crate) fn lose(&mut self, connection: &mut Connection, now: Instant, is_crash: bool) {
        connection.handle_end_of_stream();
        if is_crash {
            self.pending.clear();
            self.position = self.durable.position;
            let bindings = self.durable.bindings.iter();
            let left = bindings.map(|binding| InflightEntry {
                packet_id: id(binding.packet_id),
                state: match binding.is_received {
                    false => InflightState::AwaitsPubrec,
                    true => InflightState::AwaitsPubcomp,
                },
            });
            self.left = left.collect();
        } else if self.has_accepted {
            while let Some(event) = connection.poll_event() {
                self.handle(connection, now, event);
            }
            self.left = connection.take_inflight();
        }
        self.to_resend.clear();
        self.connection += 1;
        self.has_accepted = false;
    }
}

/// A message that has its number as its length.
fn payload(message_number: u8) -> Arc<Message> {
    message(message_number.into())
}

fn send(connection: &mut Connection, now: Instant, binding: Binding) {
    let message = payload(binding.message);
    let outcome = connection.publish_reserved(now, id(binding.packet_id), outgoing(&message));
    let is_known = matches!(
        outcome,
        PublishOutcome::Sent { .. } | PublishOutcome::NotReserved | PublishOutcome::NotConnected
    );
    assert!(is_known, "{outcome:?}");
}
