//! Prints the configuration in force as TOML, every key with its value, so that it can be read
//! and used as a file.
//!
//! Invariant: what is printed reads back as an equal configuration (as long as `data_dir`, which
//! a command line may have set, is text). What would mean nothing is left out.

use std::fmt::{self, Display, Write};

use crate::bridge::{BridgeConfig, RouteConfig, RouteStart};
use crate::config::{Config, Unmapped};
use crate::limits::{LimitsConfig, format_keep_alive};
use crate::listener::{ListenerConfig, ListenerKind};
use crate::log::LogConfig;
use crate::machine::TakenBoard;
use crate::value::{Durability, format_duration};

impl Config {
    /// The configuration in force as TOML, with every default written out.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "data_dir = {}", quote(self.data_dir.to_string_lossy()))?;
        if let Some(gateway_id) = &self.gateway_id {
            writeln!(out, "gateway_id = {}", quote(gateway_id))?;
        }
        let unmapped = match self.unmapped {
            Unmapped::Default => "default",
            Unmapped::LiveOnly => "live-only",
        };
        writeln!(out, "unmapped = {}", quote(unmapped))?;
        let sys_interval = self.sys_interval.unwrap_or_default();
        writeln!(
            out,
            "sys_interval = {}",
            quote(format_duration(sys_interval))
        )?;
        writeln!(out, "share_policy = {}", quote(self.share_policy))?;
        self.write_board(out)?;
        for listener in &self.listeners {
            write_listener(out, listener)?;
        }
        writeln!(out, "\n[admin]")?;
        writeln!(out, "enabled = {}", self.admin.enabled)?;
        writeln!(out, "bind = {}", quote(self.admin.bind))?;
        writeln!(out, "\n[storage]")?;
        writeln!(out, "segment_bytes = {}", quote(self.storage.segment_bytes))?;
        writeln!(
            out,
            "free_space_reserve = {}",
            quote(self.storage.free_space_reserve)
        )?;
        if let Some(budget) = self.storage.flash_budget {
            writeln!(out, "flash_budget = {}", quote(budget))?;
        }
        if let Some(endurance) = self.storage.card_endurance {
            writeln!(out, "card_endurance = {}", quote(endurance))?;
        }
        for log in &self.logs {
            write_log(out, log)?;
        }
        for share in &self.shares {
            writeln!(out, "\n[[share]]")?;
            writeln!(out, "group = {}", quote(&share.group))?;
            writeln!(out, "policy = {}", quote(share.policy))?;
        }
        write_limits(out, &self.limits)?;
        match &self.bridge {
            Some(bridge) => write_bridge(out, bridge),
            None => Ok(()),
        }
    }
}

impl Config {
    /// With why it is that board, and what it decides besides what is written out.
    fn write_board(&self, out: &mut String) -> fmt::Result {
        let TakenBoard { board, why } = &self.board;
        // A comment ends with its line.
        let why = why.replace(char::is_control, " ");
        writeln!(out, "board = {} # {why}", quote(board))?;
        let defaults = &board.profile().defaults;
        writeln!(
            out,
            "# of the board, without keys: newest commits in memory for readers {}, batches on their \
             way to Kafka {}",
            defaults.ring_bytes, defaults.link_bytes
        )?;
        match &self.memory_budget {
            Some(budget) => {
                let source = budget.source.words();
                writeln!(out, "memory_budget = {} # {source}", quote(budget.bytes))
            }
            None => Ok(()),
        }
    }
}

fn write_listener(out: &mut String, listener: &ListenerConfig) -> fmt::Result {
    let kind = match listener.kind {
        ListenerKind::Mqtt => "mqtt",
    };
    writeln!(out, "\n[[listener]]")?;
    writeln!(out, "kind = {}", quote(kind))?;
    writeln!(out, "bind = {}", quote(listener.bind))?;
    writeln!(out, "allow_anonymous = {}", listener.allow_anonymous)?;
    writeln!(out, "connections_max = {}", listener.connections_max)
}

fn write_log(out: &mut String, log: &LogConfig) -> fmt::Result {
    writeln!(out, "\n[[log]]")?;
    writeln!(out, "name = {}", quote(&log.name))?;
    writeln!(out, "filters = {}", quote_all(&log.filters))?;
    writeln!(out, "durability = {}", quote(log.durability))?;
    if log.durability == Durability::Memory {
        return Ok(());
    }
    if log.durability == Durability::Commit {
        writeln!(out, "linger = {}", quote(format_duration(log.linger)))?;
    }
    writeln!(out, "on_full = {}", quote(log.on_full))?;
    writeln!(out, "partitions = {}", log.partitions)?;
    writeln!(out, "key = {}", quote(&log.key))?;
    write!(out, "retention = {{ bytes = {}", quote(log.retention.bytes))?;
    if let Some(age) = log.retention.age {
        write!(out, ", age = {}", quote(format_duration(age)))?;
    }
    writeln!(out, " }}")
}

fn write_limits(out: &mut String, limits: &LimitsConfig) -> fmt::Result {
    writeln!(out, "\n[limits]")?;
    writeln!(out, "packet_bytes_max = {}", quote(limits.packet_bytes_max))?;
    writeln!(out, "receive_maximum = {}", limits.receive_maximum)?;
    writeln!(out, "inflight_max = {}", limits.inflight_max)?;
    writeln!(
        out,
        "mailbox_bytes_max = {}",
        quote(limits.mailbox_bytes_max)
    )?;
    writeln!(
        out,
        "all_mailboxes_bytes_max = {}",
        quote(limits.all_mailboxes_bytes_max)
    )?;
    writeln!(
        out,
        "commit_queue_bytes_max = {}",
        quote(limits.commit_queue_bytes_max)
    )?;
    writeln!(
        out,
        "retained_bytes_max = {}",
        quote(limits.retained_bytes_max)
    )?;
    writeln!(out, "retained_count_max = {}", limits.retained_count_max)?;
    writeln!(
        out,
        "subscriptions_per_client_max = {}",
        limits.subscriptions_per_client_max
    )?;
    writeln!(out, "topic_levels_max = {}", limits.topic_levels_max)?;
    writeln!(
        out,
        "topic_alias_sent_max = {}",
        limits.topic_alias_sent_max
    )?;
    writeln!(out, "accept_rate_max = {}", limits.accept_rate_max)?;
    writeln!(
        out,
        "connect_timeout = {}",
        quote(format_duration(limits.connect_timeout))
    )?;
    writeln!(
        out,
        "keep_alive_max = {}",
        quote(format_keep_alive(limits.keep_alive_max))
    )?;
    writeln!(
        out,
        "session_expiry_max = {}",
        quote(format_duration(
            limits.session_expiry_max.unwrap_or_default()
        ))
    )?;
    writeln!(out, "sessions_max = {}", limits.sessions_max)
}

fn write_bridge(out: &mut String, bridge: &BridgeConfig) -> fmt::Result {
    let duration = |duration| quote(format_duration(duration));
    writeln!(out, "\n[bridge]")?;
    writeln!(out, "bootstrap = {}", quote_all(&bridge.bootstrap))?;
    writeln!(out, "client_id = {}", quote(&bridge.client_id))?;
    writeln!(
        out,
        "request_timeout = {}",
        duration(bridge.request_timeout)
    )?;
    writeln!(out, "backoff_max = {}", duration(bridge.backoff_max))?;
    writeln!(
        out,
        "checkpoint_interval = {}",
        duration(bridge.checkpoint_interval)
    )?;
    writeln!(out, "batch_bytes_max = {}", quote(bridge.batch_bytes_max))?;
    bridge
        .routes
        .iter()
        .try_for_each(|route| write_route(out, route))
}

fn write_route(out: &mut String, route: &RouteConfig) -> fmt::Result {
    let start = match route.start {
        RouteStart::Earliest => "earliest",
        RouteStart::Now => "now",
    };
    writeln!(out, "\n[[bridge.route]]")?;
    writeln!(out, "name = {}", quote(&route.name))?;
    writeln!(out, "log = {}", quote(&route.log))?;
    writeln!(out, "topic = {}", quote(&route.topic))?;
    writeln!(out, "start = {}", quote(start))
}

/// A value as a TOML string.
fn quote(value: impl Display) -> toml::Value {
    toml::Value::String(value.to_string())
}

/// Values as a TOML list of strings.
fn quote_all<T: Display>(values: &[T]) -> toml::Value {
    toml::Value::Array(values.iter().map(quote).collect())
}
