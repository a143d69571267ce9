//! The connection, its model, and a driver that does whatever the input says.

use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mqtt::codec::Limits;
use mqtt::server::{Connection, DisconnectCause, Options, Reason};
use mqtt::{PacketId, PacketType, QoS, ReasonCode};

use super::client_packets::{self as client, has_bit, packet_id};
use super::expected::Ticket;
use super::model::{Ending, Model};
use super::operation::{Kind, Operation};
use crate::frame::has_packet;
use crate::seen::Seen;

/// Rounds of the run loop in one operation; each takes an event or a packet.
const ROUNDS_MAX: usize = 10_000;

pub(super) struct Harness<'s> {
    pub(super) connection: Connection,
    pub(super) model: Model,
    pub(super) seen: &'s mut Seen,
    pub(super) now: Instant,
    /// Sent by the client and not read.
    wire: BytesMut,
    /// Bytes that the next read leaves on the wire.
    cut: usize,
    /// Read, and not taken.
    input: BytesMut,
    pub(super) tickets: Vec<Ticket>,
    /// Bytes of the transmit buffer that were looked at.
    observed: usize,
    pub(super) is_paused: bool,
    ends: usize,
}

/// Small bounds, so that all of them are met.
fn options(byte: u8) -> Options {
    const FOUR: NonZeroU16 = NonZeroU16::new(4).unwrap();
    let window = if has_bit(byte, 3) {
        NonZeroU16::MIN
    } else {
        FOUR
    };
    let has_aliases = !has_bit(byte, 2);
    Options {
        receive_maximum: window,
        maximum_qos: match byte & 3 {
            1 => QoS::AtLeastOnce,
            2 => QoS::AtMostOnce,
            _ => QoS::ExactlyOnce,
        },
        topic_alias_maximum: if has_aliases { 3 } else { 0 },
        topic_alias_sent_max: if has_aliases { 2 } else { 0 },
        inflight_max: window,
        queue_messages_max: 5,
        queue_bytes_max: 1_000,
        transmit_bytes_max: 600,
        suspended_publishes_max: 2,
        suspended_bytes_max: 100,
        limits: Limits {
            packet_bytes_max: 2_000,
            filters_max: 12,
            user_properties_max: 4,
        },
        ..Options::default()
    }
}

impl<'s> Harness<'s> {
    pub(super) fn new(byte: u8, seen: &'s mut Seen) -> Self {
        let now = Instant::now();
        let options = Arc::new(options(byte));
        Self {
            connection: Connection::new(Arc::clone(&options), now),
            model: Model::new(options, now),
            seen,
            now,
            wire: BytesMut::new(),
            cut: 0,
            input: BytesMut::new(),
            tickets: Vec::new(),
            observed: 0,
            is_paused: false,
            ends: 0,
        }
    }

    pub(super) fn run(&mut self, operation: Operation<'_>) {
        let Operation {
            kind,
            argument,
            bytes,
        } = operation;
        self.seen.note("operation", (kind, self.model.phase));
        match kind {
            Kind::Raw => {
                self.wire.extend_from_slice(bytes);
                self.deliver();
            }
            Kind::Cut => self.cut = argument.into(),
            Kind::Deliver => self.deliver(),
            Kind::Accept | Kind::AcceptLeft => self.accept(kind, argument),
            Kind::Refuse => self.refuse(reason(argument)),
            Kind::Poll if argument == 0 => self.poll(usize::MAX),
            Kind::Poll => self.poll(argument.into()),
            Kind::Turn => self.turn(),
            Kind::Wait => self.wait(argument),
            Kind::Pass => self.now += Duration::from_millis(100 * u64::from(argument)),
            Kind::Transmit => self.transmit(16 * usize::from(argument)),
            Kind::TransmitChunk => self.transmit_chunk(),
            Kind::Pause => self.pause(has_bit(argument, 0)),
            Kind::Disconnect => self.disconnect(reason(argument)),
            Kind::EndOfStream => self.end_of_stream(),
            _ if self.send(kind, argument) => self.deliver(),
            _ if self.answer(kind, argument) => {}
            _ => self.give(kind, argument),
        }
    }

    /// What the client of the input sends. `false` when the operation is none of the client's.
    fn send(&mut self, kind: Kind, argument: u8) -> bool {
        let version = self.model.version();
        let delivery = |this: &Self| this.delivery_id(argument & 0x1f, has_bit(argument, 5));
        let packet = match kind {
            Kind::Connect => client::connect(argument),
            Kind::ClientPublish0 => client::publish(argument, QoS::AtMostOnce, version),
            Kind::ClientPublish1 => client::publish(argument, QoS::AtLeastOnce, version),
            Kind::ClientPublish2 => client::publish(argument, QoS::ExactlyOnce, version),
            Kind::ClientPuback | Kind::ClientPubrec | Kind::ClientPubcomp => {
                let packet = match kind {
                    Kind::ClientPuback => PacketType::Puback,
                    Kind::ClientPubrec => PacketType::Pubrec,
                    _ => PacketType::Pubcomp,
                };
                client::acknowledgement(packet, delivery(self), argument, version)
            }
            Kind::ClientPubrel => client::pubrel(argument, version),
            Kind::ClientSubscribe => client::subscribe(argument),
            Kind::ClientUnsubscribe => client::unsubscribe(argument),
            Kind::ClientPing => mqtt::Packet::Pingreq,
            Kind::ClientDisconnect => client::disconnect(argument, version),
            _ => return false,
        };
        self.wire.unsplit(client::encode(&packet, version));
        true
    }

    /// A delivery that is not over, or any identifier.
    pub(super) fn delivery_id(&self, which: u8, any: bool) -> PacketId {
        let ids = self.model.deliveries.ids();
        let index = usize::from(which).checked_rem(ids.len());
        let known = index.and_then(|index| ids.get(index)).copied();
        known
            .filter(|_| !any)
            .unwrap_or_else(|| packet_id(u16::from(which) + 1))
    }

    /// Reads, if the connection wants that, and lets it take packets.
    fn deliver(&mut self) {
        if self.connection.wants_read() {
            let read = self
                .wire
                .len()
                .saturating_sub(std::mem::take(&mut self.cut));
            self.input.unsplit(self.wire.split_to(read));
        }
        let before = self.input.clone();
        let was_closed = self.connection.is_closed();
        self.connection.handle_bytes(self.now, &mut self.input);
        if !was_closed {
            // After the end all is thrown away, and only the model knows which packet it was.
            let left = if self.connection.is_closed() {
                0
            } else {
                self.input.len()
            };
            let taken = before.get(..before.len() - left).unwrap_or_default();
            self.model.take(taken, self.now, self.seen);
        }
        assert!(
            !self.connection.wants_read() || !has_packet(&self.input),
            "a whole packet was left: {:02x?}",
            self.input
        );
        self.observe();
    }

    /// Takes events. `usize::MAX` takes all.
    fn poll(&mut self, most: usize) {
        for _ in 0..most {
            let Some(event) = self.connection.poll_event() else {
                return;
            };
            assert_eq!(self.ends, 0, "an event after the last one: {event:?}");
            if matches!(event, mqtt::server::Event::Disconnected { .. }) {
                self.ends += 1;
            }
            self.tickets
                .extend(self.model.check_event(event, self.seen));
        }
    }

    fn turn(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.deliver();
            let before = self.model.events.len();
            self.poll(usize::MAX);
            if before == 0 {
                return;
            }
        }
        panic!("the run loop does not end");
    }

    fn wait(&mut self, tenths: u8) {
        self.now += Duration::from_millis(100 * u64::from(tenths));
        self.connection.handle_timeout(self.now);
        if self.connection.is_closed() {
            self.model.end(Ending::Timeout, self.now);
        }
        let deadline = self.connection.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline > self.now));
    }

    fn transmit(&mut self, bytes: usize) {
        let buffer = self.connection.transmit_buffer();
        let bytes = bytes.min(buffer.remaining());
        buffer.advance(bytes);
        self.observed -= bytes;
        self.connection.handle_transmitted(self.now);
    }

    fn transmit_chunk(&mut self) {
        if let Some(chunk) = self.connection.poll_transmit() {
            self.observed -= chunk.len();
            self.connection.handle_transmitted(self.now);
        }
    }

    fn pause(&mut self, is_over: bool) {
        self.is_paused = !is_over;
        match is_over {
            true => self.connection.resume(self.now),
            false => self.connection.pause(self.now),
        }
    }

    fn disconnect(&mut self, reason: Reason) {
        let cause = DisconnectCause::Server(reason.code);
        self.connection.disconnect(reason);
        self.model.end_because(cause, self.now);
    }

    fn end_of_stream(&mut self) {
        self.connection.handle_end_of_stream();
        let cause = DisconnectCause::EndOfStream;
        self.model.end_because(cause, self.now);
        self.observed = 0;
    }

    /// Looks at what was put into the transmit buffer.
    pub(super) fn observe(&mut self) {
        const SLICES_MAX: usize = 256;
        let buffer = self.connection.transmit_buffer();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = buffer.chunks_vectored(&mut slices);
        let slices = slices.iter().take(filled).flat_map(|slice| slice.iter());
        let new: Vec<u8> = slices.copied().skip(self.observed).collect();
        let waiting = std::mem::replace(&mut self.observed, buffer.remaining());
        assert_eq!(waiting + new.len(), self.observed, "bytes were taken back");
        if !new.is_empty() {
            self.model.transmitted(&new, waiting, self.now, self.seen);
        }
        let queued = self.connection.queued_messages();
        self.model.deliveries.expire_to(queued, self.now);
    }

    /// The transport ends: the last event comes, and what is left of the deliveries.
    pub(super) fn finish(mut self) {
        self.transmit(usize::MAX);
        self.check();
        self.end_of_stream();
        self.check();
        self.poll(usize::MAX);
        assert_eq!(self.ends, 1, "the end comes once");
        assert_eq!(self.model.deliveries.untold_expired(), 0, "expired untold");
        assert_eq!(
            self.connection.take_inflight(),
            self.model.deliveries.left()
        );
    }
}

/// Any byte as a reason.
pub(super) fn reason(byte: u8) -> Reason {
    ReasonCode::from_u8(byte).unwrap_or_default().into()
}
