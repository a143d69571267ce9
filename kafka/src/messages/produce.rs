//! Produce: appends one record batch to each of the partitions named, acknowledged by all replicas
//! in sync.
//!
//! Versions: 7 is the first that takes zstd ([KIP-110]); 8 adds what is wrong with which record
//! ([KIP-467]); 9 is the flexible form of it. 10 adds hints about a new leader, 11 and 12 concern
//! transactions, 13 replaces names by topic ids: none is used here.
//!
//! [KIP-110]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-110%3A+Add+Codec+for+ZStandard+Compression
//! [KIP-467]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-467%3A+Augment+ProduceResponse+error+messaging+for+specific+culprit+records

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest as WireRequest, ProduceResponse as WireResponse};

use super::{Message, Refusal, by_topic, millis, text, throttle, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError, Pending};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{Field, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 9,
    fields: &[
        Field::Array(&[
            Field::Text,
            Field::Array(&[
                I32,
                I16,
                I64,
                I64,
                Field::Since(5, &I64),
                Field::Since(8, &Field::Array(&[I32, Field::Text])),
                Field::Since(8, &Field::Text),
            ]),
        ]),
        I32,
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 9,
    fields: &[
        Field::Text,
        I16,
        I32,
        Field::Array(&[Field::Text, Field::Array(&[I32, Field::Blob])]),
    ],
};

/// What the broker waits for before it answers: all replicas in sync.
const ACKS_ALL: i16 = -1;

/// Batches to append.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// How long the broker may wait for its replicas. The time that the client waits for the answer
    /// must be longer.
    pub timeout: Duration,
    /// One batch for each partition; a partition may be named once.
    pub partitions: Vec<ProducePartition>,
}

/// The batch for one partition.
#[derive(Clone, Debug)]
pub struct ProducePartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
    /// One batch, as the `record-batch` crate builds it, with base offset 0.
    pub records: Bytes,
}

/// The outcome of a [`ProduceRequest`], partition by partition.
#[derive(Clone, Debug)]
pub struct ProduceResponse {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub partitions: Vec<ProducedPartition>,
}

/// The outcome for one partition.
#[derive(Clone, Debug)]
pub struct ProducedPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// Where the batch stands, or why it was refused.
    pub result: Result<Produced, ProduceRefusal>,
}

/// An appended batch, or one that had been appended before: the broker does not tell which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Produced {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Time of the append, if the topic stamps records with it.
    pub log_append_time_ms: Option<i64>,
    /// First offset that the partition still has.
    pub log_start_offset: Option<i64>,
}

/// A refused batch. [`ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND`] and
/// [`ErrorCode::REQUEST_TIMED_OUT`] leave open whether it stands.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{refusal}")]
pub struct ProduceRefusal {
    /// Code and text.
    pub refusal: Refusal,
    /// Which records are to blame, with the broker's text, where it says so.
    pub records: Vec<(i32, Option<String>)>,
}

impl ProduceResponse {
    /// The outcome for one partition of the request.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&ProducedPartition> {
        self.partitions
            .iter()
            .find(|found| found.partition == partition && found.topic == topic)
    }
}

impl Message for ProduceRequest {
    const API: Api = Api::Produce;
    const VERSIONS: VersionRange = VersionRange { min: 7, max: 9 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = ProduceResponse;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let partition = |data: &ProducePartition| {
            PartitionProduceData::default()
                .with_index(data.partition)
                .with_records(Some(data.records.clone()))
        };
        let topics = by_topic(&self.partitions, |data| &data.topic, partition);
        let topic = |(name, partitions)| {
            TopicProduceData::default()
                .with_name(name)
                .with_partition_data(partitions)
        };
        WireRequest::default()
            .with_acks(ACKS_ALL)
            .with_timeout_ms(millis(self.timeout))
            .with_topic_data(topics.map(topic).collect())
    }

    fn from_wire(wire: WireResponse) -> Result<ProduceResponse, MessageError> {
        let partitions = wire.responses.into_iter().flat_map(|topic| {
            let name = topic.name.0;
            topic
                .partition_responses
                .into_iter()
                .map(move |partition| ProducedPartition {
                    topic: name.to_string(),
                    partition: partition.index,
                    result: result_from_wire(partition),
                })
        });
        Ok(ProduceResponse {
            throttle: throttle(wire.throttle_time_ms),
            partitions: partitions.collect(),
        })
    }
}

fn result_from_wire(wire: PartitionProduceResponse) -> Result<Produced, ProduceRefusal> {
    if let Err(code) = ErrorCode(wire.error_code).ok() {
        let message = text(wire.error_message);
        let records = wire.record_errors.into_iter();
        return Err(ProduceRefusal {
            refusal: Refusal { code, message },
            records: records
                .map(|record| (record.batch_index, text(record.batch_index_error_message)))
                .collect(),
        });
    }
    Ok(Produced {
        base_offset: wire.base_offset,
        log_append_time_ms: unless_negative(wire.log_append_time_ms),
        log_start_offset: unless_negative(wire.log_start_offset),
    })
}

impl Connection {
    /// Appends the batches of `request` and waits for the outcome.
    ///
    /// # Errors
    /// See [`CallError`]; a refused batch is no error here but in its place.
    pub async fn produce(&self, request: &ProduceRequest) -> Result<ProduceResponse, CallError> {
        self.call(request).await
    }

    /// As [`Self::produce`], but returns as soon as `request` has its place behind all requests
    /// begun before it; the outcome comes from awaiting what is returned. `timeout` counts from
    /// then.
    ///
    /// # Errors
    /// See [`CallError`]; nothing was sent then.
    pub async fn begin_produce(
        &self,
        request: &ProduceRequest,
        timeout: Duration,
    ) -> Result<Pending<ProduceResponse>, CallError> {
        self.begin(request, timeout).await
    }
}
