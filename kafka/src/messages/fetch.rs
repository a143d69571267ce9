//! Fetch: reads record batches below the high watermark.
//!
//! Versions: 10 is the first that returns zstd batches ([KIP-110]) and, since 9, names the leader
//! epoch ([KIP-320]), so that a deposed leader cannot answer; 12 is the flexible form. From 13 on
//! names are replaced by topic ids. Fetch sessions (KIP-227) are not used: session id 0, epoch -1.
//!
//! [KIP-110]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-110%3A+Add+Codec+for+ZStandard+Compression
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition as WirePartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest as WireRequest, FetchResponse as WireResponse};

use super::{Message, by_topic, millis, throttle, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{Field, I8, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 12,
    fields: &[
        I32,
        Field::Since(7, &I16),
        Field::Since(7, &I32),
        Field::Array(&[
            Field::Text,
            Field::Array(&[
                I32,
                I16,
                I64,
                I64,
                Field::Since(5, &I64),
                Field::Array(&[I64, I64]),
                Field::Since(11, &I32),
                Field::Blob,
                Field::Tags(&[
                    (0, &[Field::Struct(&[I32, I64])]),
                    (1, &[Field::Struct(&[I32, I32])]),
                    (2, &[Field::Struct(&[I64, I32])]),
                ]),
            ]),
        ]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 12,
    fields: &[
        I32,
        I32,
        I32,
        I32,
        I8,
        Field::Since(7, &I32),
        Field::Since(7, &I32),
        Field::Array(&[
            Field::Text,
            Field::Array(&[
                I32,
                Field::Since(9, &I32),
                I64,
                Field::Since(12, &I32),
                Field::Since(5, &I64),
                I32,
            ]),
        ]),
        Field::Since(7, &Field::Array(&[Field::Text, Field::Numbers(4)])),
        Field::Since(11, &Field::Text),
        Field::Tags(&[(0, &[Field::Text])]),
    ],
};

/// Where to read and how much.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// How long the broker may wait for `bytes_min`. The time that the client waits for the answer
    /// must be longer.
    pub max_wait: Duration,
    /// The broker answers as soon as it has this much.
    pub bytes_min: i32,
    /// The broker stops adding batches here. The first batch comes whole, however large.
    pub bytes_max: i32,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// Where to read in one partition.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
    /// The first offset wanted. The batch that holds it comes whole.
    pub offset: i64,
    /// The epoch in which the asked broker is believed to lead; it refuses if it knows better.
    pub current_leader_epoch: Option<i32>,
    /// As in the request, for this partition.
    pub bytes_max: i32,
}

/// What was read, partition by partition.
#[derive(Clone, Debug)]
pub struct FetchResponse {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub partitions: Vec<FetchedPartition>,
}

/// What was read from one partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// The batches, or why there are none.
    pub result: Result<Fetched, ErrorCode>,
}

/// Batches and the state of their partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// First offset that is not yet on all replicas in sync.
    pub high_watermark: i64,
    /// First offset that the partition still has.
    pub log_start_offset: Option<i64>,
    /// Batches one after another; read them with `record_batch::batches`. The last may be cut
    /// short, the first may begin before the offset asked for.
    pub records: Bytes,
}

impl Message for FetchRequest {
    const API: Api = Api::Fetch;
    const VERSIONS: VersionRange = VersionRange { min: 10, max: 12 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = FetchResponse;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let partition = |asked: &FetchPartition| {
            WirePartition::default()
                .with_partition(asked.partition)
                .with_fetch_offset(asked.offset)
                .with_current_leader_epoch(asked.current_leader_epoch.unwrap_or(-1))
                .with_partition_max_bytes(asked.bytes_max)
        };
        let topics = by_topic(&self.partitions, |asked| &asked.topic, partition);
        let topic = |(name, partitions)| {
            FetchTopic::default()
                .with_topic(name)
                .with_partitions(partitions)
        };
        WireRequest::default()
            // Not a replica, but a client; transactions are not looked at.
            .with_replica_id((-1).into())
            .with_isolation_level(0)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_max_wait_ms(millis(self.max_wait))
            .with_min_bytes(self.bytes_min)
            .with_max_bytes(self.bytes_max)
            .with_topics(topics.map(topic).collect())
    }

    fn from_wire(wire: WireResponse) -> Result<FetchResponse, MessageError> {
        ErrorCode(wire.error_code)
            .ok()
            .map_err(MessageError::Refused)?;
        let partitions = wire.responses.into_iter().flat_map(|topic| {
            let name = topic.topic.0;
            topic
                .partitions
                .into_iter()
                .map(move |partition| FetchedPartition {
                    topic: name.to_string(),
                    partition: partition.partition_index,
                    result: result_from_wire(partition),
                })
        });
        Ok(FetchResponse {
            throttle: throttle(wire.throttle_time_ms),
            partitions: partitions.collect(),
        })
    }
}

fn result_from_wire(wire: PartitionData) -> Result<Fetched, ErrorCode> {
    ErrorCode(wire.error_code).ok()?;
    Ok(Fetched {
        high_watermark: wire.high_watermark,
        log_start_offset: unless_negative(wire.log_start_offset),
        records: wire.records.unwrap_or_default(),
    })
}

impl Connection {
    /// Reads from the leader of the partitions.
    ///
    /// # Errors
    /// See [`CallError`]; a refused partition is no error here but in its place.
    pub async fn fetch(&self, request: &FetchRequest) -> Result<FetchResponse, CallError> {
        self.call(request).await
    }
}
