//! The connection of the client: what is sent, answered, handed over and left.

use super::*;

impl World {
    pub(super) fn free_places(&self, bounds: &Bounds) -> usize {
        let is_unsent = |(_, sent): &(PacketId, Sent)| matches!(sent, Sent::HandedOver(_));
        match self.machine.iter().any(is_unsent) {
            true => 0,
            false => bounds.window.saturating_sub(self.machine.len()),
        }
    }

    pub(super) fn free_id(&self) -> PacketId {
        let is_free = |id: &PacketId| self.machine.iter().all(|(used, _)| used != id);
        (1..=u16::MAX)
            .filter_map(PacketId::new)
            .find(is_free)
            .unwrap()
    }

    pub(super) fn pump(&mut self, bounds: &Bounds) {
        self.send_bound();
        self.send_mailbox(bounds);
        self.send_bound();
    }

    pub(super) fn has_gathered(&self) -> bool {
        let is_bound = self.outbound.bound().iter().any(Bound::is_unwritten);
        self.is_connected && (is_bound || !self.gathered.is_empty())
    }

    pub(super) fn write_gathered(&mut self) {
        let commit = self.put_bindings(true);
        self.outbound.bound_written(CommitNumber(commit));
        let connection = self.connection;
        let gathered = self.gathered.drain(..);
        self.releases
            .extend(gathered.map(|id| (commit, connection, id)));
    }

    pub(super) fn send_bound(&mut self) {
        while let Some(bound) = self.outbound.bound().front()
            && bound.commit.is_some_and(|at| at.0 <= self.durable)
        {
            let (id, place, qos) = (bound.packet_id, bound.item.place.unwrap(), bound.item.qos);
            self.outbound.pop_bound();
            let is_qos2 = qos == QoS::ExactlyOnce;
            self.set(id, if is_qos2 { Sent::Qos2 } else { Sent::Qos1 });
            self.send(id, qos, place, false);
        }
    }

    pub(super) fn send_mailbox(&mut self, bounds: &Bounds) {
        while let Some(front) = self.outbound.front() {
            let is_next = self.outbound.bound().is_empty();
            let may_be_sent = match front.again {
                Some(_) => self.bindings_commit <= self.durable,
                None => self.free_places(bounds) > 0,
            };
            if !may_be_sent {
                return;
            }
            let item = self.outbound.pop().unwrap();
            let place = item.place.unwrap();
            match (item.again, item.qos) {
                (Some(id), qos) => {
                    let found = self.machine.iter().find(|(known, _)| *known == id);
                    if let Some((_, Sent::HandedOver(state))) = found {
                        let is_qos2 = *state == InflightState::AwaitsPubrec;
                        assert_eq!(is_qos2, qos == QoS::ExactlyOnce);
                        self.set(id, if is_qos2 { Sent::Qos2 } else { Sent::Qos1 });
                        self.send(id, qos, place, true);
                    }
                }
                (None, qos) if qos == QoS::ExactlyOnce || !is_next => {
                    let packet_id = self.free_id();
                    let is_qos2 = qos == QoS::ExactlyOnce;
                    let sent = match is_qos2 {
                        true => Sent::Reserved,
                        false => Sent::ReservedQos1,
                    };
                    self.machine.push((packet_id, sent));
                    let commit = (!is_qos2).then_some(CommitNumber(0));
                    self.outbound.bind(packet_id, item, commit);
                }
                (None, qos) => {
                    let packet_id = self.free_id();
                    self.machine.push((packet_id, Sent::Qos1));
                    self.outbound.sent(packet_id, &item);
                    self.send(packet_id, qos, place, false);
                }
            }
        }
    }

    pub(super) fn set(&mut self, id: PacketId, sent: Sent) {
        let found = self.machine.iter_mut().find(|(known, _)| *known == id);
        found.unwrap().1 = sent;
    }

    pub(super) fn send(&mut self, id: PacketId, qos: QoS, place: Place, dup: bool) {
        let publish = ToClient::Publish {
            id,
            qos,
            place,
            dup,
        };
        self.client.inbox.push(publish);
    }

    pub(super) fn release(&mut self, id: PacketId) {
        self.set(id, Sent::Released);
        self.client.inbox.push(ToClient::Pubrel(id));
    }

    pub(super) fn answer(&mut self, bounds: &Bounds, answer: ToServer) {
        match answer {
            ToServer::Puback(id) | ToServer::Pubcomp(id) => self.over(id),
            ToServer::Pubrec(id) => {
                self.set(id, Sent::Received);
                assert!(self.outbound.received(id));
                self.gathered.push(id);
            }
        }
        self.pump(bounds);
    }

    pub(super) fn over(&mut self, id: PacketId) {
        self.machine.retain(|(known, _)| *known != id);
        self.bindings_changed |= self.outbound.acknowledged(id);
    }

    pub(super) fn connect(&mut self, bounds: &Bounds) {
        self.is_connected = true;
        self.connection += 1;
        let left = self.outbound.left();
        let handed_over = left.iter().map(|entry| match entry.state {
            InflightState::OwesPubrel => (entry.packet_id, Sent::Received),
            InflightState::AwaitsPubcomp => (entry.packet_id, Sent::Released),
            state => (entry.packet_id, Sent::HandedOver(state)),
        });
        self.machine = handed_over.collect();
        self.write_session();
        let gone = self.outbound.attach(CommitNumber(self.newest()));
        assert_eq!(gone, []);
        let ids = |state| {
            let entries = left.iter().filter(move |entry| entry.state == state);
            entries.map(|entry| entry.packet_id).collect::<Vec<_>>()
        };
        for id in ids(InflightState::AwaitsPubcomp) {
            self.release(id);
        }
        self.gathered = ids(InflightState::OwesPubrel);
        self.pump(bounds);
    }

    pub(super) fn disconnect(&mut self) {
        self.disconnects += 1;
        self.is_connected = false;
        self.client.inbox.clear();
        self.client.answers.clear();
        self.gathered.clear();
        let left = self
            .machine
            .drain(..)
            .map(|(packet_id, sent)| InflightEntry {
                packet_id,
                state: match sent {
                    Sent::ReservedQos1 | Sent::Qos1 => InflightState::AwaitsPuback,
                    Sent::Reserved | Sent::Qos2 => InflightState::AwaitsPubrec,
                    Sent::Received => InflightState::OwesPubrel,
                    Sent::Released => InflightState::AwaitsPubcomp,
                    Sent::HandedOver(state) => state,
                },
            });
        let left: Vec<_> = left.collect();
        let lost = self.outbound.detach(CommitNumber(self.worked_off), &left);
        assert_eq!(lost, 0);
        self.write_session();
    }
}
