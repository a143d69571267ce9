//! What is read from the log for a session that is behind: from where, what of it is wanted, and when there
//! is room.

use mqtt::{PacketId, QoS};
use storage::CommitNumber;

use super::{Flow, Item, Outbound, Scan};
use crate::missing::MissingReport;
use crate::place::Place;

impl Outbound {
    /// What waits and can be read again does not wait any more: it is read again when there is room.
    pub(super) fn fall_behind(&mut self, place: Place) {
        self.flow = Flow::Behind;
        let mut next = place;
        self.mailbox.retain(|item| {
            if let Some(place) = item.place {
                next = next.min(place);
            }
            item.place.is_none()
        });
        self.weigh();
        self.next = next;
    }

    /// If the mailbox holds far more than others could, it is given back. Whether it was.
    pub(crate) fn let_go_of_excess(&mut self) -> bool {
        self.waiting.is_excessive() && self.let_go()
    }

    /// All but one message of the mailbox are read again when that one waits no more; `false` if there is
    /// nothing to read again. No scan is under way.
    pub(crate) fn let_go(&mut self) -> bool {
        let Some(next) = self.mailbox.iter().skip(1).find_map(|item| item.place) else {
            return false;
        };
        let first = self.mailbox.pop_front();
        self.fall_behind(next);
        if let Some(first) = first {
            self.mailbox.push_front(first);
        }
        self.weigh();
        self.awaits_room = true;
        true
    }

    /// What comes after `worked_off` is read from the log, up to this commit at least. What waits goes
    /// on waiting.
    pub(crate) fn read_up_to(&mut self, worked_off: CommitNumber, commit: CommitNumber) {
        if self.flow == Flow::Live {
            self.flow = Flow::Behind;
            self.next = self.next.max(Place::beginning_of(worked_off.next()));
        }
        self.live_behind = self.live_behind.max(commit);
    }

    /// From which commit on the log is to be read, if the session is behind and has room.
    pub(crate) fn reads_from(&self) -> Option<CommitNumber> {
        let has_room = self.waiting.is_half_empty() && !self.awaits_room;
        // Nothing else leaves before what is sent again, so nothing else can be waited for.
        let has_room = has_room || self.gets_again() && self.resends.is_empty();
        let has_room = has_room && !(self.again.is_empty() && self.replays.holds_up());
        (self.flow == Flow::Behind && has_room).then(|| {
            let again = self.again.front();
            again.map_or(self.next, |(place, _)| *place).commit
        })
    }

    /// Whether what an earlier connection sent comes first.
    pub(crate) fn gets_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Takes part in a scan: for what an earlier connection sent, and only that, if there is any.
    pub(crate) fn begin_scan(&mut self) {
        self.scan = Some(match self.gets_again() {
            true => Scan::Again,
            false => Scan::New,
        });
    }

    /// Whether it takes part in a scan for what is at or behind `next`.
    pub(crate) fn takes_new(&self) -> bool {
        self.scan == Some(Scan::New)
    }

    /// The scan passes over commits that are not there any more. What of them is news.
    pub(crate) fn report_missing(&mut self, report: MissingReport) -> Option<MissingReport> {
        let report = report.rest(self.next.commit, self.missing_told)?;
        self.missing_told = report.to();
        let before = self.missing.take();
        let all = before.map_or(report, |before| before.with(report));
        self.missing = Some(Box::new(all));
        Some(report)
    }

    /// What is missing and its client was not told yet.
    pub(crate) fn missing(&self) -> Option<MissingReport> {
        self.missing.as_deref().copied()
    }

    /// Its client was told.
    pub(crate) fn told_missing(&mut self) {
        self.missing = None;
    }

    /// The scan has read nothing.
    pub(crate) fn give_up_scan(&mut self) {
        self.scan = None;
    }

    /// Whether what is at this place, to which the scan has come, is to be sent again.
    pub(crate) fn wants_again(&mut self, place: Place) -> bool {
        if self.scan != Some(Scan::Again) {
            return false;
        }
        self.miss_before(place);
        self.again.front().is_some_and(|(again, _)| *again == place)
    }

    /// What is to be sent again from before this place is not there.
    pub(super) fn miss_before(&mut self, place: Place) {
        while self.again.front().is_some_and(|(again, _)| *again < place) {
            self.gone.extend(self.again.pop_front().map(|(_, id)| id));
        }
    }

    /// Whether what is at this place is wanted from the scan as something new. `qos`: what it would be delivered with.
    pub(crate) fn wants(&self, place: Place, qos: QoS) -> bool {
        match self.scan {
            None | Some(Scan::Again) => false,
            // A message of QoS 2 that was bound and is over, as a crash did not let the position say.
            Some(Scan::New) if qos == QoS::ExactlyOnce && place < self.bound_before => false,
            Some(Scan::New) => {
                place >= self.next && !self.is_in_flight(place) && !self.over.contains(&place)
            }
        }
    }

    pub(super) fn is_in_flight(&self, place: Place) -> bool {
        let mut in_flight = self.in_flight.iter();
        in_flight.any(|sent| sent.place == Some(place) && sent.is_main())
    }

    /// A message that was read for this session. If there is no room for it, the session does not
    /// take part in the scan any more.
    pub(crate) fn offer_read(&mut self, mut item: Item, place: Place) {
        let is_next = self.scan == Some(Scan::Again) && self.resends.is_empty();
        if !is_next && !self.fits(&item) {
            if self.scan == Some(Scan::New) {
                self.next = self.next.max(place);
            }
            self.awaits_room = true;
            self.scan = None;
            return;
        }
        if self.scan == Some(Scan::Again) {
            item.again = self.again.pop_front().map(|(_, id)| id);
            self.waiting.add(item.size_bytes());
            self.resends.push_back(item);
        } else {
            self.next = self.next.max(place.behind());
            self.push(item);
        }
    }

    /// The scan has come to this place. Identifiers of messages that were to be sent again and are
    /// not there any more.
    pub(crate) fn end_scan(&mut self, place: Place) -> Vec<PacketId> {
        match self.scan.take() {
            None => {}
            Some(Scan::New) => {
                self.next = self.next.max(place);
                let next = self.next;
                self.over.retain(|over| *over >= next);
            }
            Some(Scan::Again) => self.miss_before(place),
        }
        self.gone.take()
    }

    /// Becomes live if everything was read that was worked off, and that nobody pushed.
    pub(crate) fn catch_up(&mut self, worked_off: CommitNumber) -> bool {
        let is_behind = self.flow == Flow::Behind;
        let has_all = self.again.is_empty()
            && !self.replays.holds_up()
            && self.next >= Place::beginning_of(worked_off.max(self.live_behind).next());
        if is_behind && has_all {
            self.flow = Flow::Live;
            self.over.free();
        }
        is_behind && has_all
    }

    /// What is at or behind this place is read once more; whoever offers it knows what of that is
    /// wanted.
    pub(crate) fn read_again_from(&mut self, place: Place) {
        let next = match self.flow {
            Flow::Live => place,
            Flow::Behind => self.next.min(place),
        };
        self.scan = None;
        self.fall_behind(next);
    }
}
