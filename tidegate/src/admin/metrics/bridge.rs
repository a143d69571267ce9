//! What the bridge counts, by route.

use std::fmt;

use bridge::{PartitionStatus, RouteStatus, StreamActivity};

use super::text::{Exposition, Kind, Plain};
use crate::admin::state::AdminState;

const ROUTE: &[Plain<RouteStatus>] = &[
    (
        "tidegate_bridge_lag_records",
        Kind::Gauge,
        "Records that wait for the cluster.",
        |route| sum(route, |partition| partition.lag_records),
    ),
    (
        "tidegate_bridge_in_doubt_records",
        Kind::Gauge,
        "Records of which it is not known whether the cluster has them.",
        |route| sum(route, |partition| partition.in_doubt),
    ),
    (
        "tidegate_bridge_replicated_records_total",
        Kind::Counter,
        "Records in the cluster, since the route began.",
        |route| sum(route, |partition| partition.replicated),
    ),
    (
        "tidegate_bridge_lost_records_total",
        Kind::Counter,
        "Records lost for the route, since it began; the gap ledger has them.",
        |route| sum(route, |partition| partition.lost),
    ),
    (
        "tidegate_bridge_batches_total",
        Kind::Counter,
        "Batches acknowledged since the start.",
        |route| route.batches,
    ),
    (
        "tidegate_bridge_batch_bytes_total",
        Kind::Counter,
        "Bytes of those batches.",
        |route| route.batch_bytes,
    ),
    (
        "tidegate_bridge_streaming_partitions",
        Kind::Gauge,
        "Partitions whose records flow, or would if there were any.",
        |route| {
            sum(route, |partition| {
                u64::from(partition.activity == StreamActivity::Streaming)
            })
        },
    ),
    (
        "tidegate_bridge_trouble",
        Kind::Gauge,
        "Whether something keeps records from flowing (1); the status says what.",
        |route| u64::from(route.trouble.is_some()),
    ),
];

fn sum(route: &RouteStatus, field: fn(&PartitionStatus) -> u64) -> u64 {
    route.partitions.values().map(field).sum()
}

/// Routes.
pub(super) fn bridge(out: &mut Exposition, state: &AdminState) -> fmt::Result {
    let routes = state
        .bridge()
        .map(|probe| probe.routes())
        .unwrap_or_default();
    for (name, kind, help, value) in ROUTE {
        let mut metric = out.metric(name, *kind, help)?;
        for (route, status) in &routes {
            metric.sample(&[("route", route)], value(status))?;
        }
    }
    // Without a store there is no bridge.
    let now_ms = state.store().map_or(0, |store| store.now().ms);
    let name = "tidegate_bridge_lag_seconds";
    let mut metric = out.metric(name, Kind::Gauge, "Age of the oldest record that waits.")?;
    for (route, status) in &routes {
        let oldest = status
            .partitions
            .values()
            .filter_map(|partition| partition.oldest_ms)
            .min();
        if oldest.is_none() && sum(status, |partition| partition.lag_records) > 0 {
            // Not known, which is not 0.
            continue;
        }
        let age_ms = oldest.map_or(0, |ms| now_ms.saturating_sub(ms));
        metric.sample(
            &[("route", route)],
            u64::try_from(age_ms).unwrap_or(0) / 1000,
        )?;
    }
    Ok(())
}
