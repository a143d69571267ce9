//! RESOLVE: what the leader has of us, asked before anything is sent on a new connection.
//!
//! 1. OffsetForLeaderEpoch, DescribeProducers, OffsetForLeaderEpoch again, all in the leader epoch
//!    that the metadata named: the answers are the leader's.
//! 2. The high watermark covers the log end: what the leader has is committed.
//! 3. If the leader knows our producer id, the record behind its last sequence number is the next.
//!    If not, and requests of an earlier connection may still arrive: they are given the time to
//!    arrive or die, and all is asked again. Then the headers of the batches that were appended
//!    since our last acknowledgement tell.

use crate::stream::{Action, Halt, ORDINALS_MAX, Phase, Producer, Stream};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Resolve {
    Producers {
        before: i64,
    },
    EndAfter {
        before: i64,
        last: Option<i32>,
    },
    Committed {
        before: i64,
        end: i64,
        last: Option<i32>,
    },
    OldRequests,
    Scan {
        from: i64,
        to: i64,
        next: Option<u64>,
    },
}

impl Resolve {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Producers { .. } => Action::Producers,
            Self::EndAfter { .. } => Action::EpochEnd,
            Self::Committed { .. } => Action::HighWatermark,
            Self::OldRequests => Action::LetOldRequestsDie,
            Self::Scan { from, to, .. } => Action::Scan { from, to },
        }
    }
}

impl Stream {
    /// The leader's log ends before `end`.
    pub(crate) fn handle_epoch_end(&mut self, end: i64) {
        self.phase = match self.phase {
            Phase::Unresolved if self.state.producer.is_some() => {
                Phase::Resolving(Resolve::Producers { before: end })
            }
            Phase::Resolving(Resolve::EndAfter { before, last }) => {
                Phase::Resolving(Resolve::Committed { before, end, last })
            }
            _ => return,
        };
    }

    /// The leader's last sequence number of our producer id and epoch, if it knows it at all.
    pub(crate) fn handle_producers(&mut self, last: Option<i32>) {
        if let Phase::Resolving(Resolve::Producers { before }) = self.phase {
            self.phase = Phase::Resolving(Resolve::EndAfter { before, last });
        }
    }

    /// The high watermark of the remote partition, and whether all its replicas are in sync.
    pub(crate) fn handle_high_watermark(&mut self, high_watermark: i64, all_in_sync: bool) {
        match self.phase {
            Phase::Named { id, epoch } => {
                let start = self.state.acknowledged;
                let remote_next = high_watermark;
                self.phase = Phase::Persisting(Producer {
                    id,
                    epoch,
                    start,
                    remote_next,
                });
            }
            Phase::Resolving(Resolve::Committed { before, end, last }) if high_watermark >= end => {
                self.handle_committed(before, end, last, all_in_sync);
            }
            Phase::Streaming if self.in_flight.is_empty() && all_in_sync => {
                self.acknowledge(self.next);
                self.rotate_if_asked();
            }
            _ => {}
        }
    }

    fn handle_committed(&mut self, before: i64, end: i64, last: Option<i32>, all_in_sync: bool) {
        let Some(producer) = self.state.producer else {
            return;
        };
        if let Some(next) = last
            .and_then(|last| producer.offset(last))
            .map(|last| last + 1)
        {
            // Not `end`: an older request may have arrived since the leader named its last.
            self.resolved(next, all_in_sync, Some(before));
        } else if self.old_requests {
            self.phase = Phase::Resolving(Resolve::OldRequests);
        } else if producer.remote_next < end {
            let scan = Resolve::Scan {
                from: producer.remote_next,
                to: end,
                next: None,
            };
            self.phase = Phase::Resolving(scan);
        } else {
            self.resolved(self.state.acknowledged, all_in_sync, None);
        }
    }

    /// No request of an earlier connection can arrive any more. May come at any time; while
    /// something is in flight it says nothing yet, and is to be said again: the answers on their way
    /// are of a time when one could.
    pub(crate) fn handle_old_requests_dead(&mut self) {
        if !self.in_flight.is_empty() {
            return;
        }
        let waited_for = match self.phase {
            Phase::Resolving(Resolve::OldRequests) => true,
            Phase::Streaming => self.aged && self.old_requests && self.in_flight.is_empty(),
            _ => false,
        };
        self.old_requests = false;
        if waited_for {
            // They may have arrived while we waited.
            self.phase = Phase::Unresolved;
        }
        self.abandon_if_asked();
        self.rotate_if_asked();
    }

    /// The batches before `up_to` were looked at; the last of ours among them ended with this
    /// sequence number.
    pub(crate) fn handle_scanned(&mut self, up_to: i64, last: Option<i32>) {
        let (Phase::Resolving(Resolve::Scan { from, to, next }), Some(producer)) =
            (&self.phase, self.state.producer)
        else {
            return;
        };
        let (from, to) = (up_to.max(*from), *to);
        let found = last
            .and_then(|last| producer.offset(last))
            .map(|last| last + 1);
        let next = found.max(*next);
        if from < to {
            self.phase = Phase::Resolving(Resolve::Scan { from, to, next });
        } else {
            // What can be fetched is committed.
            let next = next
                .unwrap_or(self.state.acknowledged)
                .max(self.state.acknowledged);
            self.resolved(next, true, Some(to));
        }
    }

    /// The leader has everything before `next`, and nothing else is on its way to it that would not
    /// be right.
    fn resolved(&mut self, next: u64, settled: bool, remote_end: Option<i64>) {
        if next > self.available {
            self.phase = Phase::Halted(Halt::Foreign);
            return;
        }
        if next < self.state.acknowledged {
            // The cluster lost what it had acknowledged: send it again.
            let gone = self.state.acknowledged - next;
            self.state.replicated = self.state.replicated.saturating_sub(gone);
            self.state.acknowledged = next;
        }
        self.next = next;
        self.sent = next;
        let strikes = self
            .resolved_at
            .filter(|(at, _)| *at == next)
            .map_or(0, |(_, strikes)| strikes);
        self.resolved_at = Some((next, strikes));
        self.phase = Phase::Streaming;
        if settled {
            self.acknowledge(next);
            if let (Some(end), Some(producer)) = (remote_end, &mut self.state.producer) {
                producer.remote_next = producer.remote_next.max(end);
            }
        }
        self.rotate_if_asked();
    }

    /// A producer id whose state at the leader is wrong, or whose numbers are used up, is given up
    /// once all it sent is safe.
    pub(super) fn rotate_if_asked(&mut self) {
        let is_used_up = self
            .state
            .producer
            .is_some_and(|p| self.next - p.start >= ORDINALS_MAX);
        // What old requests brought may not be known yet unless RESOLVE came after their death.
        let is_resolved = self.phase == Phase::Streaming;
        if (self.rotate || is_used_up) && is_resolved && self.is_settled() {
            self.begin_anew();
        }
    }
}
