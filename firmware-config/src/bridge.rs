//! `[bridge]`: where the logs are replicated to.
//!
//! Invariants: a bridge has a gateway id, a bootstrap server and a route; every route names a log
//! that exists and is stored; names of routes are unique; no log goes to one topic twice.

use std::time::Duration;

use crate::found::Found;
use crate::log::KnownLog;
use crate::problem::Located;
use crate::schema::{BytesKey, ChoiceKey, Describe, DurationKey, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::{
    ByteCount, Durability, GatewayId, HostPort, KafkaClientId, KafkaTopic, LogName, RouteName,
};

/// Most bootstrap servers; one that answers is enough.
const BOOTSTRAP_MAX: usize = 64;
/// Most routes in one file. Each is a stream per partition, with its own state.
const ROUTES_MAX: usize = 64;

/// Where the logs are replicated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The same as [`crate::Config::gateway_id`], which a bridge cannot do without.
    pub gateway_id: GatewayId,
    /// Brokers to ask first for all others; at least one.
    pub bootstrap: Vec<Located<HostPort>>,
    /// The name under which the cluster knows us.
    pub client_id: KafkaClientId,
    /// Time that a request to the cluster may take.
    pub request_timeout: Duration,
    /// Longest pause between attempts to reach the cluster.
    pub backoff_max: Duration,
    /// Longest time that a checkpoint waits for a commit to ride on.
    pub checkpoint_interval: Duration,
    /// Largest record batch that is sent. A record larger than it goes alone.
    pub batch_bytes_max: ByteCount,
    /// What goes where; at least one.
    pub routes: Vec<RouteConfig>,
}

/// One log on its way to one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Its name, unique among the routes: its position is kept under it.
    pub name: Located<RouteName>,
    /// The log that is read.
    pub log: Located<LogName>,
    /// The topic that is written.
    pub topic: Located<KafkaTopic>,
    /// Where a route begins that has no position yet.
    pub start: RouteStart,
}

/// Where a route begins that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteStart {
    /// At the oldest record that is kept.
    Earliest,
    /// At the first record that is appended after the route was made.
    Now,
}

// The cluster decides by `message.max.bytes`, 1 MiB and 12 bytes unless it was changed.
static BATCH_BYTES_MAX: BytesKey = BytesKey {
    name: "batch_bytes_max",
    min: ByteCount::kib(4),
    max: ByteCount::mib(1),
    default: ByteCount::kib(512),
};
static BOOTSTRAP: TextKey = TextKey {
    name: "bootstrap",
    allowed: r#"1 to 64 of "HOST:PORT", IPv6 as "[ADDRESS]:PORT", none twice"#,
    default: "required",
};
static CLIENT_ID: TextKey = TextKey {
    name: "client_id",
    allowed: "1 to 249 of A-Z, a-z, 0-9, ., _ and -",
    default: "the value of `gateway_id`",
};
static REQUEST_TIMEOUT: DurationKey = DurationKey {
    name: "request_timeout",
    min: Duration::from_millis(100),
    max: Duration::from_secs(300),
    default: Duration::from_secs(30),
};
static BACKOFF_MAX: DurationKey = DurationKey {
    name: "backoff_max",
    min: Duration::from_millis(100),
    max: Duration::from_secs(600),
    default: Duration::from_secs(30),
};
static CHECKPOINT_INTERVAL: DurationKey = DurationKey {
    name: "checkpoint_interval",
    min: Duration::from_millis(100),
    max: Duration::from_secs(3600),
    default: Duration::from_secs(60),
};

static ROUTE_NAME: TextKey = TextKey {
    name: "name",
    allowed: "1 to 64 of a-z, 0-9, _ and -, unique among the routes",
    default: "required",
};
static ROUTE_LOG: TextKey = TextKey {
    name: "log",
    allowed: "the name of a log that is stored",
    default: "required",
};
static ROUTE_TOPIC: TextKey = TextKey {
    name: "topic",
    allowed: "1 to 249 of A-Z, a-z, 0-9, ., _ and -, but not . or ..",
    default: "required",
};
static ROUTE_START: ChoiceKey<RouteStart> = ChoiceKey {
    name: "start",
    choices: &[("earliest", RouteStart::Earliest), ("now", RouteStart::Now)],
    later: &[],
};
static ROUTE: TableKey = TableKey {
    name: "route",
    shape: Shape::List,
    schema: &Schema {
        keys: &[&ROUTE_NAME, &ROUTE_LOG, &ROUTE_TOPIC, &ROUTE_START],
        tables: &[],
        later: &[
            "aged",
            "compression",
            "headers",
            "key",
            "timestamp",
            "transactional",
        ],
    },
};

pub(crate) static BRIDGE: TableKey = TableKey {
    name: "bridge",
    shape: Shape::One,
    schema: &Schema {
        keys: &[
            &BOOTSTRAP,
            &CLIENT_ID,
            &REQUEST_TIMEOUT,
            &BACKOFF_MAX,
            &CHECKPOINT_INTERVAL,
            &BATCH_BYTES_MAX,
        ],
        tables: &[&ROUTE],
        later: &[
            "bytes_per_day_max",
            "bytes_per_month_max",
            "bytes_per_second_max",
            "gaps_topic",
            "sasl",
            "tls",
            "windows",
        ],
    },
};

/// What the rest of the file says that a bridge is judged by.
pub(crate) struct Surroundings<'a> {
    /// `None` when there is a gateway id and it was refused.
    pub(crate) gateway_id: Option<Option<GatewayId>>,
    /// The key of the gateway id.
    pub(crate) gateway_id_key: &'a TextKey,
    /// `None` when a name among the logs is not known.
    pub(crate) logs: Option<Vec<KnownLog>>,
}

/// Reads `[bridge]`. `Some(None)` is no bridge.
pub(crate) fn read_bridge(
    file: &Section<'_>,
    surroundings: &Surroundings<'_>,
) -> Option<Option<BridgeConfig>> {
    let section = match file.table(&BRIDGE) {
        Found::Absent => return Some(None),
        Found::Refused => return None,
        Found::Value(section) => section,
    };
    if surroundings.gateway_id == Some(None) {
        let reason = ", and a bridge is configured: every record upstream bears this name";
        file.missing_for(&section, surroundings.gateway_id_key, reason);
    }
    let gateway_id = surroundings.gateway_id.clone().flatten();
    let bootstrap = section.texts(&BOOTSTRAP, BOOTSTRAP_MAX, str::parse::<HostPort>);
    let bootstrap = bootstrap.required(&section, &BOOTSTRAP);
    if bootstrap.as_ref().is_some_and(Vec::is_empty) {
        let message = format!("found none; allowed: {}", BOOTSTRAP.allowed());
        section.conflict(BOOTSTRAP.name, message);
    }
    let client_id = section
        .text(&CLIENT_ID, str::parse::<KafkaClientId>)
        .optional();
    let request_timeout = section.duration(&REQUEST_TIMEOUT);
    let backoff_max = section.duration(&BACKOFF_MAX);
    let checkpoint_interval = section.duration(&CHECKPOINT_INTERVAL);
    let batch_bytes_max = section.bytes(&BATCH_BYTES_MAX);
    let routes = read_routes(&section, surroundings.logs.as_deref());
    let gateway_id = gateway_id?;
    let client_id = client_id?.map(|client_id| client_id.value);
    Some(Some(BridgeConfig {
        client_id: client_id.unwrap_or_else(|| KafkaClientId::from(&gateway_id)),
        gateway_id,
        bootstrap: bootstrap?,
        request_timeout: request_timeout?,
        backoff_max: backoff_max?,
        checkpoint_interval: checkpoint_interval?,
        batch_bytes_max: batch_bytes_max?,
        routes: routes?,
    }))
}

fn read_routes(bridge: &Section<'_>, logs: Option<&[KnownLog]>) -> Option<Vec<RouteConfig>> {
    let sections = match bridge.tables(&ROUTE, ROUTES_MAX) {
        Found::Absent => {
            bridge.missing_table(&ROUTE);
            return None;
        }
        Found::Refused => return None,
        Found::Value(sections) => sections,
    };
    let mut earlier = Vec::new();
    let routes: Vec<_> = sections
        .iter()
        .map(|section| read_route(section, logs, &mut earlier))
        .collect();
    routes.into_iter().collect()
}

/// What the routes before claimed, each with its path.
struct Claimed {
    path: String,
    name: Option<Located<RouteName>>,
    log: Option<Located<LogName>>,
    topic: Option<Located<KafkaTopic>>,
}

fn read_route(
    section: &Section<'_>,
    logs: Option<&[KnownLog]>,
    earlier: &mut Vec<Claimed>,
) -> Option<RouteConfig> {
    let name = section
        .text(&ROUTE_NAME, str::parse::<RouteName>)
        .required(section, &ROUTE_NAME);
    let log = section
        .text(&ROUTE_LOG, str::parse::<LogName>)
        .required(section, &ROUTE_LOG);
    let topic = section.text(&ROUTE_TOPIC, str::parse::<KafkaTopic>);
    let topic = topic.required(section, &ROUTE_TOPIC);
    let start = section.choice(&ROUTE_START);
    if let Some((log, logs)) = log.as_ref().zip(logs) {
        check_log(section, log, logs);
    }
    let path = section.path().to_owned();
    let claimed = Claimed {
        path,
        name: name.clone(),
        log: log.clone(),
        topic: topic.clone(),
    };
    check_unique(section, &claimed, earlier);
    earlier.push(claimed);
    Some(RouteConfig {
        name: name?,
        log: log?,
        topic: topic?,
        start: start?,
    })
}

/// A route reads a log that exists and keeps something.
fn check_log(section: &Section<'_>, name: &LogName, logs: &[KnownLog]) {
    let message = match logs.iter().find(|log| log.name == *name) {
        None => {
            let names: Vec<_> = logs.iter().map(|log| format!("\"{}\"", log.name)).collect();
            format!(
                "found \"{name}\", and no log has that name; allowed: {}",
                names.join(", ")
            )
        }
        Some(KnownLog {
            durability: Some(Durability::Memory),
            ..
        }) => format!(
            "found \"{name}\", a log with `durability = \"memory\"`, which keeps nothing that \
             could be replicated; allowed: {}",
            ROUTE_LOG.allowed()
        ),
        Some(_) => return,
    };
    section.conflict(ROUTE_LOG.name, message);
}

/// Names are unique, and so are pairs of log and topic: two routes would write each record twice.
fn check_unique(section: &Section<'_>, route: &Claimed, earlier: &[Claimed]) {
    let same_name = |other: &&Claimed| route.name.is_some() && other.name == route.name;
    if let Some((other, name)) = earlier.iter().find(same_name).zip(route.name.as_ref()) {
        let place = other.name.as_ref().map(Located::place).unwrap_or_default();
        let message = format!(
            "found \"{name}\", which {}.{} is already ({place}); allowed: {}",
            other.path,
            ROUTE_NAME.name,
            ROUTE_NAME.allowed()
        );
        section.conflict(ROUTE_NAME.name, message);
    }
    let (Some(log), Some(topic)) = (&route.log, &route.topic) else {
        return;
    };
    let same_way =
        |other: &&Claimed| other.log.as_ref() == Some(log) && other.topic.as_ref() == Some(topic);
    if let Some(other) = earlier.iter().find(same_way) {
        let place = other.topic.as_ref().map(Located::place).unwrap_or_default();
        let message = format!(
            "found \"{topic}\", but {} takes log \"{log}\" there already ({place}); allowed: one \
             route for each log and topic",
            other.path
        );
        section.conflict(ROUTE_TOPIC.name, message);
    }
}
