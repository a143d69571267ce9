//! `[[log]]`: named sets of partitions, and which messages go there.
//!
//! A message belongs to the first log with a filter that matches. What no log
//! takes goes to the log `default`, unless the owner wants it live only.
//!
//! Invariants: exactly one log is named `default`, and it is stored; names are unique; every
//! other log has a filter; no log keeps less than two segments.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::checks::Checks;
use crate::found::Found;
use crate::problem::Located;
use crate::schema::{BytesKey, CountKey, Describe, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::{ByteCount, Durability, KeyTemplate, LogName, OnFull, Refusal, parse_duration};

/// Most logs in one file. Each has its own retention and its own place in status and metrics.
const LOGS_MAX: usize = 64;
/// Most filters of one log; every publish to a new topic is compared with all of them.
const FILTERS_MAX: usize = 256;
/// Longest linger: what a publisher hardly notices.
const LINGER_MAX: Duration = Duration::from_millis(50);
/// Most partitions of all logs together: a commit may write a batch for each.
const PARTITIONS_IN_ALL_MAX: u32 = 1024;

/// A named set of partitions with its filters, key, retention and durability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Its name, unique among the logs.
    pub name: Located<LogName>,
    /// MQTT topic filters of what goes there; none for a log `default` that only takes what the
    /// others leave.
    pub filters: Vec<Located<String>>,
    /// Number of partitions. Order is kept within a partition.
    pub partitions: u16,
    /// What the partition is chosen by, and the key of the record in Kafka.
    pub key: KeyTemplate,
    /// How much is kept.
    pub retention: Retention,
    /// When a message is on flash, and when its publisher hears of it. With
    /// [`Durability::Memory`] nothing is kept, and partitions, key and retention mean nothing.
    pub durability: Durability,
    /// How long a message waits for others to share its commit; only with [`Durability::Commit`].
    pub linger: Duration,
    /// What gives way when it has its bytes.
    pub on_full: OnFull,
}

impl LogConfig {
    /// A log as it is when nothing but its name and filters is said.
    #[must_use]
    pub fn new(name: LogName, filters: Vec<String>) -> Self {
        Self {
            name: Located::nowhere(name),
            filters: filters.into_iter().map(Located::nowhere).collect(),
            partitions: PARTITIONS.default,
            key: KeyTemplate::client_id(),
            retention: Retention::default(),
            durability: Durability::Commit,
            linger: Duration::ZERO,
            on_full: OnFull::DropOldest,
        }
    }
}

/// How much of a log is kept: the oldest records go when either limit is passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes on flash.
    pub bytes: ByteCount,
    /// Age of the oldest record; without it, age alone removes nothing.
    pub age: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            bytes: RETENTION_BYTES.default,
            age: None,
        }
    }
}

static NAME: TextKey = TextKey {
    name: "name",
    allowed: "1 to 64 of a-z, 0-9, _ and -, unique among the logs",
    default: "required",
};
static FILTERS: TextKey = TextKey {
    name: "filters",
    allowed: "1 to 256 topic filters such as \"sensors/#\", none twice; the log `default` may have \
              none",
    default: "required; none for the log `default`",
};
static PARTITIONS: CountKey<u16> = CountKey {
    name: "partitions",
    min: 1,
    max: 256,
    default: 4,
};
static KEY: TextKey = TextKey {
    name: "key",
    allowed: r#"1 to 256 bytes of text with {client_id}, {topic} or a level such as {topic[1]}"#,
    default: r#""{client_id}""#,
};
static DURABILITY: TextKey = TextKey {
    name: "durability",
    allowed: "\"commit\", \"memory\", or \"interval:\" with a duration from 1ms to 60s such as \
              \"interval:200ms\"",
    default: r#""commit""#,
};
static LINGER: TextKey = TextKey {
    name: "linger",
    allowed: r#"whole milliseconds from "1ms" to "50ms", or "0s" for none"#,
    default: r#""0s""#,
};
static ON_FULL: TextKey = TextKey {
    name: "on_full",
    allowed: r#""drop-oldest" or "reject""#,
    default: r#""drop-oldest""#,
};
static RETENTION_BYTES: BytesKey = BytesKey {
    name: "bytes",
    min: ByteCount::mib(2),
    max: ByteCount::tib(1024),
    default: ByteCount::gib(1),
};
static RETENTION_AGE: TextKey = TextKey {
    name: "age",
    allowed: r#"a duration from "1s" to "3650d""#,
    default: "no limit",
};
static RETENTION: TableKey = TableKey {
    name: "retention",
    shape: Shape::One,
    schema: &Schema {
        keys: &[&RETENTION_BYTES, &RETENTION_AGE],
        tables: &[],
        later: &[],
    },
};

pub(crate) static LOG: TableKey = TableKey {
    name: "log",
    shape: Shape::List,
    schema: &Schema {
        keys: &[
            &NAME,
            &FILTERS,
            &PARTITIONS,
            &KEY,
            &DURABILITY,
            &LINGER,
            &ON_FULL,
        ],
        tables: &[&RETENTION],
        later: &["priority"],
    },
};

/// What came out of the `[[log]]` tables.
pub(crate) struct LogsRead {
    pub(crate) logs: Option<Vec<LogConfig>>,
    /// The logs that routes may name; `None` when there may be others.
    pub(crate) known: Option<Vec<KnownLog>>,
}

/// What routes want to know of a log.
pub(crate) struct KnownLog {
    pub(crate) name: LogName,
    pub(crate) durability: Option<Durability>,
}

/// The log that takes what no other log takes; of everything when there is no other.
fn default_log(filters: Vec<String>) -> (KnownLog, LogConfig) {
    let log = LogConfig::new(LogName::default_log(), filters);
    let name = log.name.value.clone();
    let durability = Some(log.durability);
    (KnownLog { name, durability }, log)
}

/// Reads all `[[log]]` of the file and adds the log `default` where it is not among them.
pub(crate) fn read_logs(
    file: &Section<'_>,
    checks: &Checks,
    segment_bytes: Option<ByteCount>,
) -> LogsRead {
    let mut read = Vec::new();
    match file.tables(&LOG, LOGS_MAX) {
        Found::Absent => {
            let (known, log) = default_log(vec!["#".to_owned()]);
            read.push((Some(known), Some(log)));
        }
        Found::Refused => read.push((None, None)),
        Found::Value(sections) => {
            let mut earlier = Earlier::default();
            for section in &sections {
                read.push(read_log(section, checks, segment_bytes, &mut earlier));
            }
            let is_default = |(known, _): &(Option<KnownLog>, _)| {
                known.as_ref().is_some_and(KnownLog::is_default)
            };
            if !read.iter().any(is_default) {
                let (known, log) = default_log(Vec::new());
                read.push((Some(known), Some(log)));
            }
        }
    }
    let (known, logs): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let known: Option<Vec<KnownLog>> = known.into_iter().collect();
    LogsRead {
        logs: logs.into_iter().collect(),
        // A log may stand where the file could not be read.
        known: known.filter(|_| file.is_complete()),
    }
}

impl KnownLog {
    fn is_default(&self) -> bool {
        self.name.is_default()
    }
}

/// What the logs before claimed.
#[derive(Default)]
struct Earlier {
    names: Vec<(String, Located<LogName>)>,
    partitions: u32,
}

fn read_log(
    section: &Section<'_>,
    checks: &Checks,
    segment_bytes: Option<ByteCount>,
    earlier: &mut Earlier,
) -> (Option<KnownLog>, Option<LogConfig>) {
    let name = section.text(&NAME, str::parse::<LogName>);
    let needs_filters = match &name {
        Found::Absent => true,
        Found::Refused => false, // it may have been meant to be `default`
        Found::Value(name) => !name.is_default(),
    };
    let name = name.required(section, &NAME);
    let filters = read_filters(section, checks, needs_filters);
    let partitions = section.count(&PARTITIONS);
    let key = section.text(&KEY, str::parse::<KeyTemplate>);
    let key = key.or(|| Located::nowhere(KeyTemplate::client_id()));
    let retention = read_retention(section, segment_bytes);
    let durability = section.text(&DURABILITY, str::parse::<Durability>);
    let durability = durability.or(|| Located::nowhere(Durability::Commit));
    let durability = durability.map(|durability| durability.value);
    let linger = section.text(&LINGER, parse_linger);
    let linger = linger.or(|| Located::nowhere(Duration::ZERO));
    let on_full = section.text(&ON_FULL, str::parse::<OnFull>);
    let on_full = on_full.or(|| Located::nowhere(OnFull::DropOldest));
    if let Some(Durability::Interval(_)) = durability {
        check_interval(section);
    }
    if let Some(name) = &name {
        claim_name(section, name, earlier);
    }
    match (durability, partitions) {
        (Some(Durability::Memory), _) => check_memory(section, name.as_deref()),
        (Some(_), Some(partitions)) => claim_partitions(section, partitions, earlier),
        (None, _) | (_, None) => {}
    }
    let known = name.as_ref().map(|name| KnownLog {
        name: name.value.clone(),
        durability,
    });
    let log = || {
        Some(LogConfig {
            name: name?,
            filters: filters?,
            partitions: partitions?,
            key: key?.value,
            retention: retention?,
            durability: durability?,
            linger: linger?.value,
            on_full: on_full?.value,
        })
    };
    (known, log())
}

fn read_filters(
    section: &Section<'_>,
    checks: &Checks,
    needs_filters: bool,
) -> Option<Vec<Located<String>>> {
    let parse = |text: &str| {
        if text.starts_with('$') {
            return Err(Refusal::new("topics that begin with $ are never logged"));
        }
        (checks.topic_filter)(text).map_err(Refusal::new)?;
        Ok(text.to_owned())
    };
    let found = section.texts(&FILTERS, FILTERS_MAX, parse);
    match found {
        Found::Absent if needs_filters => {
            section.missing(&FILTERS);
            None
        }
        Found::Value(filters) if filters.is_empty() && needs_filters => {
            section.conflict(
                FILTERS.name,
                format!("found none; allowed: {}", FILTERS.allowed()),
            );
            None
        }
        found => found.or(Vec::new),
    }
}

fn read_retention(section: &Section<'_>, segment_bytes: Option<ByteCount>) -> Option<Retention> {
    let section = match section.table(&RETENTION) {
        Found::Absent => return Some(Retention::default()),
        Found::Refused => return None,
        Found::Value(section) => section,
    };
    let bytes = section.bytes(&RETENTION_BYTES);
    let age = section
        .text(&RETENTION_AGE, parse_age)
        .or(|| Located::nowhere(None));
    let bytes = bytes?;
    if let Some(segment_bytes) = segment_bytes {
        let least = ByteCount::new(segment_bytes.get().saturating_mul(2));
        if bytes < least {
            let message = format!(
                "found \"{bytes}\"; allowed: at least \"{least}\", two segments of \
                 `storage.segment_bytes`, which is \"{segment_bytes}\""
            );
            section.conflict(RETENTION_BYTES.name, message);
        }
    }
    Some(Retention {
        bytes,
        age: age?.value,
    })
}

fn parse_age(text: &str) -> Result<Option<Duration>, Refusal> {
    const RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400);
    let age = parse_duration(text)?;
    if RANGE.contains(&age) {
        Ok(Some(age))
    } else {
        Err(Refusal::new("is out of range"))
    }
}

fn parse_linger(text: &str) -> Result<Duration, Refusal> {
    let linger = parse_duration(text)?;
    if linger > LINGER_MAX {
        return Err(Refusal::new("is out of range"));
    }
    Ok(linger)
}

fn claim_name(section: &Section<'_>, name: &Located<LogName>, earlier: &mut Earlier) {
    let same = earlier.names.iter().find(|(_, other)| other == name);
    if let Some((path, other)) = same {
        let place = other.place();
        let message = format!(
            "found \"{name}\", which {path} is already ({place}); allowed: {}",
            NAME.allowed()
        );
        section.conflict(NAME.name, message);
    }
    earlier
        .names
        .push((section.path_of(NAME.name), name.clone()));
}

fn claim_partitions(section: &Section<'_>, partitions: u16, earlier: &mut Earlier) {
    let before = earlier.partitions;
    earlier.partitions += u32::from(partitions);
    if before <= PARTITIONS_IN_ALL_MAX && earlier.partitions > PARTITIONS_IN_ALL_MAX {
        let message = format!(
            "found {partitions}, which makes {} with the logs before; allowed: \
             {PARTITIONS_IN_ALL_MAX} in all logs together",
            earlier.partitions
        );
        section.conflict(PARTITIONS.name, message);
    }
}

/// Where nobody waits for the commit, the interval says all about when it comes.
fn check_interval(section: &Section<'_>) {
    if section.has(LINGER.name) {
        let message = "has no meaning in a log with `durability = \"interval:…\"`, whose messages \
                       wait for company up to that interval; allowed: one of the two"
            .to_owned();
        section.conflict(LINGER.name, message);
    }
}

/// A log that keeps nothing cannot be told how to keep it.
fn check_memory(section: &Section<'_>, name: Option<&LogName>) {
    if name.is_some_and(LogName::is_default) {
        let message =
            "found \"memory\" for the log `default`, which keeps what no other log takes; \
                       allowed: \"commit\" or \"interval:…\", or `unmapped = \"live-only\"` at \
                       the top of the file"
                .to_owned();
        section.conflict(DURABILITY.name, message);
    }
    for name in [
        PARTITIONS.name,
        KEY.name,
        LINGER.name,
        ON_FULL.name,
        RETENTION.name,
    ] {
        let message =
            "has no meaning in a log with `durability = \"memory\"`, which keeps nothing; \
                       allowed: one of the two"
                .to_owned();
        if section.has(name) {
            section.conflict(name, message);
        }
    }
}
