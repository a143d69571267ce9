//! Metadata: brokers, topics, and who leads which partition in which leader epoch.
//!
//! Versions: 7 is the first with leader epochs ([KIP-320]), without which nothing that is asked of
//! a leader can be trusted; 10 to 12 carry topic ids ([KIP-516]), which some imitators lack. 13
//! only adds an error for the whole response.
//!
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation
//! [KIP-516]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-516%3A+Topic+Identifiers

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest as WireRequest, MetadataResponse};

use super::{Message, TopicId, text, throttle, topic_name, unless_negative};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{BOOL, Field, I16, I32, Layout, UUID};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 9,
    fields: &[
        Field::Since(3, &I32),
        Field::Array(&[I32, Field::Text, I32, Field::Since(1, &Field::Text)]),
        Field::Since(2, &Field::Text),
        Field::Since(1, &I32),
        Field::Array(&[
            I16,
            Field::Text,
            Field::Since(10, &UUID),
            Field::Since(1, &BOOL),
            Field::Array(&[
                I16,
                I32,
                I32,
                Field::Since(7, &I32),
                Field::Numbers(4),
                Field::Numbers(4),
                Field::Since(5, &Field::Numbers(4)),
            ]),
            Field::Since(8, &I32),
        ]),
        Field::Since(8, &Field::Until(10, &I32)),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 9,
    fields: &[
        Field::Array(&[Field::Since(10, &UUID), Field::Text]),
        Field::Since(4, &BOOL),
        Field::Since(8, &Field::Until(10, &BOOL)),
        Field::Since(8, &BOOL),
    ],
};

struct MetadataRequest<'a> {
    topics: &'a [Arc<str>],
}

/// The cluster as one broker sees it.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// Identity of the cluster.
    pub cluster_id: Option<String>,
    /// The brokers that are up.
    pub brokers: Vec<BrokerMetadata>,
    /// The topics asked for.
    pub topics: Vec<TopicMetadata>,
}

/// Where a broker listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BrokerMetadata {
    /// Its node id.
    pub node_id: i32,
    /// The name that it gave for itself.
    pub host: String,
    /// The port that it gave for itself.
    pub port: u16,
}

impl BrokerMetadata {
    /// The address as [`Connection::connect`] takes it.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A topic, or why there is none.
#[derive(Clone, Debug)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its identity, from brokers that know topic ids.
    pub topic_id: Option<TopicId>,
    /// Its partitions in the order of their numbers, or the broker's refusal.
    pub partitions: Result<Vec<PartitionMetadata>, ErrorCode>,
}

/// Who leads a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// Node id of the leader; none while there is none.
    pub leader_id: Option<i32>,
    /// Counts the changes of leadership; unknown on brokers before 2.1.
    pub leader_epoch: Option<i32>,
    /// Replicas that the partition should have.
    pub replica_count: usize,
    /// Replicas that are in sync with the leader, itself included.
    pub isr_count: usize,
    /// What the broker has to say against the partition, for example that it has no leader.
    pub error: Option<ErrorCode>,
}

impl Metadata {
    /// The topic called `name`.
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// The broker with this node id.
    pub fn broker(&self, node_id: i32) -> Option<&BrokerMetadata> {
        self.brokers.iter().find(|broker| broker.node_id == node_id)
    }
}

impl Message for MetadataRequest<'_> {
    const API: Api = Api::Metadata;
    const VERSIONS: VersionRange = VersionRange { min: 7, max: 12 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = Metadata;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let topic =
            |name: &Arc<str>| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        WireRequest::default()
            .with_topics(Some(self.topics.iter().map(topic).collect()))
            // Asking must not create what was only misspelt.
            .with_allow_auto_topic_creation(false)
    }

    fn from_wire(wire: MetadataResponse) -> Result<Metadata, MessageError> {
        // A port beyond 65535 is no address: such a broker is left out, its partitions stay.
        let brokers = wire.brokers.into_iter().filter_map(|broker| {
            Some(BrokerMetadata {
                node_id: broker.node_id.0,
                host: broker.host.to_string(),
                port: u16::try_from(broker.port).ok()?,
            })
        });
        Ok(Metadata {
            throttle: throttle(wire.throttle_time_ms),
            cluster_id: text(wire.cluster_id),
            brokers: brokers.collect(),
            topics: wire.topics.into_iter().map(topic_from_wire).collect(),
        })
    }
}

fn topic_from_wire(wire: MetadataResponseTopic) -> TopicMetadata {
    let mut partitions: Vec<_> = wire.partitions.iter().map(partition_from_wire).collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicMetadata {
        name: wire.name.map(|name| name.0.to_string()).unwrap_or_default(),
        topic_id: TopicId::from_wire(wire.topic_id),
        partitions: ErrorCode(wire.error_code).ok().map(|()| partitions),
    }
}

fn partition_from_wire(wire: &MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        partition: wire.partition_index,
        leader_id: unless_negative(wire.leader_id.0),
        leader_epoch: unless_negative(wire.leader_epoch),
        replica_count: wire.replica_nodes.len(),
        isr_count: wire.isr_nodes.len(),
        error: ErrorCode(wire.error_code).ok().err(),
    }
}

impl Connection {
    /// Asks about `topics`; no topic is created by asking.
    ///
    /// # Errors
    /// See [`CallError`]; a topic that is unknown or forbidden is no error here but in its place.
    pub async fn metadata(&self, topics: &[Arc<str>]) -> Result<Metadata, CallError> {
        self.call(&MetadataRequest { topics }).await
    }
}
