//! The client: what it has got, and what it must not get.

use super::*;

impl World {
    pub(super) fn receive(&mut self) {
        for packet in std::mem::take(&mut self.client.inbox) {
            match packet {
                ToClient::Publish {
                    id,
                    qos,
                    place,
                    dup,
                } => self.take_publish(id, qos, place, dup),
                ToClient::Pubrel(id) => {
                    self.client.held.remove(&id.get());
                    self.client.answers.push(ToServer::Pubcomp(id));
                }
            }
        }
    }

    pub(super) fn take_publish(&mut self, id: PacketId, qos: QoS, place: Place, dup: bool) {
        let crashes = self.crashes;
        let client = &mut self.client;
        let is_qos2 = qos == QoS::ExactlyOnce;
        let answer = if is_qos2 {
            ToServer::Pubrec(id)
        } else {
            ToServer::Puback(id)
        };
        client.answers.push(answer);
        if is_qos2 && let Some(held) = client.held.get(&id.get()) {
            assert_eq!(*held, place, "identifier {id:?} is in use");
            assert!(dup, "{id:?} comes again without DUP");
            return;
        }
        match client.seen.get(&place) {
            Some(_) if is_qos2 => panic!("{place:?} comes twice"),
            Some(at) => assert!(dup || *at < crashes, "{place:?} comes again"),
            None => {
                let before = client.last.insert(qos as u8, place);
                assert!(before < Some(place), "{place:?} comes behind {before:?}");
                let before = client.newest.replace(place);
                let is_next = before < Some(place) || crashes > 0;
                assert!(is_next, "{place:?} comes behind {before:?} of another QoS");
                client.seen.insert(place, crashes);
            }
        }
        if is_qos2 {
            client.held.insert(id.get(), place);
        }
    }

    /// Nothing goes wrong any more: the client gets what is missing.
    pub(super) fn finish(mut self, bounds: &Bounds) {
        for _ in 0..1_000 {
            let mut steps = ORDERS[bounds.order].into_iter();
            let next = steps.find(|step| *step != Step::Publish && self.may(*step, bounds));
            let Some(step) = next else {
                break;
            };
            self.take(step, bounds);
        }
        let seen: BTreeSet<Place> = self.client.seen.keys().copied().collect();
        let log: BTreeSet<Place> = self.log.iter().map(|logged| logged.place).collect();
        assert!(log.is_subset(&seen), "of {log:?} came {seen:?}");
        assert_eq!(self.machine, [], "all flows end");
        assert!(self.client.held.is_empty());
    }
}
