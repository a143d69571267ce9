//! What the driver writes down: positions, producer ids, and what is missing.

use std::time::Duration;

use storage::{AppendError, CommitNumber, Gap, GapReason, Offset};
use tokio::time::Instant;

use super::{Driver, End};
use crate::checkpoint::{encode, stream_key};

impl Driver {
    pub(super) fn meet_gap(&mut self, at: u64, resume: u64, reason: GapReason) {
        let partition = self.place.partition;
        let covers = |gap: &Gap| {
            gap.partition == partition
                && gap.route.is_none()
                && gap.from.0 <= at
                && gap.to.0 >= resume
        };
        let known = self.shared.store.gaps().into_iter().find(covers);
        // How many were lost behind an unproven end nobody knows; "at most" is no count.
        let lost = if known.as_ref().is_some_and(|gap| gap.at_most) {
            0
        } else {
            resume - at
        };
        self.gap = known.is_none().then(|| Gap {
            partition,
            route: Some(self.place.route.clone()),
            from: Offset(at),
            to: Offset(resume),
            records: resume - at,
            at_most: reason == GapReason::LostEnd,
            bytes: None,
            reason,
            noted_ms: self.shared.store.now().ms,
        });
        tracing::error!(
            route = self.place.route, %partition, from = at, to = resume, reason = reason.as_str(),
            "Records are gone that were not replicated."
        );
        self.stream.handle_barrier(at, resume, lost);
    }

    /// Lets the position ride on the next commit, if there is something new and it is time.
    pub(super) fn checkpoint(&mut self, every: Duration) -> Result<(), End> {
        let acknowledged = self.stream.acknowledged();
        if acknowledged == self.checkpointed || self.last_checkpoint.elapsed() < every {
            return Ok(());
        }
        self.last_checkpoint = Instant::now();
        let key = stream_key(&self.place.route, self.place.partition.partition.0);
        let value = encode(self.stream.state());
        let within = self.shared.checkpoint_within;
        let put = self
            .shared
            .store
            .put_journal_entry(key, Some(value), within);
        let commit = put.map_err(End::Store)?;
        self.checkpointed = acknowledged;
        self.unpinned = Some((commit, acknowledged));
        Ok(())
    }

    /// Lets go of what is acknowledged for good: the position is durable, too.
    pub(super) fn move_pin(&mut self) {
        let durable = self.shared.store.durable();
        if let Some((_, acknowledged)) = self.unpinned.take_if(|(commit, _)| *commit <= durable) {
            self.pin.set(self.place.partition, Offset(acknowledged));
        }
    }

    pub(super) async fn persist_for_stream(&mut self) -> Result<(), End> {
        let state = self.stream.state_to_persist();
        let value = encode(&state);
        match self.gap.take() {
            Some(gap) => {
                let key = stream_key(&self.place.route, self.place.partition.partition.0);
                let commit = self.shared.store.record_gap(&gap, Some((key, value)));
                self.wait_durable(commit.map_err(End::Store)?).await?;
            }
            None => self.persist(value).await?,
        }
        self.checkpointed = state.acknowledged;
        self.unpinned = None;
        self.pin
            .set(self.place.partition, Offset(state.acknowledged));
        self.stream.handle_persisted();
        Ok(())
    }

    pub(super) async fn persist(&mut self, value: Vec<u8>) -> Result<(), End> {
        let key = stream_key(&self.place.route, self.place.partition.partition.0);
        let put = self
            .shared
            .store
            .put_journal_entry(key, Some(value), Duration::ZERO);
        self.wait_durable(put.map_err(End::Store)?).await
    }

    pub(super) async fn wait_durable(&self, commit: CommitNumber) -> Result<(), End> {
        let store = self.shared.store.clone();
        let waited = tokio::task::spawn_blocking(move || store.wait_durable(commit)).await;
        waited
            .unwrap_or(Err(AppendError::Closing))
            .map_err(End::Store)
    }
}
