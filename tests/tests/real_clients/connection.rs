//! A connection of a client that does one thing after the other as it is told, and tells what
//! happens: the same for a program that is driven line by line and for a library in this process.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use anyhow::{Result, bail, ensure};
use tests::deadline::PATIENCE;

use crate::message::{Message, Subscription};

/// More events than any test lets wait: a client that tells more is stopped.
pub(crate) const EVENTS_MAX: usize = 10_000;

/// The first reason code that is an error.
const FAILURE: u8 = 0x80;

/// What a client tells.
#[derive(Debug)]
pub(crate) enum Event {
    Connected(Connack),
    Subscribed(Vec<u8>),
    /// Acknowledged, with the reason code; QoS 0: written.
    Published(u8),
    Message(Message),
    /// With the reason code of the broker's DISCONNECT, if there was one.
    Closed(Option<u8>),
    /// The client would not or could not.
    Failed(String),
}

/// What CONNACK said, as far as the client tells it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connack {
    pub(crate) session_present: Option<bool>,
    pub(crate) maximum_packet_size: Option<u32>,
}

/// What became of messages that a client was to publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    All,
    /// The broker ended the connection, perhaps with a reason.
    Closed(Option<u8>),
    /// The client itself would not, and said why.
    Refused(String),
}

impl Published {
    pub(crate) fn ensure_all(self) -> Result<()> {
        ensure!(self == Self::All, "publishing ended with {self:?}");
        Ok(())
    }
}

/// What a client can be told, once it is connected.
pub(crate) trait Commands {
    fn subscribe(&self, subscription: &Subscription) -> Result<()>;
    fn publish(&self, message: &Message) -> Result<()>;
    fn disconnect(&self) -> Result<()>;
    /// Ends the connection without DISCONNECT.
    fn cut(&self) -> Result<()>;
}

/// Who gets messages, whatever program it is.
pub(crate) trait Subscriber {
    fn connack(&self) -> Connack;

    /// One more subscription, which the broker must accept.
    fn subscribe(&mut self, subscription: &Subscription) -> Result<()>;

    fn publish(&mut self, messages: &[Message]) -> Result<Published>;

    /// What has come and was not handed out; does not wait.
    fn arrived(&mut self) -> Result<Vec<Message>>;

    /// The next `count` messages.
    fn take(&mut self, count: usize) -> Result<Vec<Message>>;

    /// Says good-bye. What came and was not handed out is an error.
    fn leave(self: Box<Self>) -> Result<()>;

    /// Is gone without a good-bye.
    fn cut(self: Box<Self>) -> Result<()>;
}

pub(crate) struct Connection {
    commands: Box<dyn Commands>,
    events: Receiver<Event>,
    inbox: VecDeque<Message>,
    connack: Connack,
}

impl Connection {
    /// Waits until it is connected.
    pub(crate) fn open(commands: Box<dyn Commands>, events: Receiver<Event>) -> Result<Self> {
        let mut connection = Self {
            commands,
            events,
            inbox: VecDeque::new(),
            connack: Connack::default(),
        };
        match connection.next("CONNACK")? {
            Event::Connected(connack) => connection.connack = connack,
            other => bail!("{other:?} in the place of CONNACK"),
        }
        Ok(connection)
    }

    /// The next event that is not a message.
    fn next(&mut self, what: &str) -> Result<Event> {
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(Event::Message(message)) => self.inbox.push_back(message),
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("waited {} s in vain for {what}", PATIENCE.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the client ended before {what}"),
            }
        }
    }

    fn wait_closed(&mut self) -> Result<()> {
        match self.next("the end of the connection")? {
            Event::Closed(None) => Ok(()),
            other => bail!("{other:?} in the place of the end of the connection"),
        }
    }
}

impl Subscriber for Connection {
    fn connack(&self) -> Connack {
        self.connack
    }

    fn subscribe(&mut self, subscription: &Subscription) -> Result<()> {
        self.commands.subscribe(subscription)?;
        match self.next("SUBACK")? {
            Event::Subscribed(codes) => {
                ensure!(codes == [subscription.qos], "SUBACK with {codes:?}");
                Ok(())
            }
            other => bail!("{other:?} in the place of SUBACK"),
        }
    }

    fn publish(&mut self, messages: &[Message]) -> Result<Published> {
        for message in messages {
            self.commands.publish(message)?;
        }
        for _ in messages {
            match self.next("an acknowledgement")? {
                Event::Published(code) => ensure!(code < FAILURE, "refused with {code:#x}"),
                Event::Closed(code) => return Ok(Published::Closed(code)),
                Event::Failed(error) => return Ok(Published::Refused(error)),
                other => bail!("{other:?} in the place of an acknowledgement"),
            }
        }
        Ok(Published::All)
    }

    fn arrived(&mut self) -> Result<Vec<Message>> {
        for event in self.events.try_iter() {
            match event {
                Event::Message(message) => self.inbox.push_back(message),
                other => bail!("{other:?} in the place of messages"),
            }
        }
        Ok(self.inbox.drain(..).collect())
    }

    fn take(&mut self, count: usize) -> Result<Vec<Message>> {
        while self.inbox.len() < count {
            let have = self.inbox.len();
            match self.events.recv_timeout(PATIENCE) {
                Ok(Event::Message(message)) => self.inbox.push_back(message),
                other => bail!("{other:?} in the place of message {} of {count}", have + 1),
            }
        }
        Ok(self.inbox.drain(..count).collect())
    }

    fn leave(mut self: Box<Self>) -> Result<()> {
        self.commands.disconnect()?;
        self.wait_closed()?;
        ensure!(self.inbox.is_empty(), "also came: {:?}", self.inbox);
        Ok(())
    }

    fn cut(mut self: Box<Self>) -> Result<()> {
        self.commands.cut()?;
        self.wait_closed()
    }
}
