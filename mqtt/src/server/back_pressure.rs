//! When no more input is taken, and what that means for the timers.
//!
//! Reading stops for two kinds of reasons. *Held* is input that we could take but do not, because
//! the broker cannot take more for now; the client is not to blame, and its keep alive timer
//! stands still. The other kind is that the client does not read its answers; then the timer runs,
//! and what the client takes of its answers counts as a sign of life, because nothing else of it
//! is seen.

use std::time::Instant;

use bytes::Buf;

use super::client::Client;
use super::timers::Timer;
use super::{
    ANSWER_BYTES_MAX, CompleteError, Connection, EVENTS_MAX, Phase, PublishTicket, REQUESTS_MAX,
};
use crate::packet::{PacketType, ProtocolVersion};

impl Connection {
    /// Whether bytes may be read. While it is `false` the socket is left alone, so that the
    /// client's sending comes to a halt.
    pub fn wants_read(&self) -> bool {
        let may_read = match self.phase {
            Phase::AwaitingConnect => true,
            Phase::AwaitingAccept(_) | Phase::Closed => false,
            Phase::Connected(client) => !self.is_input_held(client),
        };
        may_read && self.events.len() < EVENTS_MAX && !self.are_answers_unread()
    }

    /// Whether a publication is suspended.
    pub fn is_suspended(&self) -> bool {
        self.acknowledgements.is_suspended()
    }

    /// Bytes were taken off [`transmit_buffer`](Self::transmit_buffer) or by
    /// [`poll_transmit`](Self::poll_transmit): there is room for messages that wait.
    pub fn handle_transmitted(&mut self, now: Instant) {
        if self
            .unread_answers
            .is_some_and(|before| self.transmit.remaining() < before)
        {
            self.restart_keep_alive(now);
        }
        self.look_after_timers(now);
        self.pump(now);
    }

    /// Notes that a publication was refused for now and its client cannot be told, which is so in
    /// MQTT 3.1.1. The driver keeps the message and completes the ticket when it is safe after all.
    ///
    /// While a suspended ticket is open, reading goes on up to
    /// [`Options::suspended_publishes_max`](super::Options::suspended_publishes_max) or
    /// [`Options::suspended_bytes_max`](super::Options::suspended_bytes_max) of unacknowledged
    /// publications, so that PINGREQ, acknowledgements and SUBSCRIBE are still answered. Then it
    /// stops, and with it the keep alive timer; after
    /// [`Options::suspended_timeout`](super::Options::suspended_timeout) the connection ends.
    ///
    /// # Errors
    /// The ticket is not open.
    pub fn suspend(&mut self, now: Instant, ticket: PublishTicket) -> Result<(), CompleteError> {
        if self.is_closed() {
            return Ok(());
        }
        if !self.acknowledgements.suspend(ticket) {
            return Err(CompleteError::UnknownTicket {
                packet: PacketType::Puback,
            });
        }
        self.look_after_timers(now);
        Ok(())
    }

    /// Takes no more input, because the broker as a whole can take no more.
    pub fn pause(&mut self, now: Instant) {
        self.is_paused = true;
        self.look_after_timers(now);
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&mut self, now: Instant) {
        self.is_paused = false;
        self.look_after_timers(now);
    }

    /// Whether no input is taken for a reason that is ours.
    fn is_input_held(&self, client: Client) -> bool {
        self.is_paused
            || self.are_answers_owed(client)
            || self.is_suspension_full(client)
            || self.requests.len() >= REQUESTS_MAX
    }

    /// Whether so many PUBLISHes and PUBRELs wait for our answer that no more are taken. What waits
    /// for the client's PUBREL does not count: that PUBREL is still to be read.
    ///
    /// An MQTT 5 client knows Receive Maximum and is read on, so that it is caught when it does not
    /// keep it. It has twice as many PUBLISHes open only when it sends the same ones again and
    /// again, or after releases of an earlier connection.
    fn are_answers_owed(&self, client: Client) -> bool {
        let receive_maximum = usize::from(self.options.receive_maximum.get());
        let publishes_max = match client.version {
            ProtocolVersion::V311 => receive_maximum,
            ProtocolVersion::V5 => 2 * receive_maximum,
        };
        self.acknowledgements.len() >= publishes_max || self.releases.len() >= receive_maximum
    }

    /// Whether reading stands still and a suspended publication is a reason: this may not last.
    fn is_suspension_full(&self, client: Client) -> bool {
        let acknowledgements = &self.acknowledgements;
        acknowledgements.is_suspended()
            && (acknowledgements.len() >= self.options.suspended_publishes_max
                || acknowledgements.bytes() >= self.options.suspended_bytes_max
                || self.are_answers_owed(client))
    }

    /// Whether no input is taken until the client reads.
    fn are_answers_unread(&self) -> bool {
        let max = self
            .options
            .transmit_bytes_max
            .saturating_add(ANSWER_BYTES_MAX);
        self.transmit.remaining() > max
    }

    /// Starts the keep alive interval anew.
    pub(super) fn restart_keep_alive(&mut self, now: Instant) {
        if let Phase::Connected(client) = self.phase
            && let Some(timeout) = client.keep_alive_timeout
        {
            self.timers.start(Timer::KeepAlive, now, timeout);
        }
    }

    /// Brings the timers into line with what is held now; the end of every input and verb that may
    /// change that.
    pub(super) fn look_after_timers(&mut self, now: Instant) {
        let Phase::Connected(client) = self.phase else {
            return;
        };
        self.unread_answers = self.are_answers_unread().then(|| self.transmit.remaining());
        let is_held = self.is_input_held(client);
        if is_held {
            self.timers.stop(Timer::KeepAlive);
        } else if self.was_held {
            self.restart_keep_alive(now);
        }
        self.was_held = is_held;
        if self.is_suspension_full(client) {
            let timeout = self.options.suspended_timeout;
            self.timers.start_if_stopped(Timer::Suspended, now, timeout);
        } else {
            self.timers.stop(Timer::Suspended);
        }
    }
}
