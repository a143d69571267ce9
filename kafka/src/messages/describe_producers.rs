//! DescribeProducers: what the leader of a partition remembers about the producers that wrote to it
//! ([KIP-664]). It is the leader's append state: the last sequence may stand above the high
//! watermark.
//!
//! Versions: there is only 0, in Apache Kafka since 2.8.
//!
//! [KIP-664]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-664%3A+Provide+tooling+to+detect+and+abort+hanging+transactions

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::{
    DescribeProducersRequest as WireRequest, DescribeProducersResponse,
};

use super::{Message, Refusal, by_topic, text, throttle, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{Field, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 0,
    fields: &[
        I32,
        Field::Array(&[
            Field::Text,
            Field::Array(&[
                I32,
                I16,
                Field::Text,
                Field::Array(&[I64, I32, I32, I64, I32, I64]),
            ]),
        ]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 0,
    fields: &[Field::Array(&[Field::Text, Field::Numbers(4)])],
};

/// A partition asked about.
#[derive(Clone, Debug)]
pub struct DescribeProducers {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
}

/// The answers, partition by partition.
#[derive(Clone, Debug)]
pub struct DescribedProducers {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub partitions: Vec<DescribedPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug)]
pub struct DescribedPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// The producers that the leader remembers, or why it does not say.
    pub result: Result<Vec<ActiveProducer>, Refusal>,
}

/// What the leader remembers about one producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// The epoch of its last batch.
    pub producer_epoch: i32,
    /// The sequence of its last record; none if only a transaction marker is remembered.
    pub last_sequence: Option<i32>,
    /// The max timestamp of its last batch, from which its expiry is counted.
    pub last_timestamp_ms: i64,
    /// Where its open transaction begins, if it has one.
    pub transaction_start_offset: Option<i64>,
}

impl DescribedPartition {
    /// What the leader remembers about `producer_id`.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn producer(&self, producer_id: i64) -> Result<Option<ActiveProducer>, &Refusal> {
        let producers = self.result.as_ref()?;
        Ok(producers
            .iter()
            .find(|producer| producer.producer_id == producer_id)
            .copied())
    }
}

struct DescribeProducersRequest<'a>(&'a [DescribeProducers]);

impl Message for DescribeProducersRequest<'_> {
    const API: Api = Api::DescribeProducers;
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 0 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = DescribedProducers;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let topics = by_topic(self.0, |asked| &asked.topic, |asked| asked.partition);
        let topic = |(name, partitions)| {
            TopicRequest::default()
                .with_name(name)
                .with_partition_indexes(partitions)
        };
        WireRequest::default().with_topics(topics.map(topic).collect())
    }

    fn from_wire(wire: DescribeProducersResponse) -> Result<DescribedProducers, MessageError> {
        let partitions = wire.topics.into_iter().flat_map(|topic| {
            let name = topic.name.0;
            topic
                .partitions
                .into_iter()
                .map(move |partition| DescribedPartition {
                    topic: name.to_string(),
                    partition: partition.partition_index,
                    result: result_from_wire(partition),
                })
        });
        Ok(DescribedProducers {
            throttle: throttle(wire.throttle_time_ms),
            partitions: partitions.collect(),
        })
    }
}

fn result_from_wire(wire: PartitionResponse) -> Result<Vec<ActiveProducer>, Refusal> {
    if let Err(code) = ErrorCode(wire.error_code).ok() {
        return Err(Refusal {
            code,
            message: text(wire.error_message),
        });
    }
    let producers = wire.active_producers.iter().map(|producer| ActiveProducer {
        producer_id: producer.producer_id.0,
        producer_epoch: producer.producer_epoch,
        last_sequence: unless_negative(producer.last_sequence),
        last_timestamp_ms: producer.last_timestamp,
        transaction_start_offset: unless_negative(producer.current_txn_start_offset),
    });
    Ok(producers.collect())
}

impl Connection {
    /// Asks the leader of the partitions about their producers.
    ///
    /// # Errors
    /// See [`CallError`], in particular [`CallError::Unsupported`]: several imitators do not know
    /// this request. A refused partition is no error here but in its place.
    pub async fn describe_producers(
        &self,
        asked: &[DescribeProducers],
    ) -> Result<DescribedProducers, CallError> {
        self.call(&DescribeProducersRequest(asked)).await
    }
}
