//! What each subscriber must get, may get and must not get, from what was asked for, granted, published
//! and acknowledged when.
//!
//! Time is counted in what happens. A message is one that a subscriber **must** get if it was first
//! sent after SUBACK for a filter that matches, and that subscription is still there at the end. It **may**
//! get it if a subscription can have been there at some time between its first sending and its
//! acknowledgement or the end of the subscription. It must not get another, and none twice, unless the
//! product was killed in between or the publisher had sent it again, and never with QoS 2.
//!
//! Shared subscriptions have topics of their own. What is said of a subscriber holds for their group
//! ([`shared`](super::shared)).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result, ensure};

use crate::mqtt::crowd::Happened;
use crate::mqtt::kept::{Event, Kept};
use crate::mqtt::packet::Publish;
use crate::sessions::books::{Books, number_of};
use crate::sessions::random::shared::{Seen, Shared};

/// Filters that subscribers use. The first six overlap, those of groups do not: who gets a message twice,
/// gets it once too often.
pub(super) const FILTERS: [&str; 9] = [
    "c/#",
    "c/+/0",
    "c/3/+",
    "c/1/0",
    "+/2/#",
    "c/4/1",
    "$share/g/d/+/0",
    "$share/g/d/1/1",
    "$share/h/d/0/1",
];
/// So much is told of a client that got what it must not.
const HISTORY_MAX: usize = 30;
/// How many topics there are, those of groups last.
pub(super) const TOPICS: usize = 16;
const ORDINARY_TOPICS: u32 = 12;
/// How the names of topics of groups begin.
pub(super) const SHARED: &str = "d/";

/// The name of a topic.
pub(super) fn topic_name(topic: u32) -> String {
    match topic.checked_sub(ORDINARY_TOPICS) {
        None => format!("c/{}/{}", topic / 2, topic % 2),
        Some(topic) => format!("{SHARED}{}/{}", topic / 2, topic % 2),
    }
}

/// A topic by a random number.
pub(super) fn topic(random: u64) -> u32 {
    u32::try_from(random % TOPICS as u64).unwrap_or(0)
}

/// The filter of the group that gets what is published to this topic.
pub(super) fn shared_filter(topic: u32) -> Option<usize> {
    (6..FILTERS.len()).find(|filter| matches(*filter, topic))
}

pub(super) fn matches(filter: usize, topic: u32) -> bool {
    if let Some(topic) = topic.checked_sub(ORDINARY_TOPICS) {
        return matches!((filter, topic), (6, 0 | 2) | (7, 3) | (8, 1));
    }
    let (first, second) = (topic / 2, topic % 2);
    match filter {
        0 => true,
        1 => second == 0,
        2 => first == 3,
        3 => first == 1 && second == 0,
        4 => first == 2,
        5 => first == 4 && second == 1,
        _ => false,
    }
}

/// A message, named by its number.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: u32,
    pub(super) qos: u8,
    pub(super) sent_at: u64,
    pub(super) acknowledged_at: Option<u64>,
    /// With QoS 1 it may be in the log twice then.
    pub(super) is_sent_again: bool,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) filter: usize,
    pub(super) qos: u8,
    pub(super) asked_at: u64,
    pub(super) granted_at: Option<u64>,
    /// When it was taken back, or a clean start was asked for.
    pub(super) unasked_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
    /// A clean start was asked for since.
    is_of_earlier: bool,
}

impl Window {
    /// Whether it can have been there at some time between first sending and acknowledgement.
    pub(super) fn may_bring(&self, message: &Message) -> bool {
        matches(self.filter, message.topic)
            && (message.acknowledged_at).is_none_or(|at| at > self.asked_at)
            && self.ended_at.is_none_or(|at| at > message.sent_at)
    }

    /// Whether it was there before the message, and is there still.
    pub(super) fn must_bring(&self, message: &Message) -> bool {
        matches(self.filter, message.topic)
            && self.unasked_at.is_none()
            && self.granted_at.is_some_and(|at| at < message.sent_at)
    }
}

#[derive(Debug, Default)]
pub(super) struct Subscriber {
    pub(super) windows: Vec<Window>,
    /// When its last connection ended.
    pub(super) lost_at: u64,
    /// When it last asked for a clean start.
    pub(super) discarded_at: u64,
    /// When each message came first, and the lowest QoS with which it came.
    seen: BTreeMap<u32, (u64, u8)>,
    /// The last new message of each topic and QoS: more is not promised.
    last: BTreeMap<(u32, u8), u32>,
    repeats: u64,
    pongs: u32,
    /// A request that is not answered.
    is_waiting: bool,
    /// What it did and what was done to it, when, newest last.
    history: VecDeque<(u64, String)>,
}

/// What is to be asked for again on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Subscribe(usize, u8),
    Unsubscribe(usize),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Model {
    now: u64,
    crashed_at: u64,
    pub(super) messages: Vec<Message>,
    pub(super) subscribers: Vec<Subscriber>,
    shared: Shared,
}

impl Model {
    /// With so many clients; some of them publish only.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            now: 0,
            crashed_at: 0,
            messages: Vec::new(),
            subscribers: (0..clients).map(|_| Subscriber::default()).collect(),
            shared: Shared::default(),
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn remember(&mut self, client: usize, what: String) {
        let now = self.now;
        if let Some(subscriber) = self.subscribers.get_mut(client) {
            subscriber.history.push_back((now, what));
            if subscriber.history.len() > HISTORY_MAX {
                subscriber.history.pop_front();
            }
        }
    }

    fn subscriber(&mut self, client: usize) -> Result<&mut Subscriber> {
        let subscriber = self.subscribers.get_mut(client);
        subscriber.context("a client of this run")
    }

    /// The product was killed.
    pub(super) fn server_is_dead(&mut self) {
        self.crashed_at = self.tick();
        for subscriber in &mut self.subscribers {
            subscriber.lost_at = self.now;
        }
        (0..self.subscribers.len()).for_each(|client| self.remember(client, "kill".to_owned()));
    }

    /// A client's connection ends, or another one takes its place.
    pub(super) fn lost(&mut self, client: usize) {
        let now = self.tick();
        self.remember(client, "lost".to_owned());
        if let Some(subscriber) = self.subscribers.get_mut(client) {
            subscriber.lost_at = now;
        }
    }

    /// A message is sent for the first time; its number.
    pub(super) fn sent(&mut self, topic: u32, qos: u8) -> Result<u32> {
        let sent_at = self.tick();
        self.messages.push(Message {
            topic,
            qos,
            sent_at,
            acknowledged_at: None,
            is_sent_again: false,
        });
        u32::try_from(self.messages.len() - 1).context("a number")
    }

    /// The publisher's connection is gone: these are sent again.
    pub(super) fn sent_again(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let message = usize::try_from(number).ok();
            if let Some(message) = message.and_then(|number| self.messages.get_mut(number)) {
                message.is_sent_again |= message.qos == 1;
            }
        }
    }

    /// Whether a client waits for SUBACK or UNSUBACK.
    pub(super) fn is_waiting(&self, client: usize) -> bool {
        self.subscribers.get(client).is_some_and(|s| s.is_waiting)
    }

    /// SUBSCRIBE is sent.
    pub(super) fn subscribing(&mut self, client: usize, filter: usize, qos: u8) -> Result<()> {
        let asked_at = self.tick();
        self.remember(client, format!("SUBSCRIBE {filter} QoS {qos}"));
        let subscriber = self.subscriber(client)?;
        subscriber.is_waiting = true;
        let is_there = |w: &Window| w.filter == filter && w.unasked_at.is_none();
        if !subscriber.windows.iter().any(is_there) {
            subscriber.windows.push(Window {
                filter,
                qos,
                asked_at,
                granted_at: None,
                unasked_at: None,
                ended_at: None,
                is_of_earlier: false,
            });
        }
        Ok(())
    }

    /// UNSUBSCRIBE is sent.
    pub(super) fn unsubscribing(&mut self, client: usize, filter: usize) -> Result<()> {
        let now = self.tick();
        self.remember(client, format!("UNSUBSCRIBE {filter}"));
        let subscriber = self.subscriber(client)?;
        subscriber.is_waiting = true;
        for window in &mut subscriber.windows {
            if window.filter == filter {
                window.unasked_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// CONNECT is sent; what is then to be asked for again.
    pub(super) fn connecting(&mut self, client: usize, clean_start: bool) -> Result<Option<Again>> {
        self.lost(client);
        let now = self.tick();
        self.remember(client, format!("CONNECT, clean start: {clean_start}"));
        let subscriber = self.subscriber(client)?;
        subscriber.is_waiting = false;
        if clean_start {
            subscriber.discarded_at = now;
            for window in &mut subscriber.windows {
                window.unasked_at.get_or_insert(now);
                window.is_of_earlier = true;
            }
            return Ok(None);
        }
        let windows = subscriber.windows.iter().rev();
        let mut windows = windows.filter(|window| !window.is_of_earlier);
        Ok(windows.find_map(|window| match window {
            Window {
                ended_at: Some(_), ..
            } => None,
            Window {
                unasked_at: Some(_),
                ..
            } => Some(Again::Unsubscribe(window.filter)),
            Window {
                granted_at: None, ..
            } => Some(Again::Subscribe(window.filter, window.qos)),
            Window { .. } => None,
        }))
    }

    fn connected(&mut self, client: usize, session_present: bool) -> Result<()> {
        let now = self.tick();
        self.remember(client, format!("CONNACK, present: {session_present}"));
        for window in &mut self.subscriber(client)?.windows {
            // For good: no kill brings it back.
            if window.is_of_earlier && !session_present {
                window.ended_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// A message came, and not as a resend on the next connection.
    fn came(&mut self, client: usize, publish: &Publish) -> Result<()> {
        let now = self.tick();
        let number = number_of(&publish.payload).context("it was never sent")?;
        let message = self.messages.get(number as usize);
        let message = message.context("it was not sent yet")?;
        ensure!(
            publish.topic == topic_name(message.topic) && publish.qos() <= message.qos,
            "{number}: {publish:?} of {message:?}"
        );
        let crashed_at = self.crashed_at;
        if shared_filter(message.topic).is_some() {
            let seen = Seen {
                client,
                at: now,
                qos: publish.qos(),
            };
            let subscribers = &self.subscribers;
            return (self.shared).came(number, message, seen, subscribers, crashed_at);
        }
        let subscriber = self.subscribers.get_mut(client).context("a client")?;
        ensure!(
            subscriber.windows.iter().any(|w| w.may_bring(message)),
            "message {number} is none of its own: {message:?}; {:?}",
            subscriber.windows
        );
        let qos = publish.qos();
        if let Some((seen_at, lowest)) = subscriber.seen.get_mut(&number) {
            let is_right = qos.min(*lowest) < 2 && (*seen_at < crashed_at || message.is_sent_again);
            ensure!(
                is_right,
                "message {number} came twice, with QoS {qos} and {lowest}: {message:?}; first at \
                 {seen_at}, now it is {now}, last kill at {crashed_at}"
            );
            *lowest = qos.min(*lowest);
            subscriber.repeats += 1;
            return Ok(());
        }
        subscriber.seen.insert(number, (now, qos));
        let before = subscriber.last.insert((message.topic, qos), number);
        ensure!(
            message.is_sent_again || before.is_none_or(|before| before < number),
            "message {number} came behind {before:?} of the same topic and QoS {qos}: {message:?}"
        );
        Ok(())
    }

    fn subscribed(&mut self, client: usize, filter: &str, code: u8) -> Result<()> {
        let now = self.tick();
        self.remember(client, format!("SUBACK {filter}"));
        let subscriber = self.subscriber(client)?;
        subscriber.is_waiting = false;
        let mut qos = None;
        for window in &mut subscriber.windows {
            let is_it = FILTERS.get(window.filter).is_some_and(|f| *f == filter);
            if is_it && window.unasked_at.is_none() {
                window.granted_at.get_or_insert(now);
                qos = Some(window.qos);
            }
        }
        ensure!(
            Some(code) == qos,
            "{filter}: QoS {code} in the place of {qos:?}"
        );
        Ok(())
    }

    fn unsubscribed(&mut self, client: usize, filter: &str) -> Result<()> {
        let now = self.tick();
        let subscriber = self.subscriber(client)?;
        subscriber.is_waiting = false;
        for window in &mut subscriber.windows {
            let is_it = FILTERS.get(window.filter).is_some_and(|f| *f == filter);
            if is_it && window.unasked_at.is_some() {
                window.ended_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Messages that a client must have and has not.
    pub(super) fn missing(&self, client: usize) -> BTreeSet<u32> {
        let Some(subscriber) = self.subscribers.get(client) else {
            return BTreeSet::new();
        };
        let must_be = |message: &Message| {
            let is_shared = shared_filter(message.topic).is_some();
            !is_shared && subscriber.windows.iter().any(|w| w.must_bring(message))
        };
        let numbers = (0..).zip(&self.messages);
        numbers
            .filter(|(number, message)| !subscriber.seen.contains_key(number) && must_be(message))
            .map(|(number, _)| number)
            .collect()
    }

    /// Messages that a member of a group must have and none has.
    pub(super) fn missing_in_groups(&self) -> BTreeSet<u32> {
        self.shared.missing(&self.messages, &self.subscribers)
    }

    /// Messages that came, and those of them that came again.
    pub(super) fn counts(&self) -> (u64, u64) {
        let seen: u64 = self.subscribers.iter().map(|s| s.seen.len() as u64).sum();
        let repeats: u64 = self.subscribers.iter().map(|s| s.repeats).sum();
        let (shared, again) = self.shared.counts();
        (seen + shared, repeats + again)
    }
}

impl Books for Model {
    fn note(&mut self, kept: &mut Kept, client: usize, happened: Happened) -> Result<()> {
        let Happened::Event(event) = happened else {
            self.lost(client);
            return Ok(());
        };
        let noted = match event {
            Event::Message { is_repeated, .. } if is_repeated => Ok(()),
            Event::Message { publish, .. } => self.came(client, &publish),
            Event::Published { tag } => {
                let now = self.tick();
                let number = usize::try_from(tag).context("a number")?;
                let message = self.messages.get_mut(number).context("a message")?;
                message.acknowledged_at = Some(now);
                Ok(())
            }
            Event::Subscribed { filter, code } => self.subscribed(client, &filter, code),
            Event::Unsubscribed { filter } => self.unsubscribed(client, &filter),
            Event::Pong => self.subscriber(client).map(|s| s.pongs += 1),
            Event::Connected { session_present } => self.connected(client, session_present),
        };
        noted.with_context(|| {
            let history = self.subscribers.get(client).map(|s| &s.history);
            format!("{}: {history:?}", kept.client_id())
        })
    }

    fn pongs(&self, client: usize) -> u32 {
        self.subscribers.get(client).map_or(0, |s| s.pongs)
    }
}
