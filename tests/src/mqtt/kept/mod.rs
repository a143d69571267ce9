//! A client that keeps its session, as MQTT 3.1.1 and 5 demand it of a client (4.1), and that holds the
//! server to its side of it.
//!
//! It has no socket: what it is to send is in its [`output`](Kept::output), and what comes is put into
//! [`handle`](Kept::handle). What survives a connection is in it: messages of both directions that
//! are not done with, with their packet identifiers.
//!
//! What it looks at, and calls an error: a packet identifier that is used again while in use, resends
//! without DUP, DUP without a resend, resends with another identifier, content or order, a resend that
//! does not come, more messages than it may be sent, acknowledgements out of order (4.6) or for nothing,
//! Session Present that is wrong, a message of QoS 2 that comes twice.

mod receiving;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::packet::{self, Connect, DISCONNECT, PINGREQ, Packet, Publish, Subscribe, Version};
use receiving::Receiving;
use sending::Sending;

/// Session Expiry Interval: for ever.
const FOR_EVER: u32 = u32::MAX;
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;
/// Reason code of a DISCONNECT: the server ends in good order.
const SERVER_SHUTTING_DOWN: u8 = 0x8b;

/// How the connection before was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server goes on: it knows what it sent.
    OfConnection,
    /// The server was killed: it may have forgotten what it sent with QoS 1, and nothing else.
    OfServer,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server lets it in.
    Connected {
        /// Whether its earlier session goes on.
        session_present: bool,
    },
    /// A message came.
    Message {
        /// The message.
        publish: Publish,
        /// Whether it is a resend of one that had come: never with QoS 2.
        is_repeated: bool,
    },
    /// A message is published: acknowledged, with QoS 2 to the end.
    Published {
        /// What [`Kept::publish`] was given.
        tag: u64,
    },
    /// SUBACK.
    Subscribed {
        /// The topic filter.
        filter: String,
        /// The QoS, or a reason code.
        code: u8,
    },
    /// UNSUBACK.
    Unsubscribed {
        /// The topic filter.
        filter: String,
    },
    /// PINGRESP.
    Pong,
}

/// What the client knows of its session at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtServer {
    Absent,
    /// A server that is killed may lose it: nothing was acknowledged yet.
    New,
    Unsure,
    Present,
}

#[derive(Debug, Clone)]
enum Request {
    Subscribe(String),
    Unsubscribe(String),
}

/// The client. See the module's documentation.
#[derive(Debug)]
pub struct Kept {
    version: Version,
    client_id: String,
    at_server: AtServer,
    is_clean: bool,
    /// A clean start was asked for, and it is not known whether the server has heard of it.
    owes_clean_start: bool,
    is_open: bool,
    /// CONNECT is to be sent or was sent on this connection.
    is_begun: bool,
    /// DISCONNECT was said: nothing may follow it, no answer either.
    is_leaving: bool,
    receiving: Receiving,
    sending: Sending,
    requests: BTreeMap<u16, Request>,
    output: Vec<u8>,
}

impl Kept {
    /// A client that was never there. At most `receive_maximum` messages may be sent to it before it
    /// answers (MQTT 5; 3.1.1 has no words for it); it publishes with at most `window` on their way.
    #[must_use]
    pub fn new(version: Version, client_id: &str, receive_maximum: u16, window: u16) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            at_server: AtServer::Absent,
            is_clean: false,
            owes_clean_start: false,
            is_open: false,
            is_begun: false,
            is_leaving: false,
            receiving: Receiving::new((version == Version::V5).then_some(receive_maximum)),
            sending: Sending::new(window),
            requests: BTreeMap::new(),
            output: Vec::new(),
        }
    }

    /// Messages of topics that begin so come by shared subscriptions: those of QoS 1 that it has not
    /// answered when its connection is lost go to others.
    pub fn shares(&mut self, topics_begin: &'static str) {
        self.receiving.shared_topics = Some(topics_begin);
    }

    /// Its protocol version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its client identifier.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the server has let it in, and it has not said good-bye.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open && !self.is_leaving
    }

    /// What is to be sent; whoever sends it takes it out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether it answers messages at once; otherwise [`Kept::answer`] does it.
    pub fn answer_at_once(&mut self, at_once: bool) {
        self.receiving.at_once = at_once;
        if at_once {
            self.answer(usize::MAX);
        }
    }

    /// Answers so many messages, the oldest first; how many are still unanswered.
    pub fn answer(&mut self, count: usize) -> usize {
        let count = if self.is_leaving { 0 } else { count };
        self.receiving.answer(count, &mut self.output)
    }

    /// Whether a clean start was asked for and not answered: it must be asked for again, since nobody
    /// can say whether what the server has is the session of before.
    #[must_use]
    pub fn owes_clean_start(&self) -> bool {
        self.owes_clean_start
    }

    /// Begins a connection.
    pub fn connect(&mut self, clean_start: bool) {
        let mut connect = Connect {
            goes_on: !clean_start,
            ..Connect::new(self.version, &self.client_id)
        };
        // In 3.1.1 a session with a clean start ends with its connection, and cannot be kept.
        if self.version == Version::V5 {
            let properties = connect.properties.number(SESSION_EXPIRY_INTERVAL, FOR_EVER);
            connect.properties = match self.receiving.maximum {
                Some(maximum) => properties.number(RECEIVE_MAXIMUM, maximum.into()),
                None => properties,
            };
        }
        self.is_clean = clean_start;
        self.owes_clean_start = clean_start;
        self.is_leaving = false;
        self.is_begun = true;
        self.output = connect.encode();
    }

    /// Says good-bye. What comes after it is left to the next connection.
    pub fn disconnect(&mut self) {
        self.is_leaving = true;
        self.output.extend(DISCONNECT);
    }

    /// The connection is lost.
    pub fn lost(&mut self, loss: Loss) {
        let was_begun = self.is_begun;
        self.receiving.lost(loss, self.is_open);
        // Whether a clean start was worked off is not known then.
        let may_be_gone = self.is_clean && !self.is_open && self.is_begun;
        self.is_open = false;
        self.is_begun = false;
        self.output.clear();
        self.requests.clear();
        self.at_server = match (self.at_server, loss) {
            (AtServer::New, Loss::OfServer) => AtServer::Unsure,
            (AtServer::Absent, _) if was_begun => AtServer::Unsure,
            _ if may_be_gone => AtServer::Unsure,
            (known, _) => known,
        };
    }

    /// Whether one more message may be on its way.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.is_open() && self.sending.has_room()
    }

    /// Messages that are on their way: published and not acknowledged to the end.
    pub fn on_their_way(&self) -> impl Iterator<Item = u64> {
        self.sending.tags()
    }

    /// Those of them that the server has taken and whose identifiers are still in use: of QoS 2, after
    /// PUBREC.
    pub fn taken(&self) -> impl Iterator<Item = u64> {
        self.sending.taken()
    }

    /// Uses the lowest packet identifier that is free, not the next one: a server that has not
    /// forgotten an identifier in time takes a new message for an old one.
    pub fn use_low_ids(&mut self) {
        self.sending.uses_low_ids = true;
    }

    /// Publishes a message with QoS 0, 1 or 2. It is named `tag` when it is acknowledged.
    ///
    /// # Errors
    /// Without [room](Kept::has_room), but for QoS 0.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, tag: u64) -> Result<()> {
        let publish = Publish::new(topic, payload);
        if qos == 0 {
            self.output.extend(publish.encode(self.version));
            return Ok(());
        }
        ensure!(self.has_room(), "too many messages on their way");
        let publish = Publish {
            exactly_once: qos == 2,
            ..publish
        };
        let publish = self.sending.publish(publish, tag)?;
        self.output.extend(publish.encode(self.version));
        Ok(())
    }

    /// Subscribes to a filter.
    ///
    /// # Errors
    /// When all packet identifiers are in use.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Result<()> {
        let packet_id = self.request(Request::Subscribe(filter.to_owned()))?;
        let subscribe = Subscribe {
            packet_id,
            options: qos,
            ..Subscribe::new(filter)
        };
        self.output.extend(subscribe.encode(self.version));
        Ok(())
    }

    /// Takes a subscription back.
    ///
    /// # Errors
    /// When all packet identifiers are in use.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<()> {
        let packet_id = self.request(Request::Unsubscribe(filter.to_owned()))?;
        let bytes = packet::unsubscribe(packet_id, filter, self.version);
        self.output.extend(bytes);
        Ok(())
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self) {
        self.output.extend(PINGREQ);
    }

    fn request(&mut self, request: Request) -> Result<u16> {
        let requests = &self.requests;
        let packet_id = self.sending.free_id(|id| requests.contains_key(&id))?;
        self.requests.insert(packet_id, request);
        Ok(packet_id)
    }

    /// What is not done with although everything was said: none if the server did what it must.
    ///
    /// # Errors
    /// What the server owes.
    pub fn check_finished(&self) -> Result<()> {
        self.receiving.check_finished()?;
        ensure!(self.sending.has_none(), "messages were not acknowledged");
        Ok(())
    }

    /// A packet came.
    ///
    /// # Errors
    /// What the server did wrong.
    pub fn handle(&mut self, packet: Packet) -> Result<Option<Event>> {
        if self.is_leaving {
            return Ok(None);
        }
        let handled = self.handle_packet(packet);
        handled.with_context(|| format!("client {}", self.client_id))
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<Option<Event>> {
        if let Packet::Connack {
            code,
            session_present,
            ..
        } = packet
        {
            return self.handle_connack(code, session_present).map(Some);
        }
        ensure!(self.is_open, "{packet:?} before CONNACK");
        Ok(match packet {
            Packet::Publish(publish) => self.receiving.publish(publish, &mut self.output)?,
            Packet::Pubrel { packet_id, code } => {
                ensure!(code == 0, "PUBREL {packet_id} with code {code:#04x}");
                self.receiving.pubrel(packet_id, &mut self.output)?;
                None
            }
            Packet::Puback { packet_id, code } => {
                let tag = self.sending.puback(packet_id, code)?;
                self.acknowledged();
                Some(Event::Published { tag })
            }
            Packet::Pubrec { packet_id, code } => {
                self.sending.pubrec(packet_id, code)?;
                self.output.extend(packet::pubrel(packet_id));
                None
            }
            Packet::Pubcomp { packet_id, code } => {
                let tag = self.sending.pubcomp(packet_id, code)?;
                self.acknowledged();
                Some(Event::Published { tag })
            }
            Packet::Suback { packet_id, codes } => match self.requests.remove(&packet_id) {
                Some(Request::Subscribe(filter)) => {
                    self.acknowledged();
                    let code = codes.first().copied().context("empty SUBACK")?;
                    Some(Event::Subscribed { filter, code })
                }
                other => bail!("SUBACK {packet_id} for {other:?}"),
            },
            Packet::Unsuback { packet_id } => match self.requests.remove(&packet_id) {
                Some(Request::Unsubscribe(filter)) => Some(Event::Unsubscribed { filter }),
                other => bail!("UNSUBACK {packet_id} for {other:?}"),
            },
            Packet::Pingresp => Some(Event::Pong),
            // The end of the connection follows, and is told then.
            Packet::Disconnect {
                code: SERVER_SHUTTING_DOWN,
            } if self.version == Version::V5 => None,
            other => bail!("{other:?} from the server"),
        })
    }

    fn acknowledged(&mut self) {
        self.at_server = AtServer::Present;
    }

    fn handle_connack(&mut self, code: u8, session_present: bool) -> Result<Event> {
        ensure!(!self.is_open, "a second CONNACK");
        ensure!(code == 0, "refused with code {code:#04x}");
        let expected = match (self.is_clean, self.at_server) {
            (true, _) | (false, AtServer::Absent) => Some(false),
            (false, AtServer::New | AtServer::Present) => Some(true),
            (false, AtServer::Unsure) => None,
        };
        ensure!(
            expected.is_none_or(|expected| expected == session_present),
            "Session Present is {session_present}, and its session was {:?}, clean start: {}",
            self.at_server,
            self.is_clean
        );
        self.is_open = true;
        self.owes_clean_start = false;
        if session_present {
            self.sending.send_again(self.version, &mut self.output);
        } else {
            self.at_server = AtServer::New;
            self.receiving.forget();
            self.sending.send_anew(self.version, &mut self.output)?;
        }
        self.receiving.begin(session_present);
        Ok(Event::Connected { session_present })
    }
}
