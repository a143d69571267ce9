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
        self.shared.probe.update(&self.place.route, |route| {
            if route.trouble.as_ref() != Some(&trouble) {
                tracing::warn!(
                    route = self.place.route,
                    partition = %self.place.partition.partition,
                    remedy = trouble.remedy,
                    "{}.", trouble.what
                );
                route.trouble = Some(trouble);
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
        self.shared.probe.update(&self.place.route, |route| {
            let partition = route
                .partitions
                .entry(self.place.partition.partition.0)
                .or_default();
            partition.target = self.place.target;
            partition.activity = activity;
            partition.acknowledged = acknowledged;
            partition.high_watermark = high_watermark;
            partition.lag_records = high_watermark.saturating_sub(acknowledged);
            partition.in_doubt = stream.records_in_doubt();
            partition.replicated = stream.state().replicated;
            partition.lost = stream.state().lost;
            if partition.lag_records == 0 {
                partition.oldest_ms = None;
            }
        });
    }
}
