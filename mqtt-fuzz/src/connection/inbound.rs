//! Model of what the client has sent and waits for: publications, releases, requests, aliases, and
//! the Receive Maximum that it must keep.

use std::collections::{BTreeMap, VecDeque};

use mqtt::server::{Misbehaviour, Options, Reason};
use mqtt::{Delivery, PacketId, PacketType, ProtocolVersion, Publish, TopicAlias, TopicName};

/// What became of a publication or release.
#[derive(Debug)]
pub(super) enum Answer {
    Open,
    Suspended,
    Given(Reason),
}

#[derive(Debug)]
pub(super) struct Publication {
    /// PUBACK or PUBREC.
    pub(super) answer_type: PacketType,
    pub(super) packet_id: PacketId,
    pub(super) answer: Answer,
}

#[derive(Debug)]
pub(super) struct Release {
    pub(super) packet_id: PacketId,
    /// The number of the publication that must be answered before.
    pub(super) after: Option<u64>,
    pub(super) answer: Answer,
}

/// A SUBSCRIBE or UNSUBSCRIBE without its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) answer_type: PacketType,
    pub(super) packet_id: PacketId,
    pub(super) filters: usize,
}

/// How often an identifier is in use.
#[derive(Debug, Default)]
struct Use {
    publishes: usize,
    is_unreleased: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The number of the first of `publications`; the others follow. So for the releases.
    first_publication: u64,
    publications: VecDeque<Publication>,
    first_release: u64,
    releases: VecDeque<Release>,
    requests: Vec<Request>,
    next_request: u64,
    aliases: BTreeMap<TopicAlias, TopicName>,
    uses: BTreeMap<PacketId, Use>,
    credit: usize,
}

impl Inbound {
    /// A PUBLISH: its topic, and the number of its answer.
    pub(super) fn publish(
        &mut self,
        publish: &Publish,
        version: ProtocolVersion,
        options: &Options,
    ) -> Result<(TopicName, Option<u64>), Misbehaviour> {
        let qos = publish.delivery.qos();
        if qos > options.maximum_qos {
            return Err(Misbehaviour::QosNotServed { qos });
        }
        if !publish.subscription_identifiers.is_empty() {
            return Err(Misbehaviour::SubscriptionIdentifierFromClient);
        }
        let topic = self.resolve(publish, options.topic_alias_maximum)?;
        let (answer_type, packet_id) = match publish.delivery {
            Delivery::AtMostOnce => return Ok((topic, None)),
            Delivery::AtLeastOnce { packet_id, .. } => (PacketType::Puback, packet_id),
            Delivery::ExactlyOnce { packet_id, .. } => (PacketType::Pubrec, packet_id),
        };
        if version == ProtocolVersion::V5 {
            let maximum = options.receive_maximum.get();
            let is_known = self.uses.contains_key(&packet_id);
            if !is_known && self.uses.len() >= usize::from(maximum) + self.credit {
                return Err(Misbehaviour::ReceiveMaximumExceeded { maximum });
            }
            self.uses.entry(packet_id).or_default().publishes += 1;
        }
        self.publications.push_back(Publication {
            answer_type,
            packet_id,
            answer: Answer::Open,
        });
        let number = self.first_publication + self.publications.len() as u64 - 1;
        Ok((topic, Some(number)))
    }

    fn resolve(&mut self, publish: &Publish, maximum: u16) -> Result<TopicName, Misbehaviour> {
        let Some(alias) = publish.topic_alias else {
            return publish.topic.clone().ok_or(Misbehaviour::TopicAliasUnknown);
        };
        if alias.get() > maximum {
            return Err(Misbehaviour::TopicAliasInvalid { alias, maximum });
        }
        if let Some(topic) = &publish.topic {
            self.aliases.insert(alias, topic.clone());
        }
        let topic = self.aliases.get(&alias).cloned();
        topic.ok_or(Misbehaviour::TopicAliasUnknown)
    }

    /// A PUBREL: the number of its answer, when the broker may hear of it now.
    pub(super) fn pubrel(&mut self, packet_id: PacketId) -> Option<u64> {
        let numbered = (self.first_publication..).zip(&self.publications);
        let after = numbered
            .filter(|(_, publication)| publication.packet_id == packet_id)
            .map(|(number, _)| number)
            .last();
        self.releases.push_back(Release {
            packet_id,
            after,
            answer: Answer::Open,
        });
        let number = self.first_release + self.releases.len() as u64 - 1;
        after.is_none().then_some(number)
    }

    pub(super) fn request(
        &mut self,
        answer_type: PacketType,
        packet_id: PacketId,
        filters: usize,
    ) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        self.requests.push(Request {
            number,
            answer_type,
            packet_id,
            filters,
        });
        number
    }

    /// The publication with this number, while it has no answer.
    pub(super) fn open_publication(&mut self, number: u64) -> Option<&mut Publication> {
        let index = number.checked_sub(self.first_publication)?;
        let publication = self.publications.get_mut(usize::try_from(index).ok()?)?;
        (!matches!(publication.answer, Answer::Given(_))).then_some(publication)
    }

    /// The release with this number, while it has no answer and the broker knows of it.
    pub(super) fn open_release(&mut self, number: u64) -> Option<&mut Release> {
        let index = number.checked_sub(self.first_release)?;
        let release = self.releases.get_mut(usize::try_from(index).ok()?)?;
        (matches!(release.answer, Answer::Open) && release.after.is_none()).then_some(release)
    }

    /// The next PUBACK or PUBREC that may leave.
    pub(super) fn pop_answered(
        &mut self,
        version: ProtocolVersion,
    ) -> Option<(PacketType, PacketId, Reason)> {
        let front = self.publications.front()?;
        let Answer::Given(reason) = &front.answer else {
            return None;
        };
        let answered = (front.answer_type, front.packet_id, reason.clone());
        self.publications.pop_front();
        self.first_publication += 1;
        let (answer_type, packet_id, reason) = &answered;
        if version == ProtocolVersion::V5
            && let Some(found) = self.uses.get_mut(packet_id)
        {
            found.publishes -= 1;
            found.is_unreleased = *answer_type == PacketType::Pubrec && !reason.code.is_error();
            self.forget_unused(answered.1);
        }
        Some(answered)
    }

    /// Releases that waited for a publication which has been answered.
    pub(super) fn pop_due(&mut self) -> Option<(u64, PacketId)> {
        let answered = self.first_publication;
        let mut numbered = (self.first_release..).zip(&mut self.releases);
        let (number, due) =
            numbered.find(|(_, release)| release.after.is_some_and(|after| after < answered))?;
        due.after = None;
        Some((number, due.packet_id))
    }

    /// The next PUBCOMP that may leave.
    pub(super) fn pop_released(
        &mut self,
        version: ProtocolVersion,
        receive_maximum: u16,
    ) -> Option<(PacketId, Reason)> {
        let front = self.releases.front()?;
        let Answer::Given(reason) = &front.answer else {
            return None;
        };
        let released = (front.packet_id, reason.clone());
        self.releases.pop_front();
        self.first_release += 1;
        if version == ProtocolVersion::V5 {
            match self.uses.get_mut(&released.0) {
                Some(found) => found.is_unreleased = false,
                None => self.credit = usize::from(receive_maximum).min(self.credit + 1),
            }
            self.forget_unused(released.0);
        }
        Some(released)
    }

    /// Takes an open request out when the answer fits it.
    pub(super) fn complete_request(
        &mut self,
        answer_type: PacketType,
        number: u64,
        codes: usize,
    ) -> Option<PacketId> {
        let fits = |request: &Request| {
            request.number == number
                && request.answer_type == answer_type
                && request.filters == codes
        };
        let index = self.requests.iter().position(fits)?;
        Some(self.requests.remove(index).packet_id)
    }

    pub(super) fn publications(&self) -> &VecDeque<Publication> {
        &self.publications
    }

    /// Identifiers that count against Receive Maximum, and how many more it allows.
    pub(super) fn in_use(&self) -> (usize, usize) {
        (self.uses.len(), self.credit)
    }

    pub(super) fn releases(&self) -> usize {
        self.releases.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_suspended(&self) -> bool {
        let mut publications = self.publications.iter();
        publications.any(|one| matches!(one.answer, Answer::Suspended))
    }

    fn forget_unused(&mut self, packet_id: PacketId) {
        self.uses
            .retain(|id, found| *id != packet_id || found.publishes > 0 || found.is_unreleased);
    }
}
