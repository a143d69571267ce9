//! One connection as the server sees it: a state machine without I/O and without a clock.
//!
//! Not here: which messages of QoS 2 a session knows, sessions, subscriptions, permission, retained messages, take-over. Those are the
//! broker's; this module only knows what one client may send now and what it is owed.

mod acknowledgements;
mod aliases;
mod answer;
mod back_pressure;
mod client;
mod completion;
mod deliveries;
mod event;
mod handshake;
mod inbound;
mod inflight;
mod options;
mod outbound;
mod packet_counts;
mod receipt;
mod receive_window;
mod releases;
mod requests;
mod sent_aliases;
mod timers;
mod transmit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};

use self::acknowledgements::Acknowledgements;
use self::aliases::Aliases;
use self::client::Client;
use self::inflight::Inflight;
use self::outbound::Outbound;
use self::receive_window::ReceiveWindow;
use self::releases::Releases;
use self::requests::Requests;
use self::sent_aliases::SentAliases;
use self::timers::{Timer, Timers};
use crate::packet::{Disconnect, Packet, PacketType, ProtocolVersion};
use crate::reason_code::ReasonCode;

pub use acknowledgements::PublishTicket;
pub use answer::{Accept, AcceptError, CompleteError, Reason};
pub use event::{DisconnectCause, Event, Misbehaviour};
pub use inflight::{InflightEntry, InflightState};
pub use options::Options;
pub use outbound::{Outgoing, PublishOutcome};
pub use packet_counts::PacketCounts;
pub use releases::ReleaseTicket;
pub use requests::{SubscribeTicket, UnsubscribeTicket};
pub use transmit::TransmitBuffer;

/// Reading stops while this many events wait for the driver. Small, because the queue keeps its
/// memory while the connection is idle.
const EVENTS_MAX: usize = 16;

/// Reading stops while this many SUBSCRIBE and UNSUBSCRIBE packets wait for their answer.
const REQUESTS_MAX: usize = 16;

/// Reading stops while the transmit buffer is longer than [`Options::transmit_bytes_max`] and this
/// many bytes. The room is for answers (PUBACK, PINGRESP …): messages alone must not stop reading,
/// or a slow subscriber's own acknowledgements would never be read.
const ANSWER_BYTES_MAX: usize = 65_536;

/// The server's side of one MQTT connection.
///
/// It does no I/O, takes no time and starts no task; it is a value that a driver moves bytes and
/// time into, and takes bytes, events and one deadline out of. Its methods are of four sorts:
///
/// - **Getters** say how things are and change nothing.
/// - **`handle_*`** are input from the world: bytes that were read, bytes that were written, time
///   that has passed, the end of the stream.
/// - **Verbs** are commands of the broker: [`accept`](Self::accept), [`refuse`](Self::refuse),
///   [`complete_publish`](Self::complete_publish), [`complete_release`](Self::complete_release),
///   [`complete_subscribe`](Self::complete_subscribe),
///   [`complete_unsubscribe`](Self::complete_unsubscribe), [`suspend`](Self::suspend),
///   [`pause`](Self::pause), [`resume`](Self::resume), [`publish`](Self::publish),
///   [`reserve`](Self::reserve), [`publish_reserved`](Self::publish_reserved),
///   [`cancel`](Self::cancel), [`release`](Self::release), [`resend`](Self::resend),
///   [`forget`](Self::forget), [`take_inflight`](Self::take_inflight),
///   [`disconnect`](Self::disconnect).
/// - **`poll_*`** and [`transmit_buffer`](Self::transmit_buffer) are output.
///
/// After any number of inputs and verbs the driver drains the outputs in this order:
///
/// 1. [`handle_bytes`](Self::handle_bytes), then [`poll_event`](Self::poll_event) until it has
///    none; both again until no event came. The machine decodes a few packets at a time, and what
///    it leaves in the read buffer is not lost: it waits until it may be taken.
/// 2. [`transmit_buffer`](Self::transmit_buffer) or [`poll_transmit`](Self::poll_transmit): write,
///    then [`handle_transmitted`](Self::handle_transmitted).
/// 3. [`is_closed`](Self::is_closed): when it is, and all is written, close the socket.
/// 4. [`poll_timeout`](Self::poll_timeout): at this time call
///    [`handle_timeout`](Self::handle_timeout).
/// 5. [`wants_read`](Self::wants_read): only while it says so, read from the socket. A verb may
///    make it say so again; then begin at step 1, because whole packets may be waiting in the
///    read buffer.
///
/// A verb that comes too late, because the connection has ended meanwhile, does nothing; answers
/// to publications come from other threads, and that is ordinary.
///
/// # Bounds
///
/// Nothing in here grows without a bound: events, unanswered requests, publications and releases,
/// and answers stop reading; messages to the client are dropped, queued or refused by
/// [`publish`](Self::publish), which says which.
#[derive(Debug)]
pub struct Connection {
    options: Arc<Options>,
    phase: Phase,
    timers: Timers,
    events: VecDeque<Event>,
    transmit: TransmitBuffer,
    acknowledgements: Acknowledgements,
    /// What an MQTT 5 client has on its way.
    receive_window: ReceiveWindow,
    releases: Releases,
    requests: Requests,
    aliases: Aliases,
    sent_aliases: SentAliases,
    inflight: Inflight,
    outbound: Outbound,
    packet_counts: PacketCounts,
    /// The driver wants no more input for now.
    is_paused: bool,
    /// Whether input was held when the timers were last looked after.
    was_held: bool,
    /// How many bytes waited then, if so many that input stopped for them.
    unread_answers: Option<usize>,
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy)]
enum Phase {
    AwaitingConnect,
    AwaitingAccept(Client),
    Connected(Client),
    Closed,
}

impl Connection {
    /// A connection that was just opened and awaits CONNECT.
    pub fn new(options: Arc<Options>, now: Instant) -> Self {
        let mut timers = Timers::default();
        timers.start(Timer::Connect, now, options.connect_timeout);
        Self {
            options,
            phase: Phase::AwaitingConnect,
            timers,
            events: VecDeque::new(),
            transmit: TransmitBuffer::default(),
            acknowledgements: Acknowledgements::default(),
            receive_window: ReceiveWindow::default(),
            releases: Releases::default(),
            requests: Requests::default(),
            aliases: Aliases::default(),
            sent_aliases: SentAliases::default(),
            inflight: Inflight::default(),
            outbound: Outbound::default(),
            packet_counts: PacketCounts::default(),
            is_paused: false,
            was_held: false,
            unread_answers: None,
        }
    }

    /// Whether the connection has ended: write what is left, then close the socket.
    ///
    /// How long to try to write is for the driver to say; a client that does not read must not
    /// keep the socket open.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The version that the client speaks; `None` before CONNECT and after the end.
    pub fn version(&self) -> Option<ProtocolVersion> {
        match self.phase {
            Phase::AwaitingConnect | Phase::Closed => None,
            Phase::AwaitingAccept(client) | Phase::Connected(client) => Some(client.version),
        }
    }

    /// Bytes that wait to be written.
    pub fn transmit_bytes(&self) -> usize {
        self.transmit.remaining()
    }

    /// Publications of the client that wait for their PUBACK or PUBREC.
    pub fn pending_publishes(&self) -> usize {
        self.acknowledgements.len()
    }

    /// PUBRELs of the client that wait for their PUBCOMP.
    pub fn pending_releases(&self) -> usize {
        self.releases.len()
    }

    /// Deliveries of QoS 1 and 2 that are not over, with those that are reserved. After the end of
    /// the connection they wait to be [taken](Self::take_inflight).
    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Messages of QoS 1 that wait for a place in the window.
    pub fn queued_messages(&self) -> usize {
        self.outbound.queued_messages()
    }

    /// Bytes of the waiting messages, counted as encoded packets.
    pub fn queued_bytes(&self) -> usize {
        self.outbound.queued_bytes()
    }

    /// Time has passed: ends the connection when a deadline of
    /// [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            self.close(match timer {
                Timer::Connect => DisconnectCause::ConnectTimeout,
                Timer::KeepAlive => DisconnectCause::KeepAliveTimeout,
                Timer::Suspended => DisconnectCause::SuspendedTooLong,
            });
        }
    }

    /// The client closed the stream, or it broke. Nothing more can be written, so nothing is left.
    pub fn handle_end_of_stream(&mut self) {
        self.end(DisconnectCause::EndOfStream);
        self.transmit.clear();
    }

    /// Ends the connection. An MQTT 5 client is told why, with
    /// [`ReasonCode::UnspecifiedError`] in the place of a code that a server's DISCONNECT does not
    /// carry; a CONNECT that waits for its answer is refused.
    pub fn disconnect(&mut self, reason: impl Into<Reason>) {
        let reason = reason.into();
        let cause = DisconnectCause::Server(reason.code);
        self.tell(reason);
        self.end(cause);
    }

    /// The next event, in the order in which the client did things.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How the connection ended and whether its will is to be published, while the event that says so waits
    /// behind others.
    pub fn unheard_end(&self) -> Option<(&DisconnectCause, bool)> {
        match self.events.back()? {
            Event::Disconnected {
                cause,
                publish_will,
            } => Some((cause, *publish_will)),
            _ => None,
        }
    }

    /// The next chunk to write, for drivers that want to own it. What was taken counts as written.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmit.pop_chunk()
    }

    /// What is to be written, for drivers that write from here: small packets lie together, large
    /// payloads are chunks of their own, and one vectored write takes several.
    pub fn transmit_buffer(&mut self) -> &mut TransmitBuffer {
        &mut self.transmit
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; `None` for never. It may
    /// change with every other call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Appends an answer. `false` when the client takes no packet of this size, not even without
    /// what is only for people to read.
    #[must_use]
    fn send(&mut self, client: Client, mut packet: Packet) -> bool {
        if !client.takes_problem_information(packet.packet_type()) {
            packet.drop_problem_information();
        }
        if self.send_as_it_is(client, &packet) {
            return true;
        }
        packet.drop_problem_information();
        self.send_as_it_is(client, &packet)
    }

    fn send_as_it_is(&mut self, client: Client, packet: &Packet) -> bool {
        let tail = self.transmit.tail();
        let before = tail.len();
        let is_encoded = packet.encode(client.version, tail).is_ok();
        let fits = tail.len() - before <= client.packet_bytes_max;
        if !fits {
            tail.truncate(before);
        }
        self.packet_counts.sent += u32::from(is_encoded && fits);
        is_encoded && fits
    }

    /// Ends the connection because of something that the client is told, if it can be.
    fn close(&mut self, cause: DisconnectCause) {
        self.tell(cause.reason_code().into());
        self.end(cause);
    }

    /// The last packet to the client: CONNACK while it waits for that, else DISCONNECT, which only
    /// MQTT 5 has from a server. What cannot be said is not said.
    fn tell(&mut self, reason: Reason) {
        match self.phase {
            Phase::AwaitingConnect | Phase::Closed => {}
            Phase::AwaitingAccept(client) => self.tell_refusal(client, reason),
            Phase::Connected(client) => {
                if client.version == ProtocolVersion::V5 {
                    let reason_code = match reason.code {
                        ReasonCode::DisconnectWithWillMessage => ReasonCode::UnspecifiedError,
                        code if code.allowed_in(PacketType::Disconnect) => code,
                        _ => ReasonCode::UnspecifiedError,
                    };
                    let problem = reason.into();
                    let disconnect = Disconnect {
                        reason_code,
                        problem,
                        ..Disconnect::default()
                    };
                    let _told = self.send(client, Packet::Disconnect(disconnect));
                }
            }
        }
    }

    /// Ends the connection without a word. Only the events, what is to be written and the deliveries
    /// that are not over stay.
    fn end(&mut self, cause: DisconnectCause) {
        let publish_will = match self.phase {
            Phase::Closed => return,
            Phase::AwaitingConnect | Phase::AwaitingAccept(_) => false,
            Phase::Connected(client) => client.has_will && !client.takes_will_back(&cause),
        };
        self.phase = Phase::Closed;
        self.timers = Timers::default();
        self.acknowledgements.clear();
        self.receive_window.clear();
        self.releases.clear();
        self.requests.clear();
        self.aliases.clear();
        self.sent_aliases.clear();
        self.inflight.close();
        self.outbound.clear();
        self.events.push_back(Event::Disconnected {
            cause,
            publish_will,
        });
    }
}
