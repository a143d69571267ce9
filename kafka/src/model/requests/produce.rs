//! Produce: the partitions judge, the faults strike, and the answer waits for the high watermark.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, Received};
use crate::error_code::ErrorCode;
use crate::messages;
use crate::model::faults::ProduceFault;
use crate::model::node::{Outcome, Produced};
use crate::model::server::Shared;

const ACKS_ALL: i16 = -1;

/// A partition of the request and what became of its batch.
struct Done {
    topic: TopicName,
    partition: i32,
    produced: Produced,
}

pub(super) async fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::produce::REQUEST;
    let Some(request) = received.body::<ProduceRequest>(layout) else {
        return Answer::Cut;
    };
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let acks = request.acks;
    let mut done = append(shared, request);
    for one in &done {
        match one.produced.fault {
            Some(ProduceFault::CutAfterAppend | ProduceFault::CutBeforeAppend) => {
                return Answer::Cut;
            }
            Some(ProduceFault::AnswerLate(late)) => sleep(late).await,
            _ => {}
        }
    }
    if acks == ACKS_ALL {
        wait_for_high_watermarks(shared, &mut done, deadline).await;
    }
    if acks == 0 {
        return Answer::Silence;
    }
    let mut topics: Vec<TopicProduceResponse> = Vec::new();
    for one in done {
        let response = partition_response(one.partition, &one.produced.outcome);
        match topics.last_mut() {
            Some(last) if last.name == one.topic => last.partition_responses.push(response),
            _ => topics.push(
                TopicProduceResponse::default()
                    .with_name(one.topic)
                    .with_partition_responses(vec![response]),
            ),
        }
    }
    received.reply(&ProduceResponse::default().with_responses(topics))
}

/// Hands every batch to its partition, all under one lock.
fn append(shared: &Shared, request: ProduceRequest) -> Vec<Done> {
    let mut done = Vec::new();
    let mut node = shared.node();
    let now_ms = shared.now_ms();
    for topic in request.topic_data {
        for data in topic.partition_data {
            let produced = if (ACKS_ALL..=1).contains(&request.acks) {
                // Null is no batch, as an empty buffer is.
                let records = data.records.unwrap_or_else(Bytes::new);
                node.produce(&topic.name.0, data.index, &records, now_ms)
            } else {
                let outcome = Outcome::Refused(ErrorCode::INVALID_REQUIRED_ACKS);
                Produced {
                    outcome,
                    fault: None,
                }
            };
            done.push(Done {
                topic: topic.name.clone(),
                partition: data.index,
                produced,
            });
        }
    }
    drop(node);
    shared.announce_change();
    done
}

/// Waits until every appended batch is below its high watermark. At the deadline the others are
/// refused with 7, and with 6 as soon as the leader epoch has changed: both leave open whether they
/// stand.
async fn wait_for_high_watermarks(shared: &Shared, done: &mut [Done], deadline: Instant) {
    let mut changes = shared.changes();
    loop {
        changes.mark_unchanged();
        let mut waiting = false;
        for one in done.iter_mut() {
            match replicated(shared, one) {
                Ok(true) => {}
                Ok(false) => waiting = true,
                Err(code) => one.produced.outcome = Outcome::Refused(code),
            }
        }
        if !waiting {
            return;
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            break;
        }
    }
    for one in done.iter_mut() {
        if let Ok(false) = replicated(shared, one) {
            one.produced.outcome = Outcome::Refused(ErrorCode::REQUEST_TIMED_OUT);
        }
    }
}

fn replicated(shared: &Shared, one: &Done) -> Result<bool, ErrorCode> {
    let Outcome::Appended {
        appended,
        leader_epoch,
        ..
    } = one.produced.outcome
    else {
        return Ok(true);
    };
    let mut node = shared.node();
    let partition = node.partition(&one.topic.0, one.partition, None)?;
    if partition.leader_epoch() != leader_epoch {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    Ok(partition.high_watermark() > appended.last_offset)
}

fn partition_response(partition: i32, outcome: &Outcome) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(partition);
    match outcome {
        Outcome::Appended {
            appended,
            log_start_offset,
            ..
        } => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(*log_start_offset),
        Outcome::Refused(code) => response
            .with_error_code(code.0)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1),
    }
}
