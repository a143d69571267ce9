//! What a connection leaves to the next one, and where delivery goes on.

use std::collections::VecDeque;

use mqtt::PacketId;
use mqtt::server::InflightEntry;
use storage::CommitNumber;

use super::{Flow, InFlight, Item, OFFLINE_BYTES_MAX, Outbound};
use crate::place::Place;

impl Outbound {
    /// The client is gone. What waited is to be read again, what is not over, as the connection left
    /// it, to be sent again; of what is in no log a little is kept. `worked_off`: up to where the
    /// router had pushed. How many messages are lost.
    pub(crate) fn detach(&mut self, worked_off: CommitNumber, left: &[InflightEntry]) -> usize {
        let next = match self.flow {
            Flow::Live => self.next.max(Place::beginning_of(worked_off.next())),
            Flow::Behind => self.next,
        };
        self.bound.free();
        self.resends.free();
        self.fall_behind(next);
        self.replays.detach();
        self.scan = None;
        self.gone.free();
        self.again.free();
        let known = std::mem::take(&mut self.in_flight);
        let known = |id| known.iter().find(|sent| sent.packet_id == id);
        let left = left.iter().map(|entry| InFlight {
            packet_id: entry.packet_id,
            state: entry.state,
            place: known(entry.packet_id).and_then(|sent| sent.place),
            replay: known(entry.packet_id).and_then(|sent| sent.replay),
            group: known(entry.packet_id).and_then(|sent| sent.group),
        });
        let mut lost = 0;
        let mut kept_bytes: usize = self
            .unplaced
            .iter()
            .map(|(_, item)| item.size_bytes())
            .sum();
        let mut mailbox_bytes = self.waiting.bytes();
        while !self.may_be_kept(mailbox_bytes + kept_bytes)
            && let Some(item) = self.mailbox.pop_back()
        {
            mailbox_bytes -= item.size_bytes();
            lost += 1;
        }
        while !self.may_be_kept(kept_bytes)
            && let Some((_, item)) = self.unplaced.pop_back()
        {
            kept_bytes -= item.size_bytes();
            lost += 1;
        }
        self.waiting.set(mailbox_bytes + kept_bytes);
        let kept = &self.unplaced;
        let is_kept = |sent: &InFlight| kept.iter().any(|(id, _)| *id == sent.packet_id);
        let left = left.filter(|sent| sent.place.is_some() || sent.is_qos2() || is_kept(sent));
        self.in_flight = left.collect();
        let in_flight = &self.in_flight;
        let is_left = |id| {
            in_flight
                .iter()
                .any(|sent| sent.packet_id == id && sent.is_published())
        };
        self.unplaced.retain(|(id, _)| is_left(*id));
        self.mailbox.shrink_to_fit();
        // It may be away for long, and there may be many thousand others.
        self.in_flight.shrink_to_fit();
        self.mailbox.trim();
        self.unplaced.trim();
        self.over.trim();
        lost
    }

    /// Whether so many bytes of messages that are in no log may wait for a client that is not there.
    fn may_be_kept(&self, bytes: usize) -> bool {
        bytes == 0 || bytes <= OFFLINE_BYTES_MAX && self.waiting.may_keep(bytes)
    }

    /// What the next connection has to go on with, in the order in which it was sent.
    pub(crate) fn left(&self) -> Vec<InflightEntry> {
        // What is sent again is found in the log in its order, and sent in the order of this list.
        let mut published: Vec<_> = self.in_flight.iter().filter(|s| s.is_published()).collect();
        // The main cursor and replays may have sent what lies at one place.
        published.sort_by_key(|sent| (sent.place, sent.place.map(|_| sent.packet_id)));
        let others = self.in_flight.iter().filter(|sent| !sent.is_published());
        let entries = others.chain(published).map(|sent| InflightEntry {
            packet_id: sent.packet_id,
            state: sent.state,
        });
        entries.collect()
    }

    /// There is nothing to read for it: nothing is in flight, and it asks for nothing.
    pub(crate) fn begin_live(&mut self, worked_off: CommitNumber) {
        self.flow = Flow::Live;
        self.next = self.next.max(Place::beginning_of(worked_off.next()));
    }

    /// A client is there again. `newest`: the newest commit that something was appended to.
    /// Identifiers of messages that cannot be sent again.
    pub(crate) fn attach(&mut self, newest: CommitNumber) -> Vec<PacketId> {
        self.flow = Flow::Behind;
        self.live_behind = newest;
        let published = self.in_flight.iter().filter(|sent| sent.is_published());
        let (mut again, mut gone) = (Vec::new(), Vec::new());
        for sent in published {
            let mut unplaced = self.unplaced.iter();
            let unplaced = unplaced.find(|(id, _)| *id == sent.packet_id);
            match (sent.place, unplaced) {
                (Some(place), _) => again.push((place, sent.packet_id)),
                (None, Some((id, item))) => self.resends.push_back(Item {
                    again: Some(*id),
                    ..item.clone()
                }),
                (None, None) => gone.push(sent.packet_id),
            }
        }
        again.sort_unstable();
        self.again = VecDeque::from(again).into();
        self.weigh();
        gone
    }

    /// Everything before this place is done with, but for deliveries of QoS 2 that are not over.
    pub(crate) fn position(&self, worked_off: CommitNumber) -> Place {
        let sent = self.in_flight.iter().filter(|sent| !sent.is_qos2());
        let sent = sent.filter(|sent| sent.is_main());
        let sent = sent.filter_map(|sent| sent.place);
        let bound = self.bound.iter().map(|bound| &bound.item);
        let bound = bound.filter(|item| item.replay.is_none() && item.group.is_none());
        let bound = bound.filter_map(|item| item.place);
        let waiting = self.mailbox.iter().filter_map(|item| item.place);
        let next = match self.flow {
            Flow::Live => self.next.max(Place::beginning_of(worked_off.next())),
            Flow::Behind => self.next,
        };
        sent.chain(bound).chain(waiting).fold(next, Place::min)
    }
}
