//! Model of what the client is sent: deliveries of QoS 1 and 2 with their identifiers, messages that
//! wait for a place, the order of PUBRELs, aliases of the server.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mqtt::server::{InflightEntry, InflightState, Misbehaviour};
use mqtt::{
    Acknowledgement, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    TopicAlias, TopicName,
};

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reserved(QoS),
    /// Of an earlier connection, and not resent.
    Unsent(QoS),
    Sent(QoS),
    /// PUBREC came.
    Received,
    /// The broker allows the PUBREL.
    Granted,
    /// Of an earlier connection: PUBREL is to be sent again.
    Unreleased,
    /// PUBREL was sent.
    Released,
}

/// A message that was given to the connection.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) topic: TopicName,
    pub(super) retain: bool,
    pub(super) expiry: Option<u32>,
    pub(super) at: Instant,
    pub(super) identifiers: Vec<u32>,
    pub(super) payload_bytes: usize,
}

/// A PUBLISH that must be the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// Which message.
    pub(super) number: usize,
    pub(super) delivery: Delivery,
}

/// What follows from an acknowledgement of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    Acknowledged,
    Received,
    /// PUBREL is sent, with this code.
    Pubrel(ReasonCode),
}

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    window: usize,
    entries: Vec<(PacketId, Step)>,
    /// PUBRECs whose PUBREL was not sent, in order.
    receipts: VecDeque<PacketId>,
    /// Every message that was given, by its number.
    pub(super) given: Vec<Given>,
    /// Numbers of those that wait.
    queue: VecDeque<usize>,
    due: VecDeque<Due>,
    /// Messages that have expired and of which no event has told.
    expired: usize,
    aliases: BTreeMap<TopicAlias, TopicName>,
    alias_maximum: u16,
}

impl Deliveries {
    pub(super) fn open(&mut self, window: u16, alias_maximum: u16, left: &[InflightEntry]) {
        self.window = window.into();
        self.alias_maximum = alias_maximum;
        for entry in left {
            if self.step(entry.packet_id).is_some() {
                continue;
            }
            let step = match entry.state {
                InflightState::AwaitsPuback => Step::Unsent(QoS::AtLeastOnce),
                InflightState::AwaitsPubrec => Step::Unsent(QoS::ExactlyOnce),
                InflightState::OwesPubrel => Step::Received,
                InflightState::AwaitsPubcomp => Step::Unreleased,
            };
            if step == Step::Received {
                self.receipts.push_back(entry.packet_id);
            }
            self.entries.push((entry.packet_id, step));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    fn unsent(&self) -> usize {
        let unsent = |(_, step): &&(PacketId, Step)| matches!(step, Step::Unsent(_));
        self.entries.iter().filter(unsent).count()
    }

    /// Places for new messages.
    pub(super) fn free_places(&self) -> usize {
        match self.unsent() {
            0 => self.window.saturating_sub(self.entries.len()),
            _ => 0,
        }
    }

    pub(super) fn has_place_to_resend(&self) -> bool {
        self.entries.len() - self.unsent() < self.window
    }

    /// PUBLISH packets that the client has and has not answered.
    pub(super) fn unanswered(&self) -> usize {
        let sent = |(_, step): &&(PacketId, Step)| matches!(step, Step::Sent(_));
        self.entries.iter().filter(sent).count()
    }

    pub(super) fn ids(&self) -> Vec<PacketId> {
        self.entries.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn step(&self, packet_id: PacketId) -> Option<Step> {
        let mut entries = self.entries.iter();
        Some(entries.find(|(id, _)| *id == packet_id)?.1)
    }

    fn set(&mut self, packet_id: PacketId, step: Step) {
        for entry in &mut self.entries {
            if entry.0 == packet_id {
                entry.1 = step;
            }
        }
    }

    fn remove(&mut self, packet_id: PacketId) {
        self.entries.retain(|(id, _)| *id != packet_id);
    }

    /// An identifier was taken.
    pub(super) fn take(&mut self, packet_id: PacketId, step: Step) {
        assert_eq!(self.step(packet_id), None, "{packet_id} is in use");
        assert!(self.free_places() > 0, "there was no place for {packet_id}");
        self.entries.push((packet_id, step));
    }

    pub(super) fn queue(&mut self, number: usize) {
        self.queue.push_back(number);
    }

    /// A message was taken to be sent at once.
    pub(super) fn send(&mut self, due: Due) {
        if let (Some(packet_id), qos) = (due.delivery.packet_id(), due.delivery.qos()) {
            self.set(packet_id, Step::Sent(qos));
        }
        self.due.push_back(due);
    }

    /// `false` when the identifier is not reserved.
    pub(super) fn cancel(&mut self, packet_id: PacketId) -> bool {
        let is_reserved = matches!(self.step(packet_id), Some(Step::Reserved(_)));
        if is_reserved {
            self.remove(packet_id);
        }
        is_reserved
    }

    /// The PUBRELs that leave when this one is allowed; `None` when it is not owed.
    pub(super) fn release(&mut self, packet_id: PacketId) -> Option<Vec<PacketId>> {
        match self.step(packet_id)? {
            Step::Received => self.set(packet_id, Step::Granted),
            // Its turn was on an earlier connection.
            Step::Unreleased => {
                self.set(packet_id, Step::Released);
                return Some(vec![packet_id]);
            }
            _ => return None,
        }
        // They leave in the order of the PUBRECs (MQTT 5, 4.6).
        let mut leaving = self.receipts.clone();
        leaving.retain(|id| self.step(*id) == Some(Step::Granted));
        while leaving.iter().ne(self.receipts.iter().take(leaving.len())) {
            leaving.pop_back();
        }
        self.receipts.drain(..leaving.len());
        for packet_id in &leaving {
            self.set(*packet_id, Step::Released);
        }
        Some(leaving.into())
    }

    /// A message is given up: the PUBREL that leaves for it, if it has QoS 2; `None` when it does not
    /// wait to be resent.
    pub(super) fn forget(&mut self, packet_id: PacketId) -> Option<Vec<PacketId>> {
        match self.step(packet_id)? {
            Step::Unsent(QoS::ExactlyOnce) => {
                self.set(packet_id, Step::Released);
                Some(vec![packet_id])
            }
            Step::Unsent(_) => {
                self.remove(packet_id);
                Some(Vec::new())
            }
            _ => None,
        }
    }

    /// What an acknowledgement means (MQTT 5, 4.3). The client knows nothing of what is reserved.
    pub(super) fn acknowledge(&mut self, packet: &Packet) -> Result<Outcome, Misbehaviour> {
        let (Packet::Puback(it) | Packet::Pubrec(it) | Packet::Pubcomp(it)) = packet else {
            return Ok(Outcome::Nothing);
        };
        let packet_id = it.packet_id;
        let step = self.step(packet_id);
        let step = step.filter(|step| !matches!(step, Step::Reserved(_)));
        match (packet, step) {
            (Packet::Pubrec(it), step) => self.pubrec(it, step),
            (_, None) => Ok(Outcome::Nothing),
            (
                Packet::Puback(_),
                Some(Step::Sent(QoS::AtLeastOnce) | Step::Unsent(QoS::AtLeastOnce)),
            )
            | (Packet::Pubcomp(_), Some(Step::Released | Step::Unreleased)) => {
                self.remove(packet_id);
                Ok(Outcome::Acknowledged)
            }
            (Packet::Puback(_), _) => Err(Misbehaviour::PubackForQos2 { packet_id }),
            _ => Err(Misbehaviour::PubcompWithoutPubrel { packet_id }),
        }
    }

    fn pubrec(
        &mut self,
        pubrec: &Acknowledgement,
        step: Option<Step>,
    ) -> Result<Outcome, Misbehaviour> {
        let packet_id = pubrec.packet_id;
        let is_error = pubrec.reason_code.is_error();
        Ok(match step {
            None if is_error => Outcome::Nothing,
            None => Outcome::Pubrel(ReasonCode::PacketIdentifierNotFound),
            Some(Step::Sent(QoS::ExactlyOnce) | Step::Unsent(QoS::ExactlyOnce)) if is_error => {
                self.remove(packet_id);
                Outcome::Acknowledged
            }
            Some(Step::Sent(QoS::ExactlyOnce) | Step::Unsent(QoS::ExactlyOnce)) => {
                self.set(packet_id, Step::Received);
                self.receipts.push_back(packet_id);
                Outcome::Received
            }
            Some(Step::Sent(_) | Step::Unsent(_)) => {
                return Err(Misbehaviour::PubrecForQos1 { packet_id });
            }
            Some(Step::Released | Step::Unreleased) if !is_error => {
                self.set(packet_id, Step::Released);
                Outcome::Pubrel(ReasonCode::Success)
            }
            _ => Outcome::Nothing,
        })
    }

    /// Checks a PUBLISH that the connection sends.
    pub(super) fn transmitted(
        &mut self,
        publish: &Publish,
        version: ProtocolVersion,
        now: Instant,
    ) {
        let number = publish
            .payload
            .first_chunk()
            .map(|number| u32::from_be_bytes(*number) as usize);
        let number = number.unwrap_or_else(|| panic!("nobody gave {publish:?}"));
        match self.due.pop_front() {
            Some(due) => {
                assert_eq!(number, due.number, "another message was to be sent now");
                assert_eq!(publish.delivery, due.delivery, "message {number}");
            }
            None => self.leave_queue(number, publish, now),
        }
        self.check_message(number, publish, version, now);
    }

    /// A message that waited has got its place.
    fn leave_queue(&mut self, number: usize, publish: &Publish, now: Instant) {
        while self.queue.front().is_some_and(|first| *first != number) {
            self.expire_first(now);
        }
        let first = self.queue.pop_front();
        assert_eq!(first, Some(number), "a message that does not wait was sent");
        let left = self.seconds_left(number, now);
        assert_ne!(left, Some(0), "message {number} has expired and was sent");
        let Delivery::AtLeastOnce {
            packet_id,
            dup: false,
        } = publish.delivery
        else {
            panic!("message {number} goes out with {:?}", publish.delivery);
        };
        self.take(packet_id, Step::Sent(QoS::AtLeastOnce));
    }

    fn expire_first(&mut self, now: Instant) {
        if let Some(number) = self.queue.pop_front() {
            assert_eq!(
                self.seconds_left(number, now),
                Some(0),
                "message {number} was dropped and has not expired"
            );
            self.expired += 1;
        }
    }

    /// The queue is shorter than what was seen of it: what is gone has expired.
    pub(super) fn expire_to(&mut self, queued: usize, now: Instant) {
        while self.queue.len() > queued {
            self.expire_first(now);
        }
    }

    /// The connection says so many messages have expired.
    pub(super) fn told_of_expired(&mut self, messages: usize) {
        assert!(messages > 0, "no message has expired");
        assert!(messages <= self.expired, "{messages} of {}", self.expired);
        self.expired -= messages;
    }

    pub(super) fn untold_expired(&self) -> usize {
        self.expired
    }

    /// Seconds that a message may still live, rounded up; `None` for any time.
    fn seconds_left(&self, number: usize, now: Instant) -> Option<u32> {
        let given = self.given.get(number)?;
        let interval = Duration::from_secs(given.expiry?.into());
        let left = interval.saturating_sub(now.saturating_duration_since(given.at));
        u32::try_from(left.as_nanos().div_ceil(1_000_000_000)).ok()
    }

    fn check_message(
        &mut self,
        number: usize,
        publish: &Publish,
        version: ProtocolVersion,
        now: Instant,
    ) {
        let given = self.given.get(number).cloned();
        let given = given.unwrap_or_else(|| panic!("nobody gave message {number}"));
        assert_eq!(self.resolve(publish), given.topic, "message {number}");
        assert_eq!(publish.retain, given.retain, "message {number}");
        assert_eq!(
            publish.payload.len(),
            given.payload_bytes,
            "message {number}"
        );
        let identifiers: Vec<u32> = publish
            .subscription_identifiers
            .iter()
            .map(|identifier| identifier.get())
            .collect();
        let expiry = publish.properties.message_expiry_interval;
        if version == ProtocolVersion::V5 {
            assert_eq!(identifiers, given.identifiers, "message {number}");
            assert_eq!(expiry, self.seconds_left(number, now), "message {number}");
        }
    }

    /// The topic as the client understands it.
    fn resolve(&mut self, publish: &Publish) -> TopicName {
        let Some(alias) = publish.topic_alias else {
            let topic = publish.topic.clone();
            return topic.unwrap_or_else(|| panic!("neither name nor alias: {publish:?}"));
        };
        let maximum = self.alias_maximum;
        assert!(alias.get() <= maximum, "alias {alias} of {maximum}");
        if let Some(topic) = &publish.topic {
            self.aliases.insert(alias, topic.clone());
        }
        let topic = self.aliases.get(&alias).cloned();
        topic.unwrap_or_else(|| panic!("alias {alias} stands for nothing"))
    }

    /// What is left for the next connection.
    pub(super) fn left(&self) -> Vec<InflightEntry> {
        let state = |step| match step {
            Step::Reserved(QoS::ExactlyOnce)
            | Step::Unsent(QoS::ExactlyOnce)
            | Step::Sent(QoS::ExactlyOnce) => InflightState::AwaitsPubrec,
            Step::Reserved(_) | Step::Unsent(_) | Step::Sent(_) => InflightState::AwaitsPuback,
            Step::Received => InflightState::OwesPubrel,
            Step::Granted | Step::Unreleased | Step::Released => InflightState::AwaitsPubcomp,
        };
        let entries = self.entries.iter();
        entries
            .map(|&(packet_id, step)| InflightEntry {
                packet_id,
                state: state(step),
            })
            .collect()
    }

    /// The connection has ended: what waits is dropped.
    pub(super) fn close(&mut self) {
        self.queue.clear();
        self.due.clear();
        self.window = 0;
    }
}
