//! A route that does not know its topic yet: the cluster has not answered since the start.
//!
//! Invariant: what waits is told all the same. A gateway that starts without an uplink is the one
//! whose lag somebody has to see.

use std::future::pending;

use storage::{LogPartition, Offset};
use tokio::task::spawn_blocking;

use super::{Route, RouteError};
use crate::checkpoint;
use crate::feed::oldest_ms;
use crate::link::{LinkError, Topic};
use crate::options::Start;
use crate::status::PartitionStatus;
use crate::stream::{Stream, StreamState};

impl Route {
    /// What the link says about the topic; `None` when it is time to end.
    pub(super) async fn look_for_topic(
        &self,
    ) -> Result<Option<Result<Topic, LinkError>>, RouteError> {
        let mut shutdown = self.shared.shutdown.clone();
        // What cannot be read ends the route here, not below.
        self.tell_waiting()?;
        let found = async {
            let ages = async {
                self.find_ages().await;
                pending().await
            };
            tokio::select! {
                found = self.link.topic() => Some(found),
                _ = shutdown.wait_for(|ending| *ending) => None,
                never = ages => never,
            }
        };
        let tell = || drop(self.tell_waiting());
        Ok(self.shared.tell_while(tell, found).await)
    }

    /// What waits by the positions that are durable; nothing is on its way.
    fn tell_waiting(&self) -> Result<(), RouteError> {
        let store = &self.shared.store;
        for partition in self.log.partitions() {
            let number = partition.partition.0;
            let state = checkpoint::stream(store, &self.options.name, number)?;
            let Offset(high_watermark) = store.high_watermark(partition);
            let state = state.unwrap_or_else(|| self.unseen(partition));
            let stream = Stream::restore(state);
            let now_ms = store.now_ms();
            self.shared.probe.update(&self.options.name, |route| {
                let partition = route.partitions.entry(number).or_default();
                partition.acknowledged = stream.acknowledged();
                partition.note_high_watermark(high_watermark, now_ms);
                partition.in_doubt = stream.records_in_doubt();
                partition.replicated = stream.state().replicated;
                partition.lost = stream.state().lost;
            });
        }
        Ok(())
    }

    /// Looks up in the log how old the oldest record is that waited when the route began.
    async fn find_ages(&self) {
        let routes = self.shared.probe.routes();
        let Some(status) = routes.get(&self.options.name) else {
            return;
        };
        for partition in self.log.partitions() {
            let number = partition.partition.0;
            let unknown = |p: &&PartitionStatus| p.lag_records > 0 && p.oldest_ms.is_none();
            let Some(waiting) = status.partitions.get(&number).filter(unknown) else {
                continue;
            };
            let (store, from) = (self.shared.store.clone(), waiting.acknowledged);
            let found = spawn_blocking(move || oldest_ms(&store, partition, from)).await;
            self.shared.probe.update(&self.options.name, |route| {
                let partition = route.partitions.entry(number).or_default();
                if partition.oldest_ms.is_none() && partition.acknowledged == from {
                    partition.oldest_ms = found.ok().flatten();
                }
            });
        }
    }

    /// Where a partition begins that the route has never seen.
    pub(super) fn unseen(&self, partition: LogPartition) -> StreamState {
        let store = &self.shared.store;
        let Offset(acknowledged) = match self.options.start {
            Start::Earliest => store.log_start(partition),
            Start::Now => store.high_watermark(partition),
        };
        StreamState {
            acknowledged,
            ..StreamState::default()
        }
    }
}
