//! Turns the configuration into the libraries' own options. The one place that knows both.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bridge::BridgeProbe;
use broker::{
    BrokerOptions, KeyPart, KeyTemplate, Limits, ListenerOptions, LogRoute, LogRouting, LogTarget,
    SharePolicies, SharePolicy, StoredLog,
};
use firmware_config as config;
use firmware_config::{Config, Durability, LogConfig};
use mqtt::TopicFilter;
use storage::{LogId, LogOptions, OnFull, Store, StoreOptions};

/// Name of the log that takes what no other does.
const DEFAULT_LOG: &str = "default";

/// What the configuration needs to know of MQTT.
pub(crate) fn checks() -> config::Checks {
    config::Checks {
        topic_filter: |text| {
            text.parse::<TopicFilter>()
                .map(|_| ())
                .map_err(|error| error.to_string())
        },
    }
}

fn bytes(count: config::ByteCount) -> usize {
    usize::try_from(count.get()).unwrap_or(usize::MAX)
}

/// How the store is to work.
pub(crate) fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        segment_bytes: config.storage.segment_bytes.get(),
        free_space_reserve_bytes: config.storage.free_space_reserve.get(),
        flash_budget_bytes_per_day: config.storage.flash_budget.map(config::BytesPerDay::get),
        queue_bytes_max: bytes(config.limits.commit_queue_bytes_max),
        ring_bytes_max: bytes(config.board.board.profile().defaults.ring_bytes),
        ..StoreOptions::default()
    }
}

/// The logs that are kept on flash.
pub(crate) fn log_options(config: &Config) -> Vec<LogOptions> {
    let stored = config.logs.iter().filter_map(|log| {
        let commit_within = match log.durability {
            Durability::Commit => Duration::ZERO,
            Durability::Interval(interval) => interval,
            Durability::Memory => return None,
        };
        Some(LogOptions {
            name: log.name.to_string(),
            partitions: log.partitions,
            retention_bytes: log.retention.bytes.get(),
            retention_age: log.retention.age,
            commit_within,
            linger: log.linger,
            on_full: match log.on_full {
                config::OnFull::DropOldest => OnFull::DropOldest,
                config::OnFull::Reject => OnFull::Reject {
                    pins: routes_of(config, &log.name),
                },
            },
        })
    });
    stored.collect()
}

/// Names of the routes of a log.
fn routes_of(config: &Config, log: &config::LogName) -> Vec<String> {
    let routes = config.bridge.iter().flat_map(|bridge| &bridge.routes);
    let of_log = routes.filter(|route| route.log.value == *log);
    of_log.map(|route| route.name.to_string()).collect()
}

/// How the broker is to work on `store`, which was opened with [`log_options`], or without one.
pub(crate) fn broker_options(
    config: &Config,
    store: Option<&Store>,
) -> anyhow::Result<BrokerOptions> {
    let listeners = config.listeners.iter().map(|listener| ListenerOptions {
        bind: *listener.bind,
        allow_anonymous: listener.allow_anonymous,
        connections_max: usize::try_from(listener.connections_max).unwrap_or(usize::MAX),
    });
    let routes = config
        .logs
        .iter()
        .map(|log| log_route(log, store))
        .collect::<anyhow::Result<_>>()?;
    let default = config
        .logs
        .iter()
        .find(|log| log.name.to_string() == DEFAULT_LOG);
    let default = default.ok_or_else(|| anyhow!("there is no log `{DEFAULT_LOG}`"))?;
    let routing = LogRouting {
        routes,
        default_log: stored_log(default, store)?,
        unmapped: match config.unmapped {
            config::Unmapped::Default => broker::Unmapped::Default,
            config::Unmapped::LiveOnly => broker::Unmapped::LiveOnly,
        },
    };
    let mut options = BrokerOptions::new(listeners.collect(), routing);
    options.limits = limits(config);
    options.sys_interval = config.sys_interval;
    options.share_policies = share_policies(config);
    Ok(options)
}

fn share_policies(config: &Config) -> SharePolicies {
    let policy = |policy| match policy {
        config::SharePolicy::RoundRobin => SharePolicy::RoundRobin,
        config::SharePolicy::LeastInflight => SharePolicy::LeastInflight,
        config::SharePolicy::Sticky => SharePolicy::Sticky,
        config::SharePolicy::HashTopic => SharePolicy::HashTopic,
    };
    let of_group = |share: &config::ShareConfig| (share.group.to_string(), policy(share.policy));
    SharePolicies {
        default: policy(config.share_policy),
        groups: config.shares.iter().map(of_group).collect(),
    }
}

/// What the `$SYS` topics tell of the bridge.
pub(crate) fn bridge_figures(probe: BridgeProbe) -> impl Fn() -> Vec<(String, String)> {
    move || {
        let routes = probe.routes().into_iter();
        let figures = routes.flat_map(|(name, route)| {
            let sum = |number: fn(&bridge::PartitionStatus) -> u64| -> u64 {
                route.partitions.values().map(number).sum()
            };
            let figure = |what: &str, number: u64| {
                let name = format!("bridge/route/{name}/{what}");
                (name, number.to_string())
            };
            [
                figure("lag_records", sum(|partition| partition.lag_records)),
                figure("replicated_records", sum(|partition| partition.replicated)),
                figure("lost_records", sum(|partition| partition.lost)),
            ]
        });
        figures.collect()
    }
}

fn log_route(log: &LogConfig, store: Option<&Store>) -> anyhow::Result<LogRoute> {
    let filters = log.filters.iter().map(|filter| {
        filter
            .parse::<TopicFilter>()
            .with_context(|| format!("filter `{}`", **filter))
    });
    let filters = filters.collect::<anyhow::Result<_>>()?;
    let target = match log.durability {
        Durability::Memory => LogTarget::Memory,
        Durability::Commit | Durability::Interval(_) => LogTarget::Stored(stored_log(log, store)?),
    };
    Ok(LogRoute { filters, target })
}

fn stored_log(log: &LogConfig, store: Option<&Store>) -> anyhow::Result<StoredLog> {
    let name = log.name.to_string();
    let id = match store {
        Some(store) => {
            let log = store.log(&name);
            log.ok_or_else(|| anyhow!("the store has no log `{name}`"))?
                .id
        }
        // Without a store nothing is appended to it.
        None => LogId::default(),
    };
    let durability = match log.durability {
        Durability::Interval(_) => broker::Durability::Interval,
        Durability::Commit | Durability::Memory => broker::Durability::Commit,
    };
    Ok(StoredLog {
        log: id,
        key: key_template(&log.key),
        durability,
    })
}

fn key_template(template: &config::KeyTemplate) -> KeyTemplate {
    let part = |part: &config::KeyPart| match part {
        config::KeyPart::ClientId => KeyPart::ClientId,
        config::KeyPart::Literal(text) => KeyPart::Literal(text.clone()),
        config::KeyPart::Topic => KeyPart::Topic,
        config::KeyPart::TopicLevel(level) => KeyPart::TopicLevel(*level),
    };
    KeyTemplate::new(template.parts().iter().map(part).collect())
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    let not_zero = |number: u16| NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN);
    let keep_alive = limits
        .keep_alive_max
        .and_then(|limit| NonZeroU16::new(u16::try_from(limit.as_secs()).unwrap_or(u16::MAX)));
    Limits {
        packet_bytes_max: u32::try_from(limits.packet_bytes_max.get()).unwrap_or(u32::MAX),
        receive_maximum: not_zero(limits.receive_maximum),
        inflight_max: not_zero(limits.inflight_max),
        mailbox_bytes_max: bytes(limits.mailbox_bytes_max),
        all_mailboxes_bytes_max: bytes(limits.all_mailboxes_bytes_max),
        commit_queue_bytes_max: bytes(limits.commit_queue_bytes_max),
        retained_bytes_max: bytes(limits.retained_bytes_max),
        retained_count_max: usize::try_from(limits.retained_count_max).unwrap_or(usize::MAX),
        subscriptions_per_client_max: usize::try_from(limits.subscriptions_per_client_max)
            .unwrap_or(usize::MAX),
        topic_levels_max: usize::from(limits.topic_levels_max),
        topic_alias_sent_max: limits.topic_alias_sent_max,
        accept_rate_max: NonZeroU32::new(limits.accept_rate_max).unwrap_or(NonZeroU32::MIN),
        connect_timeout: limits.connect_timeout,
        keep_alive_seconds_max: keep_alive,
        session_expiry_max: limits.session_expiry_max,
        sessions_max: usize::try_from(limits.sessions_max).unwrap_or(usize::MAX),
        ..Limits::default()
    }
}

/// Batches in flight to the cluster, all routes together, in bytes.
pub(crate) fn link_bytes(config: &Config) -> usize {
    bytes(config.board.board.profile().defaults.link_bytes)
}

/// What the bridge is to do, if there is one.
pub(crate) fn bridge_options(config: &Config) -> Option<bridge::BridgeOptions> {
    let bridge = config.bridge.as_ref()?;
    let route = |route: &config::RouteConfig| bridge::RouteOptions {
        name: route.name.to_string(),
        log: route.log.to_string(),
        topic: route.topic.to_string(),
        start: match route.start {
            config::RouteStart::Earliest => bridge::Start::Earliest,
            config::RouteStart::Now => bridge::Start::Now,
        },
    };
    Some(bridge::BridgeOptions {
        gateway_id: bridge.gateway_id.to_string(),
        bootstrap: bridge.bootstrap.iter().map(ToString::to_string).collect(),
        client_id: bridge.client_id.to_string(),
        request_timeout: bridge.request_timeout,
        backoff_max: bridge.backoff_max,
        checkpoint_within: bridge.checkpoint_interval,
        batch_bytes_max: bytes(bridge.batch_bytes_max),
        in_flight_bytes_max: link_bytes(config),
        routes: bridge.routes.iter().map(route).collect(),
    })
}
