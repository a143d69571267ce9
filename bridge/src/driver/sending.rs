//! Sending batches and taking the cluster's answers to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse};
use kafka::{CallError, ErrorCode, Pending};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{CHECKPOINT_EVERY, Driver, End, with_causes};
use crate::feed::{Fed, FeedError, Upload, Wanted};
use crate::refusal;
use crate::stream::Refusal;

/// Smallest batch that a slow link is fed with.
const BATCH_BYTES_MIN: usize = 4 * 1024;
/// A batch is to keep the link busy for about this long.
const BATCH_TIME: Duration = Duration::from_millis(500);
/// Unit of the budget of bytes in flight.
const BUDGET_UNIT: usize = 1024;

/// A batch without an answer.
pub(super) struct InFlight {
    answer: Pending<ProduceResponse>,
    records: u64,
    bytes: usize,
    sent: Instant,
    _budget: OwnedSemaphorePermit,
}

impl Driver {
    pub(super) async fn send(&mut self, from: u64, limit: u64) -> Result<(), End> {
        if Instant::now() < self.throttled_until {
            return self.wait_until(self.throttled_until).await;
        }
        let Some(producer) = self.stream.state().producer else {
            return Ok(());
        };
        let wanted = Wanted {
            from,
            limit,
            bytes_max: self.batch_target.min(self.batch_limit),
            producer,
            now: self.shared.store.now(),
            restamp: self.restamp,
        };
        match self.feed_batch(wanted).await {
            Ok(Fed::Batch(upload)) => self.send_batch(from, upload).await,
            Ok(Fed::Era(era)) => {
                let commit = self.shared.store.freeze_era(era).map_err(End::Store)?;
                self.wait_durable(commit).await
            }
            Ok(Fed::Gap { at, resume, reason }) => {
                self.meet_gap(at, resume, reason);
                Ok(())
            }
            Ok(Fed::Nothing) => {
                self.wait_until(Instant::now() + Duration::from_millis(20))
                    .await
            }
            Err(error) => {
                self.trouble(with_causes(&error), None);
                self.wait_until(Instant::now() + Duration::from_secs(1))
                    .await
            }
        }
    }

    pub(super) async fn feed_batch(&mut self, wanted: Wanted) -> Result<Fed, FeedError> {
        let Some(mut feed) = self.feed.take() else {
            return Ok(Fed::Nothing);
        };
        let read = tokio::task::spawn_blocking(move || {
            let fed = feed.batch(&wanted);
            (feed, fed)
        });
        match read.await {
            Ok((feed, fed)) => {
                self.feed = Some(feed);
                fed
            }
            // A panic while reading: let it become one of the bridge, which begins anew.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    pub(super) async fn send_batch(&mut self, from: u64, upload: Upload) -> Result<(), End> {
        let Some(leader) = self.leader.clone() else {
            self.disconnected();
            return Ok(());
        };
        let bytes = upload.records.len();
        let Some(budget) = self.take_budget(bytes).await? else {
            return Ok(());
        };
        self.note_oldest(upload.first_time_ms);
        let request = self.produce_request(upload.records);
        let timeout = self.shared.request_timeout;
        let begun = leader.connection.begin_produce(&request, timeout).await;
        match begun {
            Ok(answer) => {
                self.stream.handle_sent(upload.to);
                let (records, sent) = (upload.to - from, Instant::now());
                self.in_flight.push_back(InFlight {
                    answer,
                    records,
                    bytes,
                    sent,
                    _budget: budget,
                });
            }
            Err(error) => self.call_failed(&error),
        }
        Ok(())
    }

    pub(super) fn produce_request(&self, records: Bytes) -> ProduceRequest {
        let partition = ProducePartition {
            topic: Arc::clone(self.link.topic_name()),
            partition: self.place.target,
            records,
        };
        // The broker gives up on its replicas before we give up on the broker.
        let timeout = self.shared.request_timeout * 3 / 4;
        ProduceRequest {
            timeout,
            partitions: vec![partition],
        }
    }

    /// A share of the bytes that may be in flight. Without one, answers are waited for first.
    pub(super) async fn take_budget(
        &mut self,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, End> {
        let units = bytes
            .div_ceil(BUDGET_UNIT)
            .clamp(1, self.shared.budget_units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.shared.budget);
        if let Ok(permit) = Arc::clone(&budget).try_acquire_many_owned(units) {
            return Ok(Some(permit));
        }
        if !self.in_flight.is_empty() {
            // Our own answers give some of it back; the records are read again, from memory.
            self.await_answer().await?;
            return Ok(None);
        }
        let mut shutdown = self.shared.shutdown.clone();
        tokio::select! {
            permit = budget.acquire_many_owned(units) => Ok(permit.ok()),
            _ = shutdown.wait_for(|ending| *ending) => Ok(None),
        }
    }

    /// Waits for the oldest answer, or for something that lets more be sent meanwhile.
    pub(super) async fn await_answer(&mut self) -> Result<(), End> {
        let mut progress = self.shared.progress.clone();
        progress.mark_unchanged();
        let Some(oldest) = self.in_flight.front_mut() else {
            self.disconnected();
            return Ok(());
        };
        let answer = tokio::select! {
            biased;
            answer = &mut oldest.answer => answer,
            _ = progress.changed() => return Ok(()),
        };
        let Some(answered) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match answer {
            Ok(response) => self.take_answer(&answered, &response),
            Err(error) => {
                // Its place in the stream is freed with all others.
                self.in_flight.push_front(answered);
                self.call_failed(&error);
                Ok(())
            }
        }
    }

    pub(super) fn take_answer(
        &mut self,
        answered: &InFlight,
        response: &ProduceResponse,
    ) -> Result<(), End> {
        if !response.throttle.is_zero() {
            self.throttled_until = Instant::now() + response.throttle;
        }
        let topic = Arc::clone(self.link.topic_name());
        let Some(answer) = response.partition(&topic, self.place.target) else {
            self.trouble(
                "the broker's answer leaves our partition out".to_owned(),
                None,
            );
            self.disconnected();
            return Ok(());
        };
        match &answer.result {
            Ok(produced) => {
                self.stream.handle_acknowledged(Some(produced.base_offset));
                self.note_success(answered);
                self.checkpoint(CHECKPOINT_EVERY)
            }
            Err(refused) => {
                let code = refused.refusal.code;
                let how = self.judge(code, answered);
                let detail = refused.refusal.message.clone().unwrap_or_default();
                let what = format!(
                    "the cluster refused a batch of {} records: {code} {detail}",
                    answered.records
                );
                if how != Refusal::OutOfOrder {
                    self.trouble(what.trim_end().to_owned(), code.remedy());
                }
                if !matches!(how, Refusal::Definite | Refusal::Reshape) {
                    self.rest();
                }
                self.stream.handle_refused(how);
                self.metadata_stale_since = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// What a refusal means for this very batch.
    pub(super) fn judge(&mut self, code: ErrorCode, refused: &InFlight) -> Refusal {
        if refusal::is_too_large(code) && refused.records > 1 {
            self.batch_limit = (refused.bytes / 2).max(1);
            return Refusal::Reshape;
        }
        if code == ErrorCode::INVALID_TIMESTAMP && !self.restamp {
            self.restamp = true;
            return Refusal::Reshape;
        }
        refusal::of_batch(code)
    }

    pub(super) fn call_failed(&mut self, error: &CallError) {
        self.trouble(with_causes(error), None);
        self.rest();
        self.disconnected();
    }

    /// Follows the link: half a second's worth of it is a batch.
    pub(super) fn note_success(&mut self, answered: &InFlight) {
        let now = Instant::now();
        let busy = now.duration_since(answered.sent.max(self.last_answer));
        self.last_answer = now;
        let per_second = answered.bytes as f64 / busy.as_secs_f64().max(0.001);
        let wanted = per_second * BATCH_TIME.as_secs_f64();
        let smoothed = self.batch_target as f64 * 0.75 + wanted * 0.25;
        let largest = self.shared.batch_bytes_max;
        let bounded = smoothed.clamp(BATCH_BYTES_MIN.min(largest) as f64, largest as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the range of a batch"
        )]
        let target = bounded as usize;
        self.batch_target = target;
        self.pause.reset();
        let bytes = answered.bytes as u64;
        self.shared.probe.update(&self.place.route, |route| {
            route.end_trouble(self.place.partition.partition.0);
            route.batches += 1;
            route.batch_bytes += bytes;
        });
    }
}
