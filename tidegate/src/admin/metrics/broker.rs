//! What the broker counts.

use std::fmt;

use broker::{Counters, DropCause, EndCause, Limit, ListenerCounters, RefusalCause};

use super::text::{Exposition, Kind, Plain, plain};
use crate::admin::state::AdminState;

const LISTENER: &[Plain<ListenerCounters>] = &[
    (
        "tidegate_broker_connections",
        Kind::Gauge,
        "Connections of clients.",
        |l| l.connections.get(),
    ),
    (
        "tidegate_broker_connections_accepted_total",
        Kind::Counter,
        "Connections that were accepted.",
        |l| l.accepted.get(),
    ),
    (
        "tidegate_broker_connections_refused_total",
        Kind::Counter,
        "Connections closed at once because the listener was full.",
        |l| l.refused.get(),
    ),
    (
        "tidegate_broker_accept_errors_total",
        Kind::Counter,
        "Connections that could not be accepted.",
        |l| l.accept_errors.get(),
    ),
];

const BROKER: &[Plain<Counters>] = &[
    (
        "tidegate_broker_messages_published_total",
        Kind::Counter,
        "Messages that got an offset in a log.",
        |c| c.published.get(),
    ),
    (
        "tidegate_broker_messages_live_only_total",
        Kind::Counter,
        "Messages that went to subscribers only.",
        |c| c.live_only.get(),
    ),
    (
        "tidegate_broker_missing_total",
        Kind::Counter,
        "Ranges of the log that are gone and may have held messages for a session.",
        |c| c.missing_reports.get(),
    ),
    (
        "tidegate_broker_catch_up_pauses_total",
        Kind::Counter,
        "Pauses of reading for sessions that are behind, for live traffic and the uplink.",
        |c| c.catch_up_pauses.get(),
    ),
    (
        "tidegate_broker_mailboxes_given_back_total",
        Kind::Counter,
        "Mailboxes that were given back, to be read again from the log, because others needed the room.",
        |c| c.mailboxes_given_back.get(),
    ),
    (
        "tidegate_broker_wills_total",
        Kind::Counter,
        "Wills that were published.",
        |c| c.wills.get(),
    ),
    (
        "tidegate_broker_wills_kept",
        Kind::Gauge,
        "Wills of sessions that outlive their connections: they are on flash.",
        |c| c.wills_kept.get(),
    ),
    (
        "tidegate_broker_wills_kept_bytes",
        Kind::Gauge,
        "Their bytes, and 256 for each.",
        |c| c.wills_kept_bytes.get(),
    ),
    (
        "tidegate_broker_received_bytes_total",
        Kind::Counter,
        "Bytes read from clients.",
        |c| c.bytes_received.get(),
    ),
    (
        "tidegate_broker_sent_bytes_total",
        Kind::Counter,
        "Bytes written to clients.",
        |c| c.bytes_sent.get(),
    ),
    (
        "tidegate_broker_received_packets_total",
        Kind::Counter,
        "Packets of all types from clients.",
        |c| c.packets_received.get(),
    ),
    (
        "tidegate_broker_sent_packets_total",
        Kind::Counter,
        "Packets of all types to clients.",
        |c| c.packets_sent.get(),
    ),
    (
        "tidegate_broker_sessions_offline",
        Kind::Gauge,
        "Sessions without a connection.",
        |c| c.sessions_offline.get(),
    ),
    (
        "tidegate_broker_sessions_behind",
        Kind::Gauge,
        "Sessions that get from the log what they did not take when it came.",
        |c| c.sessions_behind.get(),
    ),
    (
        "tidegate_broker_replays",
        Kind::Gauge,
        "Replays that have not come to the live messages.",
        |c| c.replays.get(),
    ),
    (
        "tidegate_broker_groups",
        Kind::Gauge,
        "Groups of shared subscribers.",
        |c| c.groups.get(),
    ),
    (
        "tidegate_broker_groups_behind",
        Kind::Gauge,
        "Groups that get from the log what no member had room for when it came.",
        |c| c.groups_behind.get(),
    ),
    (
        "tidegate_broker_subscriptions",
        Kind::Gauge,
        "Subscriptions.",
        |c| c.subscriptions.get(),
    ),
    (
        "tidegate_broker_retained_messages",
        Kind::Gauge,
        "Retained messages.",
        |c| c.retained_messages.get(),
    ),
    (
        "tidegate_broker_retained_bytes",
        Kind::Gauge,
        "Bytes of retained messages.",
        |c| c.retained_bytes.get(),
    ),
    (
        "tidegate_broker_pending_publishes",
        Kind::Gauge,
        "Publishes that wait for a commit.",
        |c| c.pending_publishes.get(),
    ),
    (
        "tidegate_broker_held_publishes",
        Kind::Gauge,
        "Publishes that were read and that the store does not take for now.",
        |c| c.held_publishes.get(),
    ),
    (
        "tidegate_broker_mailboxes_bytes",
        Kind::Gauge,
        "Bytes that wait for all subscribers together, with what their sockets have not taken yet.",
        |c| c.mailboxes_bytes.get(),
    ),
    (
        "tidegate_broker_queued_messages",
        Kind::Gauge,
        "Messages of QoS 1 that wait for a slow subscriber.",
        |c| c.queued_messages.get(),
    ),
    (
        "tidegate_broker_queued_bytes",
        Kind::Gauge,
        "Bytes of the messages that wait for a slow subscriber.",
        |c| c.queued_bytes.get(),
    ),
];

/// Listeners, sessions, messages.
pub(super) fn broker(out: &mut Exposition, state: &AdminState) -> fmt::Result {
    let broker = state.broker();
    let counters = broker.counters();
    for (name, kind, help, value) in LISTENER {
        let mut metric = out.metric(name, *kind, help)?;
        for listener in &counters.listeners {
            metric.sample(
                &[("listener", &listener.address.to_string())],
                value(listener),
            )?;
        }
    }
    plain(out, BROKER, counters)?;
    let mut metric = out.metric(
        "tidegate_broker_sessions",
        Kind::Gauge,
        "Sessions with a connection by protocol version.",
    )?;
    let v31 = counters.sessions_v31.get();
    let v311 = counters.sessions_v311.get().saturating_sub(v31);
    metric.sample(&[("version", "3.1")], v31)?;
    metric.sample(&[("version", "3.1.1")], v311)?;
    metric.sample(&[("version", "5")], counters.sessions_v5.get())?;
    let name = "tidegate_broker_messages_received_total";
    let help = "Messages from clients, wills included, by QoS.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    metric.sample(&[("qos", "0")], counters.received_qos0.get())?;
    metric.sample(&[("qos", "1")], counters.received_qos1.get())?;
    metric.sample(&[("qos", "2")], counters.received_qos2.get())?;
    let name = "tidegate_broker_messages_delivered_total";
    let mut metric = out.metric(
        name,
        Kind::Counter,
        "Messages handed to subscribers, by QoS.",
    )?;
    metric.sample(&[("qos", "0")], counters.delivered_qos0.get())?;
    metric.sample(&[("qos", "1")], counters.delivered_qos1.get())?;
    metric.sample(&[("qos", "2")], counters.delivered_qos2.get())?;
    by_reason(out, counters)
}

fn by_reason(out: &mut Exposition, counters: &Counters) -> fmt::Result {
    let name = "tidegate_broker_messages_dropped_total";
    let help = "Messages that did not reach a subscriber, or of QoS 0 their log, by reason.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for cause in DropCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.dropped.get(*cause))?;
    }
    let name = "tidegate_broker_publishes_refused_total";
    let help = "Publishes that were not taken and not acknowledged, by reason.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for cause in RefusalCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.refused.get(*cause))?;
    }
    let name = "tidegate_broker_connections_ended_total";
    let mut metric = out.metric(name, Kind::Counter, "Connections that ended, by reason.")?;
    for cause in EndCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.ended.get(*cause))?;
    }
    let name = "tidegate_broker_limit_hits_total";
    let help = "How often each limit of the configuration counted, by its key.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for limit in Limit::ALL {
        metric.sample(&[("limit", limit.label())], counters.limits.get(*limit))?;
    }
    Ok(())
}
