//! What is on flash of the session, and what a crash leaves of it.

use super::*;

impl World {
    pub(super) fn bindings(&self) -> (Place, Vec<InFlight>) {
        let (before, bindings) = self.outbound.bindings();
        (before, bindings.collect())
    }

    pub(super) fn put_bindings(&mut self, somebody_waits: bool) -> u64 {
        let bindings = self.bindings();
        self.writes.entry = Some(Some(bindings));
        self.has_entry = true;
        self.bindings_changed = false;
        if somebody_waits {
            self.bindings_commit = self.open();
        }
        self.open()
    }

    pub(super) fn write_session(&mut self) {
        let mut writes_bindings = false;
        let mut needs_entry = false;
        let record = if self.is_connected {
            let next = self.outbound.position(CommitNumber(self.worked_off));
            needs_entry = !self.outbound.needs_no_bindings(next);
            let checkpoint = self.checkpoint;
            Record::Open { checkpoint, next }
        } else {
            let (next, in_flight) = self.outbound.rest();
            let in_flight = in_flight.collect();
            let deliveries = (!self.outbound.needs_no_bindings(next)).then(|| self.bindings());
            writes_bindings = deliveries.is_some();
            Record::Ended {
                next,
                in_flight,
                deliveries,
            }
        };
        self.writes.record = Some(record);
        let had_entry = std::mem::replace(&mut self.has_entry, needs_entry);
        if needs_entry && !had_entry {
            let bindings = self.bindings();
            self.writes.entry = Some(Some(bindings));
            writes_bindings = true;
        } else if had_entry && !needs_entry {
            self.writes.entry = Some(None);
        }
        if writes_bindings {
            self.bindings_commit = self.open();
        }
    }

    pub(super) fn write_checkpoint(&mut self) {
        if self.bindings_changed {
            self.put_bindings(false);
        }
        let worked_off = CommitNumber(self.worked_off);
        let position = self.outbound.position(worked_off);
        if self.has_entry && self.outbound.needs_no_bindings(position) {
            self.writes.entry = Some(None);
            self.has_entry = false;
        }
        let is_exception = position < Place::beginning_of(worked_off.next());
        self.checkpoint += 1;
        let exception = is_exception.then_some(position);
        self.writes.checkpoint = Some((self.checkpoint, self.worked_off, exception));
    }

    pub(super) fn crash(&mut self, bounds: &Bounds) {
        self.crashes += 1;
        let durable = self.durable;
        self.log.retain(|logged| logged.place.commit.0 <= durable);
        self.client.inbox.clear();
        self.client.answers.clear();
        self.restore(bounds);
    }

    pub(super) fn restore(&mut self, bounds: &Bounds) {
        self.worked_off = self.durable;
        self.is_connected = false;
        self.scan = None;
        self.machine.clear();
        self.writes = Writes::default();
        self.releases.clear();
        self.gathered.clear();
        self.bindings_commit = 0;
        self.bindings_changed = false;
        let (number, commit, exception) = self.flash.checkpoint;
        self.checkpoint = number;
        let everybody = Place::beginning_of(CommitNumber(commit).next());
        let record = self.flash.record.clone();
        let (next, mut in_flight, of_record, was_open) = match record {
            Record::Open { checkpoint, next } if checkpoint < number => {
                let next = next.max(exception.unwrap_or(everybody));
                (next, Vec::new(), None, true)
            }
            Record::Open { next, .. } => (next, Vec::new(), None, true),
            Record::Ended {
                next,
                in_flight,
                deliveries,
            } => (next, in_flight, deliveries, false),
        };
        self.has_entry = self.flash.entry.is_some();
        let deliveries = self.flash.entry.clone().or(of_record);
        let beginning = Place::beginning_of(CommitNumber(0));
        let (before, bindings) = deliveries.unwrap_or((beginning, Vec::new()));
        in_flight.extend(bindings.into_iter().map(|binding| InFlight {
            state: match binding.is_released() {
                true => InflightState::AwaitsPubcomp,
                false => InflightState::AwaitsPubrec,
            },
            ..binding
        }));
        let waiting = Waiting::alone(bounds.mailbox * item_bytes());
        self.outbound = Outbound::restored(next, in_flight, before, waiting);
        if was_open {
            self.write_session();
        }
    }
}
