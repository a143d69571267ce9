//! The store and the router around the outbound side: commits, what is worked off, and scans.

use super::*;

impl World {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let next = Place::beginning_of(CommitNumber(1));
        let record = Record::Ended {
            next,
            in_flight: Vec::new(),
            deliveries: None,
        };
        let mut world = Self {
            log: Vec::new(),
            durable: 0,
            worked_off: 0,
            outbound: Outbound::new(CommitNumber(0), Waiting::alone(1)),
            is_connected: false,
            connection: 0,
            scan: None,
            machine: Vec::new(),
            has_entry: false,
            bindings_commit: 0,
            bindings_changed: false,
            gathered: Vec::new(),
            writes: Writes::default(),
            releases: Vec::new(),
            flash: Flash {
                record,
                entry: None,
                checkpoint: (0, 0, None),
            },
            checkpoint: 0,
            client: Client::default(),
            published: 0,
            disconnects: 0,
            crashes: 0,
        };
        world.restore(bounds);
        world
    }

    /// Stands for all that matters for what can come.
    pub(super) fn key(&self, bounds: &Bounds) -> u64 {
        let flash = (self.crashes < bounds.crashes).then_some((&self.flash, &self.writes));
        let releases = self
            .releases
            .iter()
            .filter(|(_, of, _)| *of == self.connection);
        let releases: Vec<_> = releases.map(|(commit, _, id)| (commit, id)).collect();
        let reader = self
            .scan
            .as_ref()
            .map(|scan| scan.reader == Some(self.connection));
        let state = (
            (&self.log, self.durable, self.worked_off, &self.outbound),
            (self.is_connected, &self.scan, reader, &self.machine),
            (
                self.has_entry,
                self.bindings_changed,
                self.checkpoint,
                &self.client,
            ),
            (self.bindings_commit.max(self.durable), releases),
            (&self.gathered, flash),
            (
                self.published,
                self.disconnects,
                self.crashes,
                self.writes.is_empty(),
            ),
        );
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        hasher.hash_one(format!("{state:?}"))
    }

    /// The number of the commit that is being filled.
    pub(super) fn open(&self) -> u64 {
        self.durable + 1
    }

    pub(super) fn is_open_empty(&self) -> bool {
        let last = self.log.last();
        self.writes.is_empty() && last.is_none_or(|last| last.place.commit.0 <= self.durable)
    }

    pub(super) fn newest(&self) -> u64 {
        self.log.last().map_or(0, |last| last.place.commit.0)
    }

    pub(super) fn may(&self, step: Step, bounds: &Bounds) -> bool {
        match step {
            Step::Publish => self.published < bounds.messages.len(),
            Step::Commit => !self.is_open_empty(),
            Step::WorkOff => {
                let is_due = |(commit, ..): &(u64, u32, PacketId)| *commit <= self.durable;
                self.worked_off < self.durable
                    || self.releases.iter().any(is_due)
                    || self.has_bound_to_send()
            }
            Step::Scan => {
                self.scan.is_some()
                    || self.is_connected
                        && self.outbound.is_behind()
                        && (self.can_catch_up() || self.reads_from().is_some())
            }
            Step::Connect => !self.is_connected,
            Step::Disconnect => self.is_connected && self.disconnects < bounds.disconnects,
            Step::Receive => !self.client.inbox.is_empty(),
            Step::Answer => !self.client.answers.is_empty(),
            Step::AnswerLast => self.client.answers.len() > 1,
            Step::Write => self.has_gathered(),
            // By the task that scans.
            Step::GiveBack => {
                let has_something = || self.outbound.clone().let_go();
                self.is_connected && self.scan.is_none() && has_something()
            }
            Step::Checkpoint => self.is_connected && self.checkpoint < 1,
            Step::Crash => self.crashes < bounds.crashes,
        }
    }

    pub(super) fn has_bound_to_send(&self) -> bool {
        let is_durable = |bound: &Bound| bound.commit.is_some_and(|at| at.0 <= self.durable);
        let resends = self
            .outbound
            .front()
            .is_some_and(|item| item.again.is_some());
        self.is_connected
            && (self.outbound.bound().front().is_some_and(is_durable)
                || resends && self.bindings_commit <= self.durable)
    }

    pub(super) fn can_catch_up(&self) -> bool {
        self.outbound
            .clone()
            .catch_up(CommitNumber(self.worked_off))
    }

    pub(super) fn reads_from(&self) -> Option<u64> {
        let from = self.outbound.reads_from()?.0;
        (from <= self.durable).then_some(from)
    }

    pub(super) fn take(&mut self, step: Step, bounds: &Bounds) {
        match step {
            Step::Publish => self.publish(bounds),
            Step::Commit => self.commit(),
            Step::WorkOff => self.work_off(bounds),
            Step::Scan => self.scan(bounds),
            Step::Connect => self.connect(bounds),
            Step::Disconnect => self.disconnect(),
            Step::Receive => self.receive(),
            Step::Answer => {
                let answer = self.client.answers.remove(0);
                self.answer(bounds, answer);
            }
            Step::AnswerLast => {
                let answer = self.client.answers.pop().unwrap();
                self.answer(bounds, answer);
            }
            Step::Write => self.write_gathered(),
            Step::GiveBack => {
                self.outbound.let_go();
            }
            Step::Checkpoint => self.write_checkpoint(),
            Step::Crash => self.crash(bounds),
        }
    }

    pub(super) fn publish(&mut self, bounds: &Bounds) {
        let qos = QoS::from_bits(bounds.messages[self.published]).unwrap();
        self.log.push(Logged {
            place: place(self.open(), self.published),
            qos,
            is_pushed: bounds.has_others || self.is_connected,
        });
        self.published += 1;
    }

    pub(super) fn commit(&mut self) {
        self.durable += 1;
        let writes = std::mem::take(&mut self.writes);
        let flash = &mut self.flash;
        flash.record = writes.record.unwrap_or_else(|| flash.record.clone());
        flash.entry = writes.entry.unwrap_or_else(|| flash.entry.clone());
        flash.checkpoint = writes.checkpoint.unwrap_or(flash.checkpoint);
    }

    pub(super) fn work_off(&mut self, bounds: &Bounds) {
        if self.worked_off < self.durable {
            let commit = self.worked_off + 1;
            for logged in self.of_commit(commit) {
                if logged.is_pushed && self.is_connected {
                    let offered = self.outbound.offer_live(item(logged));
                    assert!(offered != Offered::NoRoom);
                    self.pump(bounds);
                }
            }
            self.worked_off = commit;
            if commit < self.durable {
                return;
            }
        }
        let durable = self.durable;
        let (due, later) = (self.releases.drain(..)).partition(|(commit, ..)| *commit <= durable);
        self.releases = later;
        let due: Vec<(u64, u32, PacketId)> = due;
        for (_, connection, id) in due {
            if connection == self.connection && self.is_connected {
                self.release(id);
            }
        }
        if self.is_connected {
            self.pump(bounds);
        }
    }

    pub(super) fn of_commit(&self, commit: u64) -> Vec<Logged> {
        let of_it = |logged: &&Logged| logged.place.commit.0 == commit;
        self.log.iter().filter(of_it).copied().collect()
    }

    pub(super) fn scan(&mut self, bounds: &Bounds) {
        let Some(mut chunk) = self.scan.take() else {
            if self.outbound.catch_up(CommitNumber(self.worked_off)) {
                return;
            }
            if let Some(from) = self.reads_from() {
                self.scan = Some(Chunk {
                    from,
                    next: self.durable.min(from + 1) + 1,
                    at: from,
                    reader: None,
                });
            }
            return;
        };
        if chunk.at == chunk.from {
            let takes_part = self.is_connected
                && (self.outbound.reads_from())
                    .is_some_and(|at| chunk.from <= at.0 && at.0 < chunk.next);
            if takes_part {
                self.outbound.begin_scan();
                chunk.reader = Some(self.connection);
            }
        }
        let takes_part = chunk.reader == Some(self.connection) && self.is_connected;
        if chunk.at == chunk.next {
            if takes_part {
                let end = Place::beginning_of(CommitNumber(chunk.next));
                let gone = self.outbound.end_scan(end);
                assert_eq!(gone, [], "everything is in the log");
            }
            return;
        }
        for logged in self.of_commit(chunk.at) {
            if !takes_part {
                break;
            }
            if self.outbound.wants_again(logged.place)
                || self.outbound.wants(logged.place, logged.qos)
            {
                self.outbound.offer_read(item(logged), logged.place);
                self.pump(bounds);
            }
        }
        chunk.at += 1;
        self.scan = Some(chunk);
    }
}
