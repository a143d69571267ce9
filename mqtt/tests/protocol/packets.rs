//! Raw packets, one row each: the bytes, the section that speaks of them, and what the server says.
//!
//! The bytes are written here by hand and never by the crate's encoder, and what the server sends back
//! is read byte by byte, not by its decoder. For MQTT 5 a row has the very reason code; for the older
//! versions, which have no DISCONNECT from a server, the end of the connection.
//!
//! Every packet that is taken is also sent cut off at each of its bytes: then the server waits, and
//! says nothing.

#[cfg(test)]
mod acknowledgements;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod disconnect;
#[cfg(test)]
mod fixed_header;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod of_servers;
#[cfg(test)]
mod order;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod property_values;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod subscribe;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use mqtt::server::{Accept, Connection, Event, Options};
use mqtt::{ProtocolVersion, QoS};

use crate::client::start_of_time;
use crate::raw::*;

/// A protocol level that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// MQTT 3.1, `MQIsdp` 3.
    L3,
    /// MQTT 3.1.1, `MQTT` 4.
    L4,
    /// MQTT 5, `MQTT` 5.
    L5,
}

use Level::{L3, L4, L5};

pub(crate) const LEVELS: [Level; 3] = [L3, L4, L5];

impl Level {
    pub(crate) const fn version(self) -> ProtocolVersion {
        match self {
            L3 | L4 => V311,
            L5 => V5,
        }
    }

    /// The empty property section where there is one.
    pub(crate) fn none(self) -> &'static [u8] {
        no_properties(self.version())
    }

    /// Protocol name and level.
    pub(crate) fn name(self) -> &'static [u8] {
        match self {
            L3 => b"\0\x06MQIsdp\x03",
            L4 => b"\0\x04MQTT\x04",
            L5 => b"\0\x04MQTT\x05",
        }
    }

    /// A CONNECT with these flags, a keep alive of a minute, no properties and this payload.
    pub(crate) fn connect(self, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
        let payload = payload.concat();
        packet(0x10, &[self.name(), &[flags, 0, 60], self.none(), &payload])
    }

    /// What becomes of a connection with a packet that breaks a rule.
    pub(crate) fn says(self, code: u8) -> Answer {
        match self {
            L3 | L4 => Closes,
            L5 => Says(code),
        }
    }
}

/// What the server makes of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is a good-bye: the connection ends, and nothing is to be said.
    GoodBye,
    /// The connection ends without a word.
    Closes,
    /// The connection ends with this code in a CONNACK, where CONNECT was not accepted yet, or else in
    /// a DISCONNECT, and with nothing else.
    Says(u8),
    /// All of it was taken, and the connection goes on.
    Taken,
    /// It is not a whole packet yet.
    Waits,
}

use Answer::{Closes, GoodBye, Says, Taken, Waits};

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GoodBye => f.write_str("a good-bye"),
            Closes => f.write_str("closes in silence"),
            Says(code) => write!(f, "says 0x{code:02x}"),
            Taken => f.write_str("taken"),
            Waits => f.write_str("waits"),
        }
    }
}

/// Longer packets are not sent cut off at each byte; their beginnings would be too many.
const CUT_BYTES_MAX: usize = 500;

/// When a row's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// As the first ones of a connection.
    First,
    /// After CONNACK.
    Connected,
}

/// See the module's documentation.
pub(crate) struct Row {
    section: &'static str,
    what: String,
    level: Level,
    at: At,
    bytes: Vec<u8>,
    answer: Answer,
    /// Whether it is sent cut off at each byte, too.
    is_cut: bool,
}

/// A row of a connection that is past CONNACK.
pub(crate) fn row(
    section: &'static str,
    what: impl Into<String>,
    level: Level,
    bytes: impl Into<Vec<u8>>,
    answer: Answer,
) -> Row {
    Row {
        section,
        what: what.into(),
        level,
        at: At::Connected,
        bytes: bytes.into(),
        answer,
        is_cut: true,
    }
}

/// A row of the first bytes of a connection.
pub(crate) fn first(
    section: &'static str,
    what: impl Into<String>,
    level: Level,
    bytes: impl Into<Vec<u8>>,
    answer: Answer,
) -> Row {
    Row {
        at: At::First,
        ..row(section, what, level, bytes, answer)
    }
}

/// Compares every row with what the server does, and names all that differ.
#[track_caller]
pub(crate) fn check(rows: impl IntoIterator<Item = Row>) {
    let mut count = 0;
    let mut wrong = Vec::new();
    for row in rows {
        count += 1;
        wrong.extend(row.compare());
    }
    assert!(count > 0, "no rows at all");
    assert!(
        wrong.is_empty(),
        "{} of {count} rows differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

impl Row {
    /// The same, for bytes that are more than one packet, and are not sent cut off at each byte.
    pub(crate) fn not_cut(self) -> Self {
        Self {
            is_cut: false,
            ..self
        }
    }

    /// How the server differs from the row.
    fn compare(&self) -> Option<String> {
        let answer = answer(self.level, self.at, &self.bytes);
        let expected = self.answer;
        let name = format!("{} {:?}: {}", self.section, self.level, self.what);
        if answer != expected {
            return Some(format!("{name}: {answer:?}, expected {expected:?}"));
        }
        let is_cut = self.is_cut && self.bytes.len() <= CUT_BYTES_MAX;
        let is_cut = is_cut && matches!(expected, Taken | GoodBye);
        let cut = (0..self.bytes.len()).find(|len| {
            is_cut && answer_to_part(self.level, self.at, &self.bytes[..*len]) != Waits
        })?;
        Some(format!("{name}: does not wait after {cut} bytes"))
    }
}

/// What the server makes of the bytes.
fn answer(level: Level, at: At, bytes: &[u8]) -> Answer {
    let mut server = match at {
        At::First => Server::new(),
        At::Connected => Server::connected(level),
    };
    server.take(bytes);
    let sent = server.sent();
    match (server.connection.is_closed(), server.said_good_bye) {
        (true, true) if sent.is_empty() => GoodBye,
        (true, _) if sent.is_empty() => Closes,
        (true, _) => Says(last_word(level, at, &sent)),
        (false, _) if server.input.is_empty() => Taken,
        (false, _) => {
            assert_eq!(sent, [], "an answer to half a packet");
            Waits
        }
    }
}

/// The same for what is less than a packet, which may be nothing at all.
fn answer_to_part(level: Level, at: At, part: &[u8]) -> Answer {
    match part {
        [] => Waits,
        part => answer(level, at, part),
    }
}

/// The code of the CONNACK or DISCONNECT that the server has sent, and nothing else.
fn last_word(level: Level, at: At, sent: &[u8]) -> u8 {
    match (level, at, sent) {
        (L3 | L4, At::First, [0x20, 2, 0, code]) => *code,
        (L5, At::First, [0x20, length, 0, code, ..])
        | (L5, At::Connected, [0xe0, length, code, ..])
            if usize::from(*length) == sent.len() - 2 =>
        {
            *code
        }
        _ => panic!("{level:?} {at:?}: {sent:02x?} is no last word"),
    }
}

/// The server's side of a connection, with nothing around it that reads or writes packets.
pub(crate) struct Server {
    connection: Connection,
    now: Instant,
    input: BytesMut,
    said_good_bye: bool,
}

impl Server {
    /// A connection that awaits CONNECT.
    pub(crate) fn new() -> Self {
        let now = start_of_time();
        let options = Options {
            maximum_qos: QoS::ExactlyOnce,
            topic_alias_maximum: 10,
            ..Options::default()
        };
        Self {
            connection: Connection::new(Arc::new(options), now),
            now,
            input: BytesMut::new(),
            said_good_bye: false,
        }
    }

    /// A connection that is past CONNACK. Its session ends with it.
    pub(crate) fn connected(level: Level) -> Self {
        let mut server = Self::new();
        server.take(&level.connect(0b10, &[b"\0\x01c"]));
        server
            .connection
            .accept(server.now, Accept::default())
            .unwrap();
        let connack = server.sent();
        assert_eq!(connack[0], 0x20);
        assert_eq!(connack[3], 0, "{level:?} was refused");
        server
    }

    /// Takes bytes from the client as a driver does.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            self.connection.handle_bytes(self.now, &mut self.input);
            let before = events.len();
            events.extend(std::iter::from_fn(|| self.connection.poll_event()));
            if events.len() == before {
                break;
            }
        }
        self.said_good_bye |= events.iter().any(is_good_bye);
        events
    }

    /// All that the server has sent since the last call.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        let chunks = std::iter::from_fn(|| self.connection.poll_transmit());
        chunks.flatten().collect()
    }
}

fn is_good_bye(event: &Event) -> bool {
    use mqtt::server::DisconnectCause::Client;
    matches!(
        event,
        Event::Disconnected {
            cause: Client(_),
            ..
        }
    )
}
