//! The questions of RESOLVE and what their answers tell the stream.

use std::sync::Arc;
use std::time::Duration;

use kafka::messages::describe_producers::DescribeProducers;
use kafka::messages::fetch::{FetchPartition, FetchRequest};
use kafka::messages::list_offsets::{ListOffset, OffsetAt};
use kafka::messages::offset_for_leader_epoch::OffsetForLeaderEpoch;
use kafka::{CallError, ErrorCode};
use record_batch::batches;
use tokio::time::{Instant, sleep};

use super::{Driver, End, with_causes};
use crate::link::Leader;
use crate::refusal;
use crate::stream::{Action, Producer};

/// Bytes of batches that are fetched at a time to look at their headers.
const SCAN_BYTES: i32 = 1024 * 1024;
/// Between two looks at a high watermark that lags.
const HIGH_WATERMARK_EVERY: Duration = Duration::from_millis(200);

/// Why a question has no usable answer.
#[derive(Debug)]
enum NoAnswer {
    Call(CallError),
    Refused(ErrorCode),
    /// The answer does not speak of what was asked.
    Missing,
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<ErrorCode> for NoAnswer {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code)
    }
}

impl Driver {
    /// Asks what `action` wants to know and tells the stream.
    pub(super) async fn ask(&mut self, action: Action) -> Result<(), End> {
        let Some(leader) = self.leader.clone() else {
            self.disconnected();
            return Ok(());
        };
        let answered = match action {
            Action::EpochEnd => self.ask_epoch_end(&leader).await,
            Action::HighWatermark => self.ask_high_watermark(&leader).await,
            Action::InitProducerId => self.ask_producer_id(&leader).await,
            Action::Producers => self.ask_producers(&leader).await,
            Action::Scan { from, to } => self.scan(&leader, from, to).await,
            _ => Ok(()),
        };
        if let Err(no_answer) = answered {
            self.take_no_answer(no_answer);
        }
        if self.stream.next_action() == Action::HighWatermark && action == Action::HighWatermark {
            // It was not enough: followers are behind, or not all are in sync.
            self.link.forget_metadata_of(Instant::now()).await;
            self.wait_until(Instant::now() + HIGH_WATERMARK_EVERY)
                .await?;
            self.refresh_leader().await;
        }
        Ok(())
    }

    fn take_no_answer(&mut self, no_answer: NoAnswer) {
        match no_answer {
            NoAnswer::Call(CallError::Refused { code, .. }) | NoAnswer::Refused(code) => {
                if refusal::is_about_leadership(code) {
                    self.rest();
                    self.disconnected();
                } else {
                    self.trouble(
                        format!("the cluster refuses a question: {code}"),
                        code.remedy(),
                    );
                    self.stream.handle_request_refused();
                }
            }
            NoAnswer::Call(error) => {
                self.trouble(with_causes(&error), None);
                self.rest();
                self.disconnected();
            }
            NoAnswer::Missing => {
                self.trouble(
                    "the broker's answer leaves our partition out".to_owned(),
                    None,
                );
                self.rest();
                self.disconnected();
            }
        }
    }

    /// Looks whether the leader and its replicas are as before.
    async fn refresh_leader(&mut self) {
        match self.link.leader(self.place.target, &self.place.topic).await {
            Ok(leader)
                if self
                    .leader
                    .as_ref()
                    .is_some_and(|before| before.epoch == leader.epoch) =>
            {
                self.leader = Some(leader);
            }
            _ => self.disconnected(),
        }
    }

    async fn ask_epoch_end(&mut self, leader: &Leader) -> Result<(), NoAnswer> {
        let Some(epoch) = leader.epoch else {
            // Brokers before 2.1 have no epochs; the high watermark is all there is to go by.
            let end = self.high_watermark(leader).await?;
            self.stream.handle_epoch_end(end);
            return Ok(());
        };
        let question = OffsetForLeaderEpoch {
            topic: Arc::clone(self.link.topic_name()),
            partition: self.place.target,
            current_leader_epoch: Some(epoch),
            leader_epoch: epoch,
        };
        let answer = leader
            .connection
            .offset_for_leader_epoch(&[question])
            .await?;
        let found = answer
            .partitions
            .into_iter()
            .next()
            .ok_or(NoAnswer::Missing)?;
        let end = found.result?.end_offset.ok_or(NoAnswer::Missing)?;
        self.stream.handle_epoch_end(end);
        Ok(())
    }

    async fn ask_producers(&mut self, leader: &Leader) -> Result<(), NoAnswer> {
        let Some(producer) = self.stream.state().producer else {
            return Ok(());
        };
        let question = DescribeProducers {
            topic: Arc::clone(self.link.topic_name()),
            partition: self.place.target,
        };
        let answer = match leader.connection.describe_producers(&[question]).await {
            // Without the question, what was appended is read back.
            Err(CallError::Unsupported { .. }) => {
                self.stream.handle_producers(None);
                return Ok(());
            }
            answer => answer?,
        };
        let found = answer
            .partitions
            .into_iter()
            .next()
            .ok_or(NoAnswer::Missing)?;
        let active = found
            .producer(producer.id)
            .map_err(|refusal| refusal.code)?;
        let ours = active.filter(|active| active.producer_epoch == i32::from(producer.epoch));
        self.stream
            .handle_producers(ours.and_then(|active| active.last_sequence));
        Ok(())
    }

    async fn ask_high_watermark(&mut self, leader: &Leader) -> Result<(), NoAnswer> {
        let high_watermark = self.high_watermark(leader).await?;
        self.stream
            .handle_high_watermark(high_watermark, leader.all_in_sync);
        Ok(())
    }

    async fn high_watermark(&self, leader: &Leader) -> Result<i64, NoAnswer> {
        self.remote_offset(leader, OffsetAt::Latest).await
    }

    async fn remote_offset(&self, leader: &Leader, at: OffsetAt) -> Result<i64, NoAnswer> {
        let question = ListOffset {
            topic: Arc::clone(self.link.topic_name()),
            partition: self.place.target,
            current_leader_epoch: leader.epoch,
            at,
        };
        let answer = leader.connection.list_offsets(&[question]).await?;
        let found = answer
            .partitions
            .into_iter()
            .next()
            .ok_or(NoAnswer::Missing)?;
        found.result?.offset.ok_or(NoAnswer::Missing)
    }

    async fn ask_producer_id(&mut self, leader: &Leader) -> Result<(), NoAnswer> {
        let named = leader.connection.init_producer_id().await?;
        self.stream
            .handle_producer_id(named.producer_id, named.producer_epoch);
        Ok(())
    }

    /// Retention upstream has taken where we wanted to begin. What is in doubt may still be behind
    /// that: records of others lie in between.
    async fn scan_from_log_start(
        &mut self,
        leader: &Leader,
        from: i64,
        to: i64,
    ) -> Result<(), NoAnswer> {
        let log_start = self.remote_offset(leader, OffsetAt::Earliest).await?;
        self.trouble(
            "the topic may no longer hold what was in doubt: some records may be there twice"
                .to_owned(),
            Some("give the topic a longer retention than the longest outage"),
        );
        let up_to = if log_start > from { log_start } else { to };
        self.stream.handle_scanned(up_to.min(to), None);
        Ok(())
    }

    async fn scan(&mut self, leader: &Leader, from: i64, to: i64) -> Result<(), NoAnswer> {
        let Some(producer) = self.stream.state().producer else {
            return Ok(());
        };
        let request = FetchRequest {
            max_wait: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: SCAN_BYTES,
            partitions: vec![FetchPartition {
                topic: Arc::clone(self.link.topic_name()),
                partition: self.place.target,
                offset: from,
                current_leader_epoch: leader.epoch,
                bytes_max: SCAN_BYTES,
            }],
        };
        let answer = leader.connection.fetch(&request).await?;
        let found = answer
            .partitions
            .into_iter()
            .next()
            .ok_or(NoAnswer::Missing)?;
        let fetched = match found.result {
            Err(ErrorCode::OFFSET_OUT_OF_RANGE) => {
                return self.scan_from_log_start(leader, from, to).await;
            }
            result => result?,
        };
        let (mut up_to, mut last) = (from, None);
        for batch in batches(fetched.records) {
            let Ok(batch) = batch else { break };
            let header = batch.header();
            let Producer { id, epoch, .. } = producer;
            if header.producer_id == id && header.producer_epoch == epoch {
                last = Some(header.last_sequence());
            }
            up_to = header.next_offset();
        }
        if up_to == from {
            // Nothing yet, although the high watermark is beyond it: not in a circle at full speed.
            sleep(HIGH_WATERMARK_EVERY).await;
        }
        self.stream.handle_scanned(up_to, last);
        Ok(())
    }
}
