//! One idempotent stream: the records of a local partition on their way to a partition of Kafka,
//! each exactly once and in order. A state machine without I/O and without a clock.
//!
//! The sequence number of a record is its *ordinal*: its offset minus the offset with which the
//! stream's producer id began. It is therefore fixed by what is durable here, and the leader of the
//! remote partition refuses everything but the next one, as long as it knows the producer id. The
//! rest of this module is about the times when it may not know it, and when we do not know what it
//! has: after every new connection the stream RESOLVEs what is there before it sends.
//!
//! Not for: sockets, reading the log, building batches ([`crate::driver`] does that).
//!
//! # Order of calls
//!
//! The driver asks [`Stream::next_action`], does what it says, and tells the result with the
//! `handle_*` method that the action names. `handle_available`, `handle_barrier`,
//! `handle_disconnected` and `handle_old_requests_dead` may come at any time. While records are in
//! flight, answers come in the order in which they were sent.
//!
//! # Invariants
//!
//! - Offsets: start ≤ acknowledged ≤ next; what is in flight lies densely before next.
//! - A producer id is durable before the first batch that bears it, and it is given up only when
//!   everything that was sent under it is acknowledged and no request of it can still arrive.
//! - More than one batch is in flight only while the leader, in this very epoch, is known to hold
//!   our state, and never while batches are aged (rules of the uplink 4.4 and 4.5).
//! - `acknowledged` grows by an acks=all answer of this leader epoch, or by a high watermark that
//!   covers what the leader had while all replicas were in sync.
//!
//! Reference: `ProducerAppendInfo`, `ProducerStateEntry` of Apache Kafka; KIP-98, KIP-360, KIP-664.

mod resolve;
#[cfg(test)]
mod search;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use resolve::Resolve;
pub(crate) use state::{Producer, StreamState};

/// Batches in flight while the leader is known to hold our state: as many as it remembers.
const IN_FLIGHT_MAX: usize = 5;
/// A producer id is given up before its sequence numbers could wrap.
pub(crate) const ORDINALS_MAX: u64 = 1 << 30;

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wait for the oldest answer: [`Stream::handle_acknowledged`], [`Stream::handle_refused`] or
    /// [`Stream::handle_disconnected`].
    Answer,
    /// Find the leader and connect to it: [`Stream::handle_connected`].
    Connect,
    /// Ask for the log end of the leader's epoch (OffsetForLeaderEpoch): [`Stream::handle_epoch_end`].
    EpochEnd,
    /// Wait for more records: [`Stream::handle_available`].
    Idle,
    /// Get a producer id: [`Stream::handle_producer_id`].
    InitProducerId,
    /// Wait until two request timeouts have passed since the last connection ended, after which none
    /// of its requests can arrive any more: [`Stream::handle_old_requests_dead`].
    LetOldRequestsDie,
    /// Ask for the high watermark (ListOffsets): [`Stream::handle_high_watermark`]. If it is not
    /// enough, this action comes again: a short pause between two.
    HighWatermark,
    /// Wait, longer each time, because the cluster refuses: [`Stream::handle_pause_over`].
    Pause,
    /// Make the state durable: [`Stream::handle_persisted`].
    Persist,
    /// Ask which producers the leader knows: [`Stream::handle_producers`].
    Producers,
    /// Read the headers of the batches from `from` up to `to`: [`Stream::handle_scanned`].
    Scan {
        /// First remote offset to look at.
        from: i64,
        /// First one not to look at.
        to: i64,
    },
    /// Send a batch that begins at `from` and ends at or before `limit`: [`Stream::handle_sent`]; or,
    /// if records are missing there, [`Stream::handle_barrier`].
    Send {
        /// Offset of its first record.
        from: u64,
        /// Offset that it must not reach.
        limit: u64,
    },
    /// Nothing, until an operator has looked: see the reason.
    Halt(Halt),
}

/// Why a stream stands still for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Halt {
    /// The cluster has more of this stream than was ever written here.
    Foreign,
    /// A batch was appended although one before it was refused.
    Disorder,
}

impl Halt {
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Foreign => {
                "the cluster has records under this gateway's producer id that this data folder \
                 never held: another gateway runs on a copy of it, or the folder was put back from \
                 an old copy; stop the other one, then start this one with a new data folder"
            }
            Self::Disorder => {
                "the cluster appended a batch although it had refused the one before it: its \
                 idempotence checks do not work"
            }
        }
    }
}

/// How a batch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// It was not appended; waiting may help, or an operator.
    Definite,
    /// It may have been appended.
    Doubtful,
    /// The broker does not lead the partition. It may have been appended while it still did.
    NotLeader,
    /// It was not appended: its sequence number is not the next one (45).
    OutOfOrder,
    /// It was not appended: the producer id or its epoch is not valid any more (47, 59).
    ProducerInvalid,
    /// It was not appended, and another form of it may be taken at once (too large, timestamp).
    Reshape,
}

/// What happens when everything in flight is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    Pause,
    Reconnect,
    Resolve,
    ResolveThenRotate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Disconnected,
    /// Connected, but what the leader has is not known.
    Unresolved,
    /// A producer id was given. Where the remote partition ends is to be asked: nothing of ours lies
    /// before that.
    Named {
        id: i64,
        epoch: i16,
    },
    /// The new producer id is to be made durable; until then it is none of ours.
    Persisting(Producer),
    Resolving(Resolve),
    Streaming,
    /// Something was refused: the answers to what was sent behind it are waited for.
    Draining {
        then: Then,
        refused_for_certain: bool,
    },
    Paused,
    Halted(Halt),
}

/// Records end at `at` and go on at `resume`, under a new producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Barrier {
    at: u64,
    resume: u64,
    lost: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    state: StreamState,
    /// Offset of the next record to send.
    next: u64,
    /// First and end offset of the batches without an answer, oldest first.
    in_flight: VecDeque<(u64, u64)>,
    phase: Phase,
    /// End of what was ever sent; behind `acknowledged`, it is not known whether Kafka has it.
    sent: u64,
    /// Batches of an earlier connection, without an answer, may still arrive.
    old_requests: bool,
    /// The leader holds our state in this epoch: more than one batch may be in flight.
    leader_knows_us: bool,
    /// Batches are older than Kafka keeps producer state for.
    aged: bool,
    /// First offset that cannot be sent yet.
    available: u64,
    barrier: Option<Barrier>,
    /// Where the last RESOLVE ended, and how often a batch from just there was out of order.
    resolved_at: Option<(u64, u8)>,
    /// The producer id is to be given up once everything is acknowledged.
    rotate: bool,
    /// The topic is another one: the producer id is to be given up whatever is in doubt.
    abandon: bool,
}

impl Stream {
    /// A stream as it was made durable. Whatever was sent after that is in doubt.
    pub(crate) fn restore(state: StreamState) -> Self {
        Self {
            next: state.acknowledged,
            sent: state.acknowledged,
            old_requests: state.producer.is_some(),
            available: state.acknowledged,
            state,
            in_flight: VecDeque::new(),
            phase: Phase::Disconnected,
            leader_knows_us: false,
            aged: false,
            barrier: None,
            resolved_at: None,
            rotate: false,
            abandon: false,
        }
    }

    // Getters

    /// What is to be made durable from time to time.
    pub(crate) fn state(&self) -> &StreamState {
        &self.state
    }

    /// First offset that is not in Kafka for good.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.state.acknowledged
    }

    /// Records of which it is not known whether Kafka has them.
    pub(crate) fn records_in_doubt(&self) -> u64 {
        self.sent.saturating_sub(self.state.acknowledged)
    }

    /// Whether records flow, or would if there were any.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming)
    }

    /// What is to be done now. It does not change until something is handled.
    pub(crate) fn next_action(&self) -> Action {
        match &self.phase {
            Phase::Disconnected => Action::Connect,
            Phase::Unresolved | Phase::Streaming if self.has_passed_barrier() => Action::Persist,
            Phase::Unresolved => self.unresolved_action(),
            Phase::Named { .. } => Action::HighWatermark,
            Phase::Persisting(_) => Action::Persist,
            Phase::Resolving(resolve) => resolve.action(),
            Phase::Streaming => self.streaming_action(),
            Phase::Draining { .. } => Action::Answer,
            Phase::Paused => Action::Pause,
            Phase::Halted(halt) => Action::Halt(*halt),
        }
    }

    fn unresolved_action(&self) -> Action {
        let has_records = self.limit() > self.next;
        if self.state.producer.is_none() {
            return if has_records {
                Action::InitProducerId
            } else {
                Action::Idle
            };
        }
        if self.old_requests && (self.rotate || self.abandon || self.is_at_end_of_producer()) {
            return Action::LetOldRequestsDie;
        }
        if self.rotate || has_records {
            Action::EpochEnd
        } else {
            Action::Idle
        }
    }

    fn streaming_action(&self) -> Action {
        let window = if self.leader_knows_us && !self.aged {
            IN_FLIGHT_MAX
        } else {
            1
        };
        // Nothing more under a producer id that is given up as soon as all it sent is safe.
        if !self.rotate && self.in_flight.len() < window && self.limit() > self.next {
            if self.aged && self.old_requests && self.in_flight.is_empty() {
                return Action::LetOldRequestsDie;
            }
            return Action::Send {
                from: self.next,
                limit: self.limit(),
            };
        }
        if !self.in_flight.is_empty() {
            return Action::Answer;
        }
        if self.state.acknowledged < self.next {
            // RESOLVE found records that only some replicas have; nothing follows that would make
            // the leader answer for them.
            return Action::HighWatermark;
        }
        if self.old_requests && (self.rotate || self.is_at_end_of_producer()) {
            return Action::LetOldRequestsDie;
        }
        Action::Idle
    }

    /// First offset that must not be sent under this producer id, or yet.
    fn limit(&self) -> u64 {
        self.available.min(self.end_of_producer())
    }

    /// First offset that can never be sent under this producer id.
    fn end_of_producer(&self) -> u64 {
        let barrier = self.barrier.map_or(u64::MAX, |barrier| barrier.at);
        let wrap = self
            .state
            .producer
            .map_or(u64::MAX, |p| p.start.saturating_add(ORDINALS_MAX));
        barrier.min(wrap)
    }

    fn is_at_end_of_producer(&self) -> bool {
        self.next >= self.end_of_producer()
    }

    /// Whether all that was sent is acknowledged and nothing more of it can arrive: only then may
    /// the producer id be another one.
    fn is_settled(&self) -> bool {
        let is_acknowledged = self.state.acknowledged == self.next && self.in_flight.is_empty();
        is_acknowledged && !self.old_requests
    }

    fn has_passed_barrier(&self) -> bool {
        let at = self.state.acknowledged;
        self.is_settled() && self.barrier.is_some_and(|barrier| barrier.at == at)
    }

    // Input: the log

    /// Records up to `high_watermark` may be sent.
    pub(crate) fn handle_available(&mut self, high_watermark: u64) {
        self.available = self.available.max(high_watermark);
    }

    /// There are no records from `at` up to `resume`: everything before is to be acknowledged, then
    /// a new producer id begins at `resume`.
    ///
    /// `lost` of the records in between are gone for good. With `resume` = `at` nothing is missing,
    /// only the producer id changes.
    pub(crate) fn handle_barrier(&mut self, at: u64, resume: u64, lost: u64) {
        let is_nearer = self.barrier.is_none_or(|barrier| at <= barrier.at);
        if at >= self.next && resume >= at && is_nearer {
            self.barrier = Some(Barrier { at, resume, lost });
        }
    }

    /// Whether the stream waits for a barrier to be passed.
    pub(crate) fn has_barrier(&self) -> bool {
        self.barrier.is_some()
    }

    /// Whether batches are older than Kafka keeps producer state for: the leader may then forget us
    /// at any moment, while older requests are still on their way.
    pub(crate) fn set_aged(&mut self, aged: bool) {
        self.aged = aged;
    }

    // Input: connection

    /// The leader of the remote partition can be talked to.
    pub(crate) fn handle_connected(&mut self) {
        if self.phase == Phase::Disconnected {
            self.phase = Phase::Unresolved;
        }
    }

    /// The connection is gone, or the leader is another one: nothing in flight will be answered.
    pub(crate) fn handle_disconnected(&mut self) {
        if matches!(self.phase, Phase::Halted(_)) {
            return;
        }
        self.old_requests |= !self.in_flight.is_empty();
        self.in_flight.clear();
        // What the leader has behind this, RESOLVE will tell.
        self.next = self.state.acknowledged;
        self.leader_knows_us = false;
        self.resolved_at = None;
        self.phase = Phase::Disconnected;
    }

    /// The topic was made anew: nothing of what was sent is in it, unless it arrives late.
    pub(crate) fn handle_topic_replaced(&mut self, mapping_version: u32) {
        if matches!(self.phase, Phase::Halted(_)) {
            return;
        }
        self.handle_disconnected();
        self.state.mapping_version = mapping_version;
        self.abandon = self.state.producer.is_some();
        self.abandon_if_asked();
    }

    fn abandon_if_asked(&mut self) {
        if self.abandon && !self.old_requests {
            let is_connected = self.phase != Phase::Disconnected;
            self.begin_anew();
            if !is_connected {
                self.phase = Phase::Disconnected;
            }
        }
    }

    /// A request other than a batch was refused: wait, then ask again.
    pub(crate) fn handle_request_refused(&mut self) {
        if !matches!(self.phase, Phase::Halted(_)) {
            self.phase = Phase::Paused;
        }
    }

    /// The pause is over.
    pub(crate) fn handle_pause_over(&mut self) {
        if self.phase == Phase::Paused {
            self.phase = Phase::Unresolved;
        }
    }

    // Input: a producer id

    /// The cluster gave this producer id.
    pub(crate) fn handle_producer_id(&mut self, id: i64, epoch: i16) {
        if self.phase == Phase::Unresolved && self.state.producer.is_none() {
            self.phase = Phase::Named { id, epoch };
        }
    }

    /// The state was made durable as it is now.
    pub(crate) fn handle_persisted(&mut self) {
        match self.phase {
            Phase::Persisting(producer) => {
                self.state.producer = Some(producer);
                self.next = producer.start;
                self.phase = Phase::Streaming;
            }
            Phase::Unresolved | Phase::Streaming if self.has_passed_barrier() => {
                self.pass_barrier()
            }
            _ => {}
        }
    }

    /// What is to be made durable for [`Action::Persist`].
    pub(crate) fn state_to_persist(&self) -> StreamState {
        match (&self.phase, self.barrier) {
            (Phase::Persisting(producer), _) => StreamState {
                producer: Some(*producer),
                ..self.state.clone()
            },
            (_, Some(barrier)) if self.has_passed_barrier() => {
                self.state
                    .after_barrier(barrier.at, barrier.resume, barrier.lost)
            }
            _ => self.state.clone(),
        }
    }

    fn pass_barrier(&mut self) {
        if let Some(barrier) = self.barrier.take() {
            self.state = self
                .state
                .after_barrier(barrier.at, barrier.resume, barrier.lost);
            self.next = barrier.resume;
            self.sent = self.sent.max(barrier.resume);
            self.available = self.available.max(barrier.resume);
            self.begin_anew();
        }
    }

    /// Goes on under a new producer id; the next send makes it durable.
    fn begin_anew(&mut self) {
        self.state.producer = None;
        self.rotate = false;
        self.abandon = false;
        self.resolved_at = None;
        self.leader_knows_us = false;
        self.phase = Phase::Unresolved;
    }

    // Input: batches

    /// A batch that ends before `to` is on its way.
    pub(crate) fn handle_sent(&mut self, to: u64) {
        if self.phase == Phase::Streaming && to > self.next {
            self.in_flight.push_back((self.next, to));
            self.next = to;
            self.sent = self.sent.max(to);
        }
    }

    /// The oldest batch in flight is in Kafka, on all replicas in sync; at `base`, if it says so.
    pub(crate) fn handle_acknowledged(&mut self, base: Option<i64>) {
        let Some((from, to)) = self.in_flight.pop_front() else {
            return;
        };
        if let Phase::Draining {
            refused_for_certain: true,
            ..
        } = self.phase
        {
            if self.old_requests {
                // An older copy of what was refused has arrived meanwhile: RESOLVE tells.
                self.phase = Phase::Draining {
                    then: Then::Resolve,
                    refused_for_certain: true,
                };
                self.drained();
            } else {
                self.phase = Phase::Halted(Halt::Disorder);
            }
            return;
        }
        self.acknowledge(to);
        if let (Some(base), Some(producer)) = (base, &mut self.state.producer) {
            let records = i64::try_from(to - from).unwrap_or(i64::MAX);
            producer.remote_next = producer.remote_next.max(base.saturating_add(records));
        }
        self.leader_knows_us = true;
        self.resolved_at = None;
        self.drained();
        self.rotate_if_asked();
    }

    /// The oldest batch in flight was refused.
    pub(crate) fn handle_refused(&mut self, refusal: Refusal) {
        let Some((from, _)) = self.in_flight.pop_front() else {
            return;
        };
        if !matches!(self.phase, Phase::Draining { .. } | Phase::Halted(_)) {
            let then = match refusal {
                Refusal::Definite => Then::Pause,
                Refusal::Doubtful | Refusal::NotLeader => Then::Reconnect,
                Refusal::OutOfOrder => self.strike(from),
                Refusal::Reshape => Then::Resolve,
                Refusal::ProducerInvalid => Then::ResolveThenRotate,
            };
            let refused_for_certain = !matches!(refusal, Refusal::Doubtful | Refusal::NotLeader);
            self.phase = Phase::Draining {
                then,
                refused_for_certain,
            };
        }
        self.drained();
    }

    /// A batch from `from` was out of order. Once that is an older request which came in between;
    /// twice in a row from where RESOLVE said to go on, the leader's state is wrong.
    fn strike(&mut self, from: u64) -> Then {
        match &mut self.resolved_at {
            Some((at, strikes)) if *at == from => {
                *strikes += 1;
                if *strikes > 1 {
                    Then::ResolveThenRotate
                } else {
                    Then::Resolve
                }
            }
            _ => Then::Resolve,
        }
    }

    fn drained(&mut self) {
        let Phase::Draining { then, .. } = self.phase else {
            return;
        };
        if !self.in_flight.is_empty() {
            return;
        }
        self.leader_knows_us = false;
        self.rotate |= then == Then::ResolveThenRotate;
        // All that was sent on this connection is answered; RESOLVE says where to go on.
        self.next = self.state.acknowledged;
        match then {
            Then::Pause => self.phase = Phase::Paused,
            Then::Reconnect => self.handle_disconnected(),
            Then::Resolve | Then::ResolveThenRotate => self.phase = Phase::Unresolved,
        }
    }

    fn acknowledge(&mut self, to: u64) {
        if to > self.state.acknowledged {
            self.state.replicated += to - self.state.acknowledged;
            self.state.acknowledged = to;
        }
    }
}
