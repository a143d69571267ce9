//! What is printed reads back as the same configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use firmware_config::{
    AdminConfig, Board, BridgeConfig, BudgetSource, ByteCount, Config, Durability, LimitsConfig,
    ListenerConfig, ListenerKind, Located, LogConfig, LogName, MemoryBudget, OnFull, Retention,
    RouteConfig, RouteStart, ShareConfig, SharePolicy, StorageConfig, TakenBoard, Unmapped,
};
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;

use crate::config;

fn size(kib: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = ByteCount> {
    (kib, 0..1024u64).prop_map(|(kib, odd)| ByteCount::new((kib << 10) + (odd & 1)))
}

fn seconds(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    (range, 0..1000u64).prop_map(|(s, odd)| Duration::from_millis(s * 1000 + (odd & 1)))
}

/// Ports follow each other, so no two collide.
fn listeners() -> impl Strategy<Value = Vec<ListenerConfig>> {
    prop::collection::vec((any::<IpAddr>(), 1..=100_000u32), 1..5).prop_map(|listeners| {
        let listeners = listeners.into_iter().zip(1000u16..);
        listeners
            .map(|((address, connections_max), port)| ListenerConfig {
                kind: ListenerKind::Mqtt,
                bind: Located::nowhere(SocketAddr::new(address, port)),
                allow_anonymous: true,
                connections_max,
            })
            .collect()
    })
}

fn admin() -> impl Strategy<Value = AdminConfig> {
    (any::<bool>(), 2000u16..).prop_map(|(enabled, port)| AdminConfig {
        enabled,
        bind: Located::nowhere(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)),
    })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![
        Just(Durability::Commit),
        (1..=60_000u64).prop_map(|ms| Durability::Interval(Duration::from_millis(ms))),
    ]
}

/// A log that is stored, under any name.
fn log() -> impl Strategy<Value = LogConfig> {
    (
        btree_set("[^$#\u{0}][^#\u{0}]{0,12}", 1..4),
        1..=16u16,
        "[a-z/]{0,4}\\{topic\\[[0-9]\\]\\}[{]{2}",
        size((64 << 10)..=(1 << 30)),
        option::of(seconds(1..=1_000_000)),
        (durability(), 0..=50_u64, any::<bool>()),
    )
        .prop_map(
            |(filters, partitions, key, bytes, age, (durability, linger, rejects))| LogConfig {
                partitions,
                key: key.parse().unwrap(),
                retention: Retention { bytes, age },
                linger: match durability {
                    Durability::Commit => Duration::from_millis(linger),
                    Durability::Interval(_) | Durability::Memory => Duration::ZERO,
                },
                durability,
                on_full: if rejects {
                    OnFull::Reject
                } else {
                    OnFull::DropOldest
                },
                ..LogConfig::new(LogName::default_log(), filters.into_iter().collect())
            },
        )
}

/// Logs with names of their own, some of them live only, and the log `default` at any place.
fn logs() -> impl Strategy<Value = Vec<LogConfig>> {
    let named = (log(), any::<bool>());
    (
        prop::collection::vec(named, 0..4),
        log(),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(named, default, at)| {
            let named = named.into_iter().zip('a'..);
            let mut logs: Vec<_> = named
                .map(|((log, is_live), name)| {
                    let name: LogName = name.to_string().parse().unwrap();
                    let name = Located::nowhere(name);
                    let live = LogConfig::new(name.value.clone(), Vec::new());
                    let memory = LogConfig {
                        durability: Durability::Memory,
                        ..live
                    };
                    let filters = log.filters.clone();
                    LogConfig {
                        name,
                        filters,
                        ..if is_live { memory } else { log }
                    }
                })
                .collect();
            logs.insert(at.index(logs.len() + 1), default);
            logs
        })
}

fn limits() -> impl Strategy<Value = LimitsConfig> {
    (
        (
            size(1..=2048),
            any::<u16>(),
            any::<u16>(),
            size(4096..=8192),
            size(4096..=8192),
            size(4096..=65536),
        ),
        (
            size(1..=4096),
            1..=1_000_000u32,
            1..=100_000u32,
            1..=128u16,
            0..=256u16,
            1..=100_000u32,
        ),
        (
            seconds(1..=100),
            option::of(1..=65_535u64),
            option::of(1..=315_360_000u64),
            1..=1_000_000u32,
        ),
    )
        .prop_map(
            |(a, b, (connect_timeout, keep_alive, expiry, sessions))| LimitsConfig {
                packet_bytes_max: a.0,
                receive_maximum: a.1.max(1),
                inflight_max: a.2.max(1),
                mailbox_bytes_max: a.3,
                commit_queue_bytes_max: a.4,
                all_mailboxes_bytes_max: a.5,
                retained_bytes_max: b.0,
                retained_count_max: b.1,
                subscriptions_per_client_max: b.2,
                topic_levels_max: b.3,
                topic_alias_sent_max: b.4,
                accept_rate_max: b.5,
                connect_timeout,
                keep_alive_max: keep_alive.map(Duration::from_secs),
                session_expiry_max: expiry.map(Duration::from_secs),
                sessions_max: sessions,
            },
        )
}

/// A bridge whose first route takes the log `default`.
fn bridge() -> impl Strategy<Value = BridgeConfig> {
    (
        "[a-z]{1,9}(:[0-9]{2}){0}",
        "[A-Za-z0-9._-]{1,64}",
        (
            seconds(1..=100),
            seconds(1..=100),
            seconds(1..=100),
            size(4..=1023),
        ),
        "[a-z]{1,9}",
        prop_oneof![Just(RouteStart::Earliest), Just(RouteStart::Now)],
    )
        .prop_map(|(host, id, knobs, topic, start)| BridgeConfig {
            gateway_id: "gw".parse().unwrap(),
            bootstrap: vec![Located::nowhere(format!("{host}:9092").parse().unwrap())],
            client_id: id.parse().unwrap(),
            request_timeout: knobs.0,
            backoff_max: knobs.1,
            checkpoint_interval: knobs.2,
            batch_bytes_max: knobs.3,
            routes: vec![RouteConfig {
                name: Located::nowhere("all".parse().unwrap()),
                log: Located::nowhere(LogName::default_log()),
                topic: Located::nowhere(topic.parse().unwrap()),
                start,
            }],
        })
}

/// A board and a budget; with a board whose memory is known there always is one.
fn board() -> impl Strategy<Value = (TakenBoard, Option<MemoryBudget>)> {
    let boards: Vec<_> = Board::all().collect();
    let budget = option::of(size((64 << 10)..=(1 << 30) - 1));
    (prop::sample::select(boards), ".{0,40}", budget).prop_map(|(board, why, bytes)| {
        let bytes = bytes.or_else(|| board.profile().memory);
        let budget = bytes.map(|bytes| MemoryBudget {
            bytes,
            source: BudgetSource::Memory,
            memory: None,
        });
        (TakenBoard { board, why }, budget)
    })
}

fn share_policy() -> impl Strategy<Value = SharePolicy> {
    prop_oneof![
        Just(SharePolicy::RoundRobin),
        Just(SharePolicy::LeastInflight),
        Just(SharePolicy::Sticky),
        Just(SharePolicy::HashTopic),
    ]
}

fn shares() -> impl Strategy<Value = Vec<ShareConfig>> {
    let groups = btree_map("[^/+#\u{0}]{1,40}", share_policy(), 0..4);
    groups.prop_map(|groups| {
        let share = |(name, policy): (String, SharePolicy)| ShareConfig {
            group: Located::nowhere(name.parse().unwrap()),
            policy,
        };
        groups.into_iter().map(share).collect()
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    (
        "[^\u{0}]{1,40}",
        (
            prop_oneof![Just(Unmapped::Default), Just(Unmapped::LiveOnly)],
            option::of(seconds(1..=86_400)),
            share_policy(),
            board(),
        ),
        listeners(),
        admin(),
        (
            size((8 << 10)..=(32 << 10)),
            size(1024..=1 << 40),
            option::of(1..=1_000_u64),
        ),
        (logs(), shares()),
        limits(),
        option::of(bridge()),
    )
        .prop_map(
            |(data_dir, unmapped, listeners, admin, sizes, (logs, shares), limits, bridge)| {
                Config {
                    data_dir: PathBuf::from(data_dir),
                    gateway_id: bridge.as_ref().map(|bridge| bridge.gateway_id.clone()),
                    unmapped: unmapped.0,
                    sys_interval: unmapped.1,
                    share_policy: unmapped.2,
                    board: unmapped.3.0,
                    memory_budget: unmapped.3.1,
                    listeners,
                    admin,
                    storage: StorageConfig {
                        segment_bytes: sizes.0,
                        free_space_reserve: sizes.1,
                        flash_budget: sizes.2.map(|gib| format!("{gib}GiB/day").parse().unwrap()),
                        card_endurance: sizes.2.map(|gib| ByteCount::new(gib << 31)),
                    },
                    logs,
                    shares,
                    limits,
                    bridge,
                }
            },
        )
}

#[test]
fn default_reads_back_equal_when_printed() {
    let default = Config::default();
    assert_eq!(config(&default.explain()), default);
}

proptest! {
    #[test]
    fn configuration_reads_back_equal_when_printed(original in any_config()) {
        let printed = original.explain();
        prop_assert_eq!(config(&printed), original, "{}", printed);
    }
}
