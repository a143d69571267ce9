//! OffsetForLeaderEpoch: where the records of a leader epoch end, by which a client finds out that
//! a log was truncated ([KIP-101], [KIP-320]). With the current leader epoch in the request it also
//! proves that who answers is the leader of that epoch.
//!
//! Versions: 2 is the first with the current leader epoch; 3 says that a client asks, not a
//! replica; 4 is the flexible form and the newest.
//!
//! [KIP-101]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-101+-+Alter+Replication+Protocol+to+use+Leader+Epoch+rather+than+High+Watermark+for+Truncation
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest as WireRequest, OffsetForLeaderEpochResponse,
};

use super::{Message, by_topic, throttle, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{Field, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 4,
    fields: &[
        I32,
        Field::Array(&[Field::Text, Field::Array(&[I16, I32, I32, I64])]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 4,
    fields: &[
        Field::Since(3, &I32),
        Field::Array(&[Field::Text, Field::Array(&[I32, I32, I32])]),
    ],
};

/// A question about one partition.
#[derive(Clone, Debug)]
pub struct OffsetForLeaderEpoch {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
    /// The epoch in which the asked broker is believed to lead; it refuses if it knows better.
    pub current_leader_epoch: Option<i32>,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// The answers, partition by partition.
#[derive(Clone, Debug)]
pub struct EpochEnds {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub partitions: Vec<EpochEndPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug)]
pub struct EpochEndPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// The end, or why it is not told.
    pub result: Result<EpochEnd, ErrorCode>,
}

/// Where an epoch ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// The epoch asked for, or the last one before it that has records.
    pub leader_epoch: Option<i32>,
    /// The first offset after that epoch: the log end for the epoch that is still being written.
    /// None if the leader does not know the epoch.
    pub end_offset: Option<i64>,
}

struct OffsetForLeaderEpochRequest<'a>(&'a [OffsetForLeaderEpoch]);

impl Message for OffsetForLeaderEpochRequest<'_> {
    const API: Api = Api::OffsetForLeaderEpoch;
    const VERSIONS: VersionRange = VersionRange { min: 2, max: 4 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = EpochEnds;

    fn to_wire(&self, version: i16) -> WireRequest {
        let partition = |asked: &OffsetForLeaderEpoch| {
            OffsetForLeaderPartition::default()
                .with_partition(asked.partition)
                .with_current_leader_epoch(asked.current_leader_epoch.unwrap_or(-1))
                .with_leader_epoch(asked.leader_epoch)
        };
        let topics = by_topic(self.0, |asked| &asked.topic, partition);
        let topic = |(name, partitions)| {
            OffsetForLeaderTopic::default()
                .with_topic(name)
                .with_partitions(partitions)
        };
        let request = WireRequest::default().with_topics(topics.map(topic).collect());
        if version < 3 {
            return request;
        }
        request.with_replica_id((-1).into())
    }

    fn from_wire(wire: OffsetForLeaderEpochResponse) -> Result<EpochEnds, MessageError> {
        let partitions = wire.topics.into_iter().flat_map(|topic| {
            let name = topic.topic.0;
            topic
                .partitions
                .into_iter()
                .map(move |partition| EpochEndPartition {
                    topic: name.to_string(),
                    partition: partition.partition,
                    result: result_from_wire(&partition),
                })
        });
        Ok(EpochEnds {
            throttle: throttle(wire.throttle_time_ms),
            partitions: partitions.collect(),
        })
    }
}

fn result_from_wire(wire: &EpochEndOffset) -> Result<EpochEnd, ErrorCode> {
    ErrorCode(wire.error_code).ok()?;
    Ok(EpochEnd {
        leader_epoch: unless_negative(wire.leader_epoch),
        end_offset: unless_negative(wire.end_offset),
    })
}

impl Connection {
    /// Asks the leader of the partitions where epochs end.
    ///
    /// # Errors
    /// See [`CallError`]; a refused partition is no error here but in its place.
    pub async fn offset_for_leader_epoch(
        &self,
        asked: &[OffsetForLeaderEpoch],
    ) -> Result<EpochEnds, CallError> {
        self.call(&OffsetForLeaderEpochRequest(asked)).await
    }
}
