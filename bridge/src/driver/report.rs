//! What the driver tells: trouble and status.

use super::Driver;
use crate::status::{StreamActivity, Trouble};
use crate::stream::Action;

impl Driver {
    pub(super) fn trouble(&self, what: String, remedy: Option<&str>) {
        let trouble = Trouble {
            what,
            remedy: remedy.map(str::to_owned),
        };
        let partition = self.place.partition.partition;
        self.shared.probe.update(&self.place.route, |route| {
            if route.note_trouble(partition.0, trouble.clone()) {
                let (route, Trouble { what, remedy }) = (&self.place.route, &trouble);
                tracing::warn!(route, %partition, remedy, "{what}.");
            }
        });
    }

    pub(super) fn note_oldest(&self, first_time_ms: i64) {
        if self.in_flight.is_empty() {
            self.shared.probe.update(&self.place.route, |route| {
                let partition = route
                    .partitions
                    .entry(self.place.partition.partition.0)
                    .or_default();
                partition.oldest_ms = Some(first_time_ms);
            });
        }
    }

    /// How much waits now, while nothing else changes.
    pub(super) fn tell_lag(&self) {
        let high_watermark = self.shared.store.high_watermark(self.place.partition).0;
        let now_ms = self.shared.store.now().ms;
        self.shared.probe.update(&self.place.route, |route| {
            let number = self.place.partition.partition.0;
            let partition = route.partitions.entry(number).or_default();
            partition.note_high_watermark(high_watermark, now_ms);
        });
    }

    pub(super) fn tell_status(&self, high_watermark: u64) {
        let stream = &self.stream;
        let activity = match stream.next_action() {
            Action::Connect => StreamActivity::Connecting,
            Action::Halt(_) => StreamActivity::Halted,
            Action::Pause => StreamActivity::Paused,
            _ if stream.is_streaming() => StreamActivity::Streaming,
            Action::Idle => StreamActivity::Streaming,
            _ => StreamActivity::Resolving,
        };
        let acknowledged = stream.acknowledged();
        let now_ms = self.shared.store.now().ms;
        // Nobody waits for anything, and nothing is in the way.
        let is_well = self.leader.is_some() && acknowledged == high_watermark;
        self.shared.probe.update(&self.place.route, |route| {
            let partition = route
                .partitions
                .entry(self.place.partition.partition.0)
                .or_default();
            partition.target = self.place.target;
            partition.activity = activity;
            partition.acknowledged = acknowledged;
            partition.note_high_watermark(high_watermark, now_ms);
            partition.in_doubt = stream.records_in_doubt();
            partition.replicated = stream.state().replicated;
            partition.lost = stream.state().lost;
            if is_well {
                route.end_trouble(self.place.partition.partition.0);
            }
        });
    }
}
