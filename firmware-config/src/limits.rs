//! `[limits]`: what one client, and all of them together, may take.
//!
//! Invariants: the largest packet fits a mailbox, all mailboxes together, the commit queue and half a segment.

use std::time::Duration;

use crate::board::{BoardDefaults, GENERIC};
use crate::found::Found;
use crate::problem::Located;
use crate::schema::{BytesKey, CountKey, Describe, DurationKey, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::{ByteCount, Refusal, format_duration, parse_duration};

/// What one client, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Largest MQTT packet that is taken from a client; MQTT 5's Maximum Packet Size.
    pub packet_bytes_max: ByteCount,
    /// QoS 1 and 2 publishes that a client may have unacknowledged; MQTT 5's Receive Maximum,
    /// and the same bound for MQTT 3.1.1 by not reading on.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that are sent to one client before it acknowledges one. A client's
    /// own Receive Maximum counts when it is smaller.
    pub inflight_max: u16,
    /// Bytes that wait for one slow subscriber.
    pub mailbox_bytes_max: ByteCount,
    /// Bytes that wait for all subscribers together.
    pub all_mailboxes_bytes_max: ByteCount,
    /// Bytes of messages on their way to flash, all clients together.
    pub commit_queue_bytes_max: ByteCount,
    /// Payload bytes of all retained messages.
    pub retained_bytes_max: ByteCount,
    /// Number of retained messages.
    pub retained_count_max: u32,
    /// Subscriptions that one client may have.
    pub subscriptions_per_client_max: u32,
    /// Levels that a topic name or filter may have.
    pub topic_levels_max: u16,
    /// Topic aliases that the broker sets for one client of MQTT 5 at most, 0 for none.
    pub topic_alias_sent_max: u16,
    /// Connections that one listener accepts in a second; further ones wait their turn.
    pub accept_rate_max: u32,
    /// Time from the connection to its CONNECT packet.
    pub connect_timeout: Duration,
    /// Longest keep alive, in whole seconds; MQTT 5's Server Keep Alive. Without it a client
    /// chooses as it likes.
    pub keep_alive_max: Option<Duration>,
    /// How long a session lives on without its client at most, in whole seconds; `None` for no limit.
    pub session_expiry_max: Option<Duration>,
    /// Sessions that are kept, with those whose clients are connected.
    pub sessions_max: u32,
}

impl LimitsConfig {
    /// What holds on a board without a word in the file.
    pub(crate) fn of(board: &BoardDefaults) -> Self {
        Self {
            packet_bytes_max: PACKET_BYTES_MAX.default,
            receive_maximum: RECEIVE_MAXIMUM.default,
            inflight_max: INFLIGHT_MAX.default,
            mailbox_bytes_max: board.mailbox_bytes_max,
            all_mailboxes_bytes_max: board.all_mailboxes_bytes_max,
            commit_queue_bytes_max: board.commit_queue_bytes_max,
            retained_bytes_max: board.retained_bytes_max,
            retained_count_max: board.retained_count_max,
            subscriptions_per_client_max: SUBSCRIPTIONS_PER_CLIENT_MAX.default,
            topic_levels_max: TOPIC_LEVELS_MAX.default,
            topic_alias_sent_max: TOPIC_ALIAS_SENT_MAX.default,
            accept_rate_max: board.accept_rate_max,
            connect_timeout: CONNECT_TIMEOUT.default,
            keep_alive_max: None,
            session_expiry_max: Some(SESSION_EXPIRY_DEFAULT),
            sessions_max: board.sessions_max,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self::of(&GENERIC)
    }
}

// The upper bound is half of the default segment: a message and what belongs to it must find
// room in a segment that is not empty.
static PACKET_BYTES_MAX: BytesKey = BytesKey {
    name: "packet_bytes_max",
    min: ByteCount::kib(1),
    max: ByteCount::mib(8),
    default: ByteCount::kib(256),
};
// MQTT 5.0 section 3.2.2.3.3: two bytes, not 0.
static RECEIVE_MAXIMUM: CountKey<u16> = CountKey {
    name: "receive_maximum",
    min: 1,
    max: u16::MAX,
    default: 64,
};
static INFLIGHT_MAX: CountKey<u16> = CountKey {
    name: "inflight_max",
    min: 1,
    max: u16::MAX,
    default: 64,
};
static MAILBOX_BYTES_MAX: BytesKey = BytesKey {
    name: "mailbox_bytes_max",
    min: ByteCount::kib(4),
    max: ByteCount::mib(64),
    default: GENERIC.mailbox_bytes_max,
};
static ALL_MAILBOXES_BYTES_MAX: BytesKey = BytesKey {
    name: "all_mailboxes_bytes_max",
    min: ByteCount::kib(64),
    max: ByteCount::gib(4),
    default: GENERIC.all_mailboxes_bytes_max,
};
static COMMIT_QUEUE_BYTES_MAX: BytesKey = BytesKey {
    name: "commit_queue_bytes_max",
    min: ByteCount::kib(64),
    max: ByteCount::mib(256),
    default: GENERIC.commit_queue_bytes_max,
};
static RETAINED_BYTES_MAX: BytesKey = BytesKey {
    name: "retained_bytes_max",
    min: ByteCount::kib(1),
    max: ByteCount::gib(1),
    default: GENERIC.retained_bytes_max,
};
static RETAINED_COUNT_MAX: CountKey<u32> = CountKey {
    name: "retained_count_max",
    min: 1,
    max: 1_000_000,
    default: GENERIC.retained_count_max,
};
static SUBSCRIPTIONS_PER_CLIENT_MAX: CountKey<u32> = CountKey {
    name: "subscriptions_per_client_max",
    min: 1,
    max: 100_000,
    default: 1_000,
};
static TOPIC_LEVELS_MAX: CountKey<u16> = CountKey {
    name: "topic_levels_max",
    min: 1,
    max: 128,
    default: 32,
};
// They are searched one by one for each message.
static TOPIC_ALIAS_SENT_MAX: CountKey<u16> = CountKey {
    name: "topic_alias_sent_max",
    min: 0,
    max: 256,
    default: 16,
};
// A thousand clients that come back after a power cut are in within two seconds, and whoever is
// connected goes on being served meanwhile.
static ACCEPT_RATE_MAX: CountKey<u32> = CountKey {
    name: "accept_rate_max",
    min: 1,
    max: 100_000,
    default: GENERIC.accept_rate_max,
};
static CONNECT_TIMEOUT: DurationKey = DurationKey {
    name: "connect_timeout",
    min: Duration::from_millis(100),
    max: Duration::from_secs(300),
    default: Duration::from_secs(10),
};
static KEEP_ALIVE_MAX: TextKey = TextKey {
    name: "keep_alive_max",
    allowed: r#"whole seconds from "1s" to "65535s", or "0s" for no limit"#,
    default: r#""0s""#,
};

// MQTT 5.0 section 3.1.2.11.2: four bytes of seconds, of which the last stands for no limit.
static SESSION_EXPIRY_MAX: TextKey = TextKey {
    name: "session_expiry_max",
    allowed: r#"whole seconds from "1s" to "3650d", or "0s" for no limit"#,
    default: r#""7d""#,
};
const SESSION_EXPIRY_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
const SESSION_EXPIRY_LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
static SESSIONS_MAX: CountKey<u32> = CountKey {
    name: "sessions_max",
    min: 1,
    max: 1_000_000,
    default: GENERIC.sessions_max,
};

pub(crate) static LIMITS: TableKey = TableKey {
    name: "limits",
    shape: Shape::One,
    schema: &Schema {
        keys: &[
            &PACKET_BYTES_MAX,
            &RECEIVE_MAXIMUM,
            &INFLIGHT_MAX,
            &MAILBOX_BYTES_MAX,
            &ALL_MAILBOXES_BYTES_MAX,
            &COMMIT_QUEUE_BYTES_MAX,
            &RETAINED_BYTES_MAX,
            &RETAINED_COUNT_MAX,
            &SUBSCRIPTIONS_PER_CLIENT_MAX,
            &TOPIC_LEVELS_MAX,
            &TOPIC_ALIAS_SENT_MAX,
            &ACCEPT_RATE_MAX,
            &CONNECT_TIMEOUT,
            &KEEP_ALIVE_MAX,
            &SESSION_EXPIRY_MAX,
            &SESSIONS_MAX,
        ],
        tables: &[],
        later: &[],
    },
};

/// Reads a server keep alive: MQTT 5.0 section 3.2.2.3.14 gives it two bytes of seconds.
fn parse_keep_alive(text: &str) -> Result<Option<Duration>, Refusal> {
    let duration = parse_duration(text)?;
    let fits = duration.as_secs() <= u64::from(u16::MAX) && duration.subsec_nanos() == 0;
    match duration {
        Duration::ZERO => Ok(None),
        _ if fits => Ok(Some(duration)),
        _ => Err(Refusal::new("does not fit MQTT's two bytes of seconds")),
    }
}

/// Reads how long sessions are kept.
fn parse_session_expiry(text: &str) -> Result<Option<Duration>, Refusal> {
    let duration = parse_duration(text)?;
    match duration {
        Duration::ZERO => Ok(None),
        _ if duration.subsec_nanos() > 0 => Err(Refusal::new("is not in whole seconds")),
        _ if duration > SESSION_EXPIRY_LONGEST => Err(Refusal::new("is more than ten years")),
        _ => Ok(Some(duration)),
    }
}

/// Prints a server keep alive as [`parse_keep_alive`] reads it.
pub(crate) fn format_keep_alive(keep_alive: Option<Duration>) -> String {
    format_duration(keep_alive.unwrap_or_default())
}

/// What the file says of the largest packet, if anything that can be used: the defaults of a board
/// give way to it.
pub(crate) fn written_packet_bytes_max(file: &Section<'_>) -> Option<ByteCount> {
    file.peek_bytes(&LIMITS, &PACKET_BYTES_MAX)
}

/// Reads `[limits]`. `segment_bytes` is what the largest packet must fit into twice, if known.
pub(crate) fn read_limits(
    file: &Section<'_>,
    segment_bytes: Option<ByteCount>,
    board: &BoardDefaults,
) -> Option<LimitsConfig> {
    let section = match file.table(&LIMITS) {
        // The smallest segment is twice the default packet; nothing to compare.
        Found::Absent => return Some(LimitsConfig::of(board)),
        Found::Refused => return None,
        Found::Value(section) => section,
    };
    let packet_bytes_max = section.bytes(&PACKET_BYTES_MAX);
    let receive_maximum = section.count(&RECEIVE_MAXIMUM);
    let inflight_max = section.count(&INFLIGHT_MAX);
    let mailbox_bytes_max = section.bytes_or(&MAILBOX_BYTES_MAX, board.mailbox_bytes_max);
    let all_mailboxes_bytes_max =
        section.bytes_or(&ALL_MAILBOXES_BYTES_MAX, board.all_mailboxes_bytes_max);
    let commit_queue_bytes_max =
        section.bytes_or(&COMMIT_QUEUE_BYTES_MAX, board.commit_queue_bytes_max);
    let retained_bytes_max = section.bytes_or(&RETAINED_BYTES_MAX, board.retained_bytes_max);
    let retained_count_max = section.count_or(&RETAINED_COUNT_MAX, board.retained_count_max);
    let subscriptions_per_client_max = section.count(&SUBSCRIPTIONS_PER_CLIENT_MAX);
    let topic_levels_max = section.count(&TOPIC_LEVELS_MAX);
    let topic_alias_sent_max = section.count(&TOPIC_ALIAS_SENT_MAX);
    let accept_rate_max = section.count_or(&ACCEPT_RATE_MAX, board.accept_rate_max);
    let connect_timeout = section.duration(&CONNECT_TIMEOUT);
    let keep_alive_max = section.text(&KEEP_ALIVE_MAX, parse_keep_alive);
    let session_expiry_max = section.text(&SESSION_EXPIRY_MAX, parse_session_expiry);
    let sessions_max = section.count_or(&SESSIONS_MAX, board.sessions_max);
    let packet_bytes_max = packet_bytes_max?;
    for (key, room) in [
        (&MAILBOX_BYTES_MAX, mailbox_bytes_max),
        (&ALL_MAILBOXES_BYTES_MAX, all_mailboxes_bytes_max),
        (&COMMIT_QUEUE_BYTES_MAX, commit_queue_bytes_max),
    ] {
        check_room(&section, packet_bytes_max, key, room);
    }
    if let Some(segment_bytes) = segment_bytes {
        check_segment(&section, packet_bytes_max, segment_bytes);
    }
    Some(LimitsConfig {
        packet_bytes_max,
        receive_maximum: receive_maximum?,
        inflight_max: inflight_max?,
        mailbox_bytes_max: mailbox_bytes_max?,
        all_mailboxes_bytes_max: all_mailboxes_bytes_max?,
        commit_queue_bytes_max: commit_queue_bytes_max?,
        retained_bytes_max: retained_bytes_max?,
        retained_count_max: retained_count_max?,
        subscriptions_per_client_max: subscriptions_per_client_max?,
        topic_levels_max: topic_levels_max?,
        topic_alias_sent_max: topic_alias_sent_max?,
        accept_rate_max: accept_rate_max?,
        connect_timeout: connect_timeout?,
        keep_alive_max: keep_alive_max.or(|| Located::nowhere(None))?.value,
        session_expiry_max: session_expiry_max
            .or(|| Located::nowhere(Some(SESSION_EXPIRY_DEFAULT)))?
            .value,
        sessions_max: sessions_max?,
    })
}

/// A queue that holds less than one packet would never let it through.
fn check_room(
    section: &Section<'_>,
    packet_bytes_max: ByteCount,
    key: &BytesKey,
    room: Option<ByteCount>,
) {
    let Some(room) = room.filter(|room| *room < packet_bytes_max) else {
        return;
    };
    let packet = PACKET_BYTES_MAX.name;
    if section.has(key.name) {
        let message = format!(
            "found \"{room}\"; allowed: at least `{packet}`, which is \"{packet_bytes_max}\""
        );
        section.conflict(key.name, message);
    } else {
        let message = format!(
            "found \"{packet_bytes_max}\"; allowed: at most `{}`, which is \"{room}\" by default",
            key.name()
        );
        section.conflict(PACKET_BYTES_MAX.name, message);
    }
}

fn check_segment(section: &Section<'_>, packet_bytes_max: ByteCount, segment_bytes: ByteCount) {
    let half = ByteCount::new(segment_bytes.get() / 2);
    if packet_bytes_max > half {
        let message = format!(
            "found \"{packet_bytes_max}\"; allowed: at most \"{half}\", half of \
             `storage.segment_bytes`, which is \"{segment_bytes}\""
        );
        section.conflict(PACKET_BYTES_MAX.name, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_refused_when_mqtt_cannot_carry_it() {
        assert_eq!(parse_keep_alive("0s"), Ok(None));
        assert_eq!(parse_keep_alive("90s"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(
            parse_keep_alive("65535s"),
            Ok(Some(Duration::from_secs(65_535)))
        );
        let refusal = Err(Refusal::new("does not fit MQTT's two bytes of seconds"));
        assert_eq!(parse_keep_alive("65536s"), refusal);
        assert_eq!(parse_keep_alive("1500ms"), refusal);
        assert_eq!(parse_keep_alive("1ms"), refusal);
    }

    #[test]
    fn session_expiry_is_whole_seconds_of_ten_years_at_most() {
        assert_eq!(parse_session_expiry("0s"), Ok(None));
        let hour = Duration::from_secs(3_600);
        assert_eq!(parse_session_expiry("1h"), Ok(Some(hour)));
        let refusal = Err(Refusal::new("is not in whole seconds"));
        assert_eq!(parse_session_expiry("1500ms"), refusal);
        assert!(parse_session_expiry("3650d").is_ok());
        let refusal = Err(Refusal::new("is more than ten years"));
        assert_eq!(parse_session_expiry("3651d"), refusal);
    }
}
