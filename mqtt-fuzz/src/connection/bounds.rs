//! What must hold after each operation: the counts are those of the model, nothing grows without a
//! bound, reading stops for a reason only, and no deadline is missing.

use mqtt::ProtocolVersion;

use super::harness::Harness;
use super::model::Phase;

/// Events that wait: those at which reading stops, and what the broker's own doing adds.
const EVENTS_MAX: usize = 32;
/// What may wait above the bound of messages: answers, and what they are longer than the rest.
const ANSWER_BYTES_MAX: usize = 65_536 + 8_000;

impl Harness<'_> {
    /// After each operation.
    pub(super) fn check(&mut self) {
        self.observe();
        self.model.check_sent();
        self.check_counts();
        self.check_bounds();
        self.check_timers();
    }

    fn check_counts(&mut self) {
        let (connection, model) = (&self.connection, &self.model);
        let is_ended = model.phase == Phase::Ended;
        assert_eq!(connection.is_closed(), is_ended, "{:?}", model.ending);
        let version = model.terms.as_ref().filter(|_| !is_ended);
        assert_eq!(connection.version(), version.map(|terms| terms.version));
        assert_eq!(connection.inflight(), model.deliveries.len());
        assert_eq!(connection.free_places(), model.deliveries.free_places());
        assert_eq!(connection.queued_messages(), model.deliveries.queued());
        let publications = model.inbound.publications().len();
        assert_eq!(connection.pending_publishes(), publications);
        assert_eq!(connection.pending_releases(), model.inbound.releases());
        assert_eq!(connection.is_suspended(), model.inbound.is_suspended());
        self.note_counts();
    }

    /// What is full or nearly so is worth going on from.
    fn note_counts(&mut self) {
        let (model, seen) = (&self.model, &mut self.seen);
        let version = model.version();
        seen.note("in use", (model.inbound.in_use(), version));
        seen.note("answers", (model.inbound.publications().len(), version));
        seen.note("releases", model.inbound.releases());
        let free = model.deliveries.free_places();
        seen.note("deliveries", (model.deliveries.len(), free));
        seen.note("queued", model.deliveries.queued());
    }

    fn check_bounds(&mut self) {
        let (connection, options) = (&self.connection, &self.model.options);
        let receive_maximum = usize::from(options.receive_maximum.get());
        let is_v5 = self.model.version() == ProtocolVersion::V5;
        let factor = if is_v5 { 2 } else { 1 };
        assert!(connection.pending_publishes() <= factor * receive_maximum);
        assert!(connection.pending_releases() <= receive_maximum);
        assert!(self.model.inbound.requests() <= 16);
        assert!(connection.queued_messages() <= options.queue_messages_max);
        let queued = connection.queued_bytes();
        assert!(connection.queued_messages() == 1 || queued <= options.queue_bytes_max);
        assert!(self.model.events.len() <= EVENTS_MAX);
        let max = options.transmit_bytes_max.max(2_200) + ANSWER_BYTES_MAX;
        assert!(connection.transmit_bytes() <= max);
        self.check_reading();
    }

    /// Reading stops for a reason, and goes on without one.
    fn check_reading(&mut self) {
        let is_idle = self.model.events.is_empty()
            && self.model.deliveries.untold_expired() == 0
            && self.model.inbound.publications().is_empty()
            && self.model.inbound.releases() == 0
            && self.model.inbound.requests() == 0
            && self.connection.transmit_bytes() < ANSWER_BYTES_MAX / 2;
        let wants_read = self.connection.wants_read();
        match self.model.phase {
            Phase::AwaitingConnect if is_idle => assert!(wants_read, "no CONNECT is read"),
            Phase::AwaitingConnect => {}
            Phase::Connected if is_idle && !self.is_paused => assert!(wants_read, "it is deaf"),
            Phase::Connected => assert!(!wants_read || !self.is_paused, "reads while paused"),
            Phase::AwaitingAccept | Phase::Ended => assert!(!wants_read, "it reads"),
        }
    }

    /// A client that is read from must send something in time.
    fn check_timers(&mut self) {
        let deadline = self.connection.poll_timeout();
        let latest = match (self.model.phase, &self.model.terms) {
            (Phase::Ended, _) => {
                assert_eq!(deadline, None, "a deadline after the end");
                None
            }
            (Phase::AwaitingConnect, _) => Some(self.model.options.connect_timeout),
            (Phase::Connected, Some(terms)) if self.connection.wants_read() => terms.keep_alive,
            _ => None,
        };
        if let Some(latest) = latest {
            let latest = self.now + latest;
            assert!(deadline.is_some_and(|at| at <= latest), "no deadline");
        }
        let is_suspended = self.model.inbound.is_suspended();
        let since = self.model.suspended_since.unwrap_or(self.now);
        self.model.suspended_since = match self.model.phase {
            Phase::Ended => self.model.suspended_since,
            _ => is_suspended.then_some(since),
        };
    }
}
