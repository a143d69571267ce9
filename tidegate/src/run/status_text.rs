//! What `systemctl status` shows of a gateway: one short line, from what is known at a glance.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bridge::{RouteStatus, StreamActivity};
use storage::Health;

use crate::admin::{AdminState, describe};
use crate::status::oldest_segment::duration;
use crate::status::size;

/// How long a commit may take before it is worth a word.
const SLOW_COMMIT: Duration = Duration::from_secs(10);

/// What must be remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When messages were counted last, and how many there were.
    counted: Option<(Instant, u64)>,
    down_since: Option<Instant>,
}

/// The way to the cluster, all routes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    routes: usize,
    up: usize,
    /// What is wrong with the others, the worst of it.
    trouble: &'static str,
    lag_records: u64,
}

impl Looks {
    /// The line as it is now.
    pub(super) fn text(&mut self, state: &AdminState, now: Instant) -> String {
        let mut parts = vec![self.traffic(state, now)];
        match state.store() {
            Err(degraded) => parts.insert(0, describe(&degraded)),
            Ok(store) => {
                parts.extend(trouble_of(&store.health()));
                let full = store.full_logs().len();
                if full > 0 {
                    parts.push(format!("{full} logs full"));
                }
                let waits = store.commit_waits_since();
                parts.extend(slow_commit(waits, now));
            }
        }
        if let Some(bridge) = state.bridge() {
            let uplink = Uplink::of(&bridge.routes());
            parts.push(self.uplink(&uplink, now));
        }
        parts.join("; ")
    }

    fn traffic(&mut self, state: &AdminState, now: Instant) -> String {
        let probe = state.broker();
        let counters = probe.counters();
        let by_qos = [
            &counters.received_qos0,
            &counters.received_qos1,
            &counters.received_qos2,
        ];
        let messages = by_qos.iter().map(|counter| counter.get()).sum();
        let rate = self.rate(messages, now);
        format!(
            "{} connections, {rate} messages/s",
            probe.status().connections
        )
    }

    /// Messages a second since the last look.
    fn rate(&mut self, messages: u64, now: Instant) -> u64 {
        let before = self.counted.replace((now, messages));
        let Some((at, before)) = before else {
            return 0;
        };
        let passed_ms = now.saturating_duration_since(at).as_millis().max(1);
        // Another broker counts from 0.
        let more = u128::from(messages.saturating_sub(before));
        u64::try_from((more * 1000).div_ceil(passed_ms)).unwrap_or(u64::MAX)
    }

    fn uplink(&mut self, uplink: &Uplink, now: Instant) -> String {
        let lag = uplink.lag_records;
        if uplink.is_up() {
            self.down_since = None;
            return format!("uplink: up, lag {lag} records");
        }
        let since = *self.down_since.get_or_insert(now);
        let down = duration(now.saturating_duration_since(since).as_secs());
        let (down_routes, routes) = (uplink.routes - uplink.up, uplink.routes);
        let which = match uplink.up {
            0 => String::new(),
            _ => format!(" for {down_routes} of {routes} routes"),
        };
        format!(
            "uplink: {}{which} since {down}, {lag} records wait",
            uplink.trouble
        )
    }
}

impl Uplink {
    fn of(routes: &BTreeMap<String, RouteStatus>) -> Self {
        let troubles = || routes.values().filter_map(trouble_of_route);
        let partitions = routes.values().flat_map(|route| route.partitions.values());
        Self {
            routes: routes.len(),
            up: routes.len() - troubles().count(),
            trouble: troubles().max().map_or("down", Activity::word),
            lag_records: partitions.map(|partition| partition.lag_records).sum(),
        }
    }

    fn is_up(&self) -> bool {
        self.up == self.routes && self.routes > 0
    }
}

/// Why a route does not flow, by how much it wants somebody to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Activity {
    Down,
    Paused,
    Halted,
}

impl Activity {
    fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Paused => "paused by the cluster",
            Self::Halted => "halted",
        }
    }
}

/// `None`: all of it streams.
fn trouble_of_route(route: &RouteStatus) -> Option<Activity> {
    if route.partitions.is_empty() {
        return Some(Activity::Down);
    }
    let troubles = route
        .partitions
        .values()
        .filter_map(|partition| match partition.activity {
            StreamActivity::Streaming => None,
            StreamActivity::Connecting | StreamActivity::Resolving => Some(Activity::Down),
            StreamActivity::Paused => Some(Activity::Paused),
            StreamActivity::Halted => Some(Activity::Halted),
        });
    troubles.max()
}

fn trouble_of(health: &Health) -> Option<String> {
    match health {
        Health::Ready | Health::Closing => None,
        Health::DiskFull {
            free_bytes,
            reserve_bytes,
        } => Some(format!(
            "disk full ({} free, {} reserved): publishes are refused",
            size(*free_bytes),
            size(*reserve_bytes)
        )),
        Health::Poisoned(problem) => Some(format!("the store has failed: {problem}")),
    }
}

/// `waits`: since when a commit is waited for.
fn slow_commit(waits: Option<Instant>, now: Instant) -> Option<String> {
    let waited = now.saturating_duration_since(waits?);
    (waited >= SLOW_COMMIT)
        .then(|| format!("a commit has taken {} so far", duration(waited.as_secs())))
}

#[cfg(test)]
mod tests {
    use bridge::PartitionStatus;

    use super::*;

    fn route(partitions: &[(StreamActivity, u64)]) -> RouteStatus {
        let status = |(activity, lag_records): &(StreamActivity, u64)| {
            let mut status = PartitionStatus::default();
            status.activity = *activity;
            status.lag_records = *lag_records;
            status
        };
        RouteStatus {
            partitions: (0..).zip(partitions.iter().map(status)).collect(),
            ..RouteStatus::default()
        }
    }

    #[test]
    fn uplink_is_told_with_how_long_it_is_down_and_what_waits() {
        use StreamActivity::{Connecting, Halted, Paused, Streaming};
        let (mut looks, begin) = (Looks::default(), Instant::now());
        let mut text = |routes: &[&[(StreamActivity, u64)]], seconds| {
            let routes = (0..).zip(routes.iter().map(|partitions| route(partitions)));
            let routes = routes.map(|(number, route): (u8, _)| (number.to_string(), route));
            let now = begin + Duration::from_secs(seconds);
            looks.uplink(&Uplink::of(&routes.collect()), now)
        };
        assert_eq!(text(&[&[(Streaming, 0)]], 0), "uplink: up, lag 0 records");
        assert_eq!(text(&[&[]], 1), "uplink: down since 0 s, 0 records wait");
        let down: &[_] = &[(Streaming, 45), (Connecting, 12_300)];
        assert_eq!(
            text(&[down], 181),
            "uplink: down since 3 min, 12345 records wait"
        );
        let up: &[_] = &[(Streaming, 1)];
        assert_eq!(
            text(&[up, &[(Halted, 2), (Paused, 0)]], 181),
            "uplink: halted for 1 of 2 routes since 3 min, 3 records wait"
        );
        assert_eq!(text(&[up], 182), "uplink: up, lag 1 records");
        assert_eq!(
            text(&[&[(Paused, 2)]], 183),
            "uplink: paused by the cluster since 0 s, 2 records wait"
        );
    }

    #[test]
    fn rate_is_of_the_time_since_the_last_look() {
        let (mut looks, begin) = (Looks::default(), Instant::now());
        let mut rate =
            |messages, seconds| looks.rate(messages, begin + Duration::from_secs(seconds));
        assert_eq!(rate(100, 0), 0, "nothing to compare with");
        assert_eq!(rate(600, 5), 100);
        assert_eq!(rate(601, 10), 1, "a little is not nothing");
        assert_eq!(rate(3, 15), 0, "another broker");
    }

    #[test]
    fn commit_that_takes_long_is_told() {
        let now = Instant::now() + Duration::from_secs(100);
        let told = |seconds| slow_commit(Some(now - Duration::from_secs(seconds)), now);
        assert_eq!(slow_commit(None, now), None);
        assert_eq!(told(9), None);
        assert_eq!(told(31).unwrap(), "a commit has taken 31 s so far");
    }
}
