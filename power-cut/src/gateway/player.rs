//! A client by what it does and sees: the same that was recorded makes the same state again.

use std::collections::BTreeMap;

use ::tests::mqtt::Version;
use ::tests::mqtt::kept::{Event, Kept, Loss};
use ::tests::mqtt::packet::{self, Packet, Publish};
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::step::Step;
use super::who::{self, FILTERS, NUMBERS_EACH, TOPICS, Who, number_of};

/// MQTT 5, 3.14.2.1.
const SERVER_SHUTTING_DOWN: u8 = 0x8b;

/// Something that a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Did {
    /// It connects.
    Connect,
    /// It publishes; topic by number.
    Publish { number: u64, topic: usize, qos: u8 },
    /// It subscribes; filter by number.
    Subscribe { filter: usize },
    /// It unsubscribes.
    Unsubscribe { filter: usize },
    /// It answers messages at once from now on, or only when it pleases.
    AnswersAtOnce(bool),
    /// It answers a message.
    Answer,
    /// It says good-bye.
    Leave,
    /// Its connection is over.
    Lost,
    /// The power went.
    PowerCut,
    /// A packet of this kind is about to be sent; it has been remembered before.
    Sent(Step),
    /// A packet came: first byte, and what follows the fixed header. The payload of a message is only
    /// its number.
    Seen(u8, Vec<u8>),
}

impl Did {
    /// What step it is, if it is one.
    pub(crate) fn step(&self) -> Option<Step> {
        match self {
            Self::Sent(step) => Some(*step),
            Self::Seen(first, _) => Step::of_seen(*first),
            Self::Lost => Some(Step::Gone),
            _ => None,
        }
    }
}

/// What came, with all of its payload, as it is recorded.
pub(crate) fn seen(version: Version, first: u8, body: &[u8], bytes_max: usize) -> Result<Did> {
    let Packet::Publish(publish) = Packet::decode(first, body, version)? else {
        return Ok(Did::Seen(first, body.to_vec()));
    };
    let number = number_of(&publish.payload, bytes_max);
    let number = number.with_context(|| format!("{publish:?} was never published"))?;
    let short = Publish {
        payload: number.to_be_bytes().to_vec(),
        ..publish
    };
    let encoded = short.encode(version);
    let (header, _) = packet::lengths(&encoded)?.context("a whole packet")?;
    let body = encoded.get(header..).unwrap_or_default();
    Ok(Did::Seen(first, body.to_vec()))
}

/// A message that a client has published, and when: in places of the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: usize,
    pub(crate) qos: u8,
    pub(crate) at: usize,
    /// PUBACK or PUBREC.
    pub(crate) acknowledged: Option<usize>,
}

/// A message that has come for the first time, or is not known to have come before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) number: u64,
    pub(crate) topic: usize,
    pub(crate) qos: u8,
}

/// A subscription, and when: in places of the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) filter: usize,
    pub(crate) first: usize,
    pub(crate) granted: Option<usize>,
    /// UNSUBSCRIBE was sent.
    pub(crate) unasked: Option<usize>,
    /// UNSUBACK came.
    pub(crate) ended: Option<usize>,
    /// SUBSCRIBE was sent on this connection.
    is_of_now: bool,
}

impl Asked {
    /// One that was granted.
    #[cfg(test)]
    pub(crate) fn granted(filter: usize, at: usize) -> Self {
        Self {
            filter,
            first: at,
            granted: Some(at),
            unasked: None,
            ended: None,
            is_of_now: false,
        }
    }

    /// Whether it is the subscription with this filter, and not taken back.
    fn is_open(&self, filter: usize) -> bool {
        self.filter == filter && self.unasked.is_none()
    }
}

fn filter_of(name: &str) -> Option<usize> {
    FILTERS.iter().position(|known| *known == name)
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) who: &'static Who,
    number: usize,
    pub(crate) kept: Kept,
    pub(crate) sent: BTreeMap<u64, Sent>,
    pub(crate) asked: Vec<Asked>,
    /// SUBSCRIBE and UNSUBSCRIBE that were not answered.
    requests: usize,
    pub(crate) delivered: Vec<Delivered>,
    answers_at_once: bool,
    bytes_max: usize,
}

impl Player {
    /// A client that was never there, by its number in [`who::ALL`].
    pub(crate) fn new(number: usize, who: &'static Who, bytes_max: usize) -> Self {
        let mut kept = Kept::new(who.version, who.client_id, who.receive_maximum, who.window);
        kept.use_low_ids();
        Self {
            who,
            number,
            kept,
            sent: BTreeMap::new(),
            asked: Vec::new(),
            requests: 0,
            delivered: Vec::new(),
            answers_at_once: true,
            bytes_max,
        }
    }

    pub(crate) fn answers_at_once(&self) -> bool {
        self.answers_at_once
    }

    /// The number of the next message that it publishes.
    pub(crate) fn next_number(&self) -> u64 {
        let before = u64::try_from(self.number).unwrap_or(0) * NUMBERS_EACH;
        before + u64::try_from(self.sent.len()).unwrap_or(0)
    }

    /// Whether it may subscribe or unsubscribe: one thing at a time.
    pub(crate) fn may_ask(&self) -> bool {
        self.kept.is_open() && self.requests == 0
    }

    /// A filter that it is to subscribe to.
    pub(crate) fn is_to_ask(&self) -> Option<usize> {
        let is_to_ask = |filter: &&usize| {
            let asked = self.asked.iter().find(|asked| asked.is_open(**filter));
            asked.is_none_or(|asked| asked.granted.is_none() && !asked.is_of_now)
        };
        let filter = self.who.filters.iter().find(is_to_ask);
        filter.filter(|_| self.may_ask()).copied()
    }

    /// Whether it was granted all that it wants.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.who.filters.iter().all(|filter| {
            let mut asked = self.asked.iter();
            asked.any(|asked| asked.is_open(*filter) && asked.granted.is_some())
        })
    }

    fn asked(&mut self, filter: usize) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.is_open(filter))
    }

    /// It does or sees this, at this place of the record.
    pub(crate) fn apply(&mut self, at: usize, did: &Did) -> Result<()> {
        match did {
            Did::Connect => self.kept.connect(false),
            Did::Publish { number, topic, qos } => {
                let name = TOPICS.get(*topic).context("a topic")?;
                let payload = who::payload(*number, self.bytes_max);
                self.kept.publish(name, &payload, *qos, *number)?;
                let sent = Sent {
                    topic: *topic,
                    qos: *qos,
                    at,
                    acknowledged: None,
                };
                self.sent.insert(*number, sent);
            }
            Did::Subscribe { filter } => self.subscribe(at, *filter)?,
            Did::Unsubscribe { filter } => {
                let name = FILTERS.get(*filter).context("a filter")?;
                self.kept.unsubscribe(name)?;
                self.requests += 1;
                if let Some(asked) = self.asked(*filter) {
                    asked.unasked = Some(at);
                }
            }
            Did::AnswersAtOnce(at_once) => {
                self.answers_at_once = *at_once;
                self.kept.answer_at_once(*at_once);
            }
            Did::Answer => {
                self.kept.answer(1);
            }
            Did::Leave => self.kept.disconnect(),
            Did::Lost => self.lost(Loss::OfConnection),
            Did::PowerCut => self.lost(Loss::OfServer),
            // Whoever sends it takes it out; in a record it is gone.
            Did::Sent(_) => self.kept.output().clear(),
            Did::Seen(first, body) => self.see(at, *first, body)?,
        }
        Ok(())
    }

    fn subscribe(&mut self, at: usize, filter: usize) -> Result<()> {
        let name = FILTERS.get(filter).context("a filter")?;
        self.kept.subscribe(name, self.who.qos)?;
        self.requests += 1;
        match self.asked(filter) {
            Some(asked) => asked.is_of_now = true,
            None => self.asked.push(Asked {
                filter,
                first: at,
                granted: None,
                unasked: None,
                ended: None,
                is_of_now: true,
            }),
        }
        Ok(())
    }

    fn lost(&mut self, loss: Loss) {
        self.kept.lost(loss);
        self.requests = 0;
        for asked in &mut self.asked {
            asked.is_of_now = false;
        }
    }

    fn see(&mut self, at: usize, first: u8, body: &[u8]) -> Result<()> {
        let packet = Packet::decode(first, body, self.who.version)?;
        if let Packet::Disconnect {
            code: SERVER_SHUTTING_DOWN,
        } = packet
        {
            return Ok(());
        }
        let has_taken = matches!(packet, Packet::Pubrec { .. });
        let event = self.kept.handle(packet)?;
        if has_taken {
            for number in self.kept.taken() {
                if let Some(sent) = self.sent.get_mut(&number) {
                    sent.acknowledged.get_or_insert(at);
                }
            }
        }
        match event {
            // What an earlier session asked for, it may still have had.
            Some(Event::Connected { session_present }) if !session_present => {
                for asked in &mut self.asked {
                    asked.granted = None;
                }
            }
            Some(Event::Published { tag }) => {
                let sent = self.sent.get_mut(&tag).context("its message")?;
                sent.acknowledged.get_or_insert(at);
            }
            Some(Event::Subscribed { filter, code }) => {
                ensure!(code == self.who.qos, "SUBACK with {code:#04x}");
                self.requests = self.requests.saturating_sub(1);
                let asked = filter_of(&filter).and_then(|filter| self.asked(filter));
                asked.context("its filter")?.granted.get_or_insert(at);
            }
            Some(Event::Unsubscribed { filter }) => {
                self.requests = self.requests.saturating_sub(1);
                let filter = filter_of(&filter).context("its filter")?;
                let asked = self.asked.iter_mut().rev();
                let mut asked = asked.filter(|asked| asked.filter == filter);
                if let Some(asked) = asked.find(|asked| asked.unasked.is_some()) {
                    asked.ended.get_or_insert(at);
                }
            }
            Some(Event::Message { publish, .. }) => {
                let number = publish.payload.first_chunk().context("its number")?;
                let topic = TOPICS.iter().position(|known| **known == publish.topic);
                self.delivered.push(Delivered {
                    number: u64::from_be_bytes(*number),
                    topic: topic.context("its topic")?,
                    qos: publish.qos(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::who::ALL;
    use super::*;

    /// What is recorded makes the same client again, and one that saw PUBREC remembers it.
    #[test]
    fn same_things_make_the_same_client_again() {
        let publish = Did::Publish {
            number: 0,
            topic: 4,
            qos: 2,
        };
        let things = [
            Did::Connect,
            Did::Sent(Step::ConnectSent),
            Did::Seen(0x20, vec![0, 0]),
            publish,
            Did::Sent(Step::Publish2Sent),
            Did::Seen(0x50, vec![0, 1]),
            Did::PowerCut,
        ];
        let make = |count| {
            let mut player = Player::new(0, &ALL[0], 300);
            for (at, did) in things.iter().take(count).enumerate() {
                player.apply(at, did).unwrap();
            }
            player
        };
        assert_eq!(make(5).sent[&0].acknowledged, None);
        assert_eq!(make(6).sent[&0].acknowledged, Some(5));
        assert_eq!(format!("{:?}", make(7)), format!("{:?}", make(7)));
        assert_eq!(make(7).kept.taken().collect::<Vec<_>>(), [0]);
        assert_eq!(make(7).next_number(), 1);
    }
}
