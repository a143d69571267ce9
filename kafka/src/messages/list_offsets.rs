//! ListOffsets: where a partition begins and ends, and which offset a time belongs to.
//!
//! Versions: 4 is the first that names the leader epoch ([KIP-320]), so that a deposed leader
//! cannot answer; 6 is the flexible form of it. Later ones add other kinds of offsets.
//!
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{ListOffsetsRequest as WireRequest, ListOffsetsResponse};

use super::{Message, by_topic, throttle, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{Field, I8, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 6,
    fields: &[
        Field::Since(2, &I32),
        Field::Array(&[
            Field::Text,
            Field::Array(&[I32, I16, I64, I64, Field::Since(4, &I32)]),
        ]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 6,
    fields: &[
        I32,
        Field::Since(2, &I8),
        Field::Array(&[
            Field::Text,
            Field::Array(&[I32, Field::Since(4, &I32), I64]),
        ]),
    ],
};

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OffsetAt {
    /// The first offset that the partition still has.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record that is not older than this.
    TimestampMs(i64),
}

impl OffsetAt {
    const fn to_wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::TimestampMs(timestamp_ms) => timestamp_ms,
        }
    }
}

/// A question about one partition.
#[derive(Clone, Debug)]
pub struct ListOffset {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
    /// The epoch in which the asked broker is believed to lead; it refuses if it knows better.
    pub current_leader_epoch: Option<i32>,
    /// Which offset.
    pub at: OffsetAt,
}

/// The answers, partition by partition.
#[derive(Clone, Debug)]
pub struct ListedOffsets {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub partitions: Vec<ListedPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug)]
pub struct ListedPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// The offset, or why there is none.
    pub result: Result<ListedOffset, ErrorCode>,
}

/// An offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListedOffset {
    /// The offset; none if no record is as new as asked for.
    pub offset: Option<i64>,
    /// Timestamp of the record there, when a time was asked for.
    pub timestamp_ms: Option<i64>,
    /// Leader epoch in which the record there was appended.
    pub leader_epoch: Option<i32>,
}

struct ListOffsetsRequest<'a>(&'a [ListOffset]);

impl Message for ListOffsetsRequest<'_> {
    const API: Api = Api::ListOffsets;
    const VERSIONS: VersionRange = VersionRange { min: 4, max: 6 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = ListedOffsets;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let partition = |asked: &ListOffset| {
            ListOffsetsPartition::default()
                .with_partition_index(asked.partition)
                .with_current_leader_epoch(asked.current_leader_epoch.unwrap_or(-1))
                .with_timestamp(asked.at.to_wire())
        };
        let topics = by_topic(self.0, |asked| &asked.topic, partition);
        let topic = |(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(name)
                .with_partitions(partitions)
        };
        WireRequest::default()
            // Not a replica, but a client; transactions are not looked at.
            .with_replica_id((-1).into())
            .with_isolation_level(0)
            .with_topics(topics.map(topic).collect())
    }

    fn from_wire(wire: ListOffsetsResponse) -> Result<ListedOffsets, MessageError> {
        let partitions = wire.topics.into_iter().flat_map(|topic| {
            let name = topic.name.0;
            topic
                .partitions
                .into_iter()
                .map(move |partition| ListedPartition {
                    topic: name.to_string(),
                    partition: partition.partition_index,
                    result: result_from_wire(&partition),
                })
        });
        Ok(ListedOffsets {
            throttle: throttle(wire.throttle_time_ms),
            partitions: partitions.collect(),
        })
    }
}

fn result_from_wire(wire: &ListOffsetsPartitionResponse) -> Result<ListedOffset, ErrorCode> {
    ErrorCode(wire.error_code).ok()?;
    Ok(ListedOffset {
        offset: unless_negative(wire.offset),
        timestamp_ms: unless_negative(wire.timestamp),
        leader_epoch: unless_negative(wire.leader_epoch),
    })
}

impl Connection {
    /// Asks the leader of the partitions for offsets.
    ///
    /// # Errors
    /// See [`CallError`]; a refused partition is no error here but in its place.
    pub async fn list_offsets(&self, asked: &[ListOffset]) -> Result<ListedOffsets, CallError> {
        self.call(&ListOffsetsRequest(asked)).await
    }
}
