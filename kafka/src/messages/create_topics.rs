//! CreateTopics: for the demonstration and for tests; the product creates nothing by itself.
//!
//! Versions: 5 is the first that answers with the number of partitions ([KIP-525]) and the first
//! flexible one; 7 answers with the topic id ([KIP-516]) and is the newest.
//!
//! [KIP-516]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-516%3A+Topic+Identifiers
//! [KIP-525]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-525+-+Return+topic+metadata+and+configs+in+CreateTopics+response

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest as WireRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Message, Refusal, TopicId, millis, text, throttle, topic_name};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{BOOL, Field, I8, I16, I32, Layout, UUID};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 5,
    fields: &[
        I32,
        Field::Array(&[
            Field::Text,
            Field::Since(7, &UUID),
            I16,
            Field::Text,
            Field::Since(5, &I32),
            Field::Since(5, &I16),
            Field::Since(
                5,
                &Field::Array(&[Field::Text, Field::Text, BOOL, I8, BOOL]),
            ),
            Field::Tags(&[(0, &[I16])]),
        ]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 5,
    fields: &[
        Field::Array(&[
            Field::Text,
            I32,
            I16,
            Field::Array(&[I32, Field::Numbers(4)]),
            Field::Array(&[Field::Text, Field::Text]),
        ]),
        I32,
        BOOL,
    ],
};

/// Topics to create.
#[derive(Clone, Debug)]
pub struct CreateTopicsRequest {
    /// How long the broker may wait until the topics are there.
    pub timeout: Duration,
    /// The topics.
    pub topics: Vec<NewTopic>,
}

/// A topic to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions.
    pub partition_count: i32,
    /// On how many brokers each partition is kept.
    pub replication_factor: i16,
    /// Settings, name and value.
    pub configs: Vec<(String, String)>,
}

/// The outcome, topic by topic.
#[derive(Clone, Debug)]
pub struct CreatedTopics {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// In the broker's order.
    pub topics: Vec<CreatedTopic>,
}

/// The outcome for one topic.
#[derive(Clone, Debug)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its identity, from brokers that know topic ids, or why it was not created.
    pub result: Result<Option<TopicId>, Refusal>,
}

impl Message for CreateTopicsRequest {
    const API: Api = Api::CreateTopics;
    const VERSIONS: VersionRange = VersionRange { min: 5, max: 7 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = CreatedTopics;

    fn to_wire(&self, _version: i16) -> WireRequest {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let topic = |topic: &NewTopic| {
            CreatableTopic::default()
                .with_name(topic_name(&topic.name))
                .with_num_partitions(topic.partition_count)
                .with_replication_factor(topic.replication_factor)
                .with_configs(topic.configs.iter().map(config).collect())
        };
        WireRequest::default()
            .with_timeout_ms(millis(self.timeout))
            .with_topics(self.topics.iter().map(topic).collect())
    }

    fn from_wire(wire: CreateTopicsResponse) -> Result<CreatedTopics, MessageError> {
        Ok(CreatedTopics {
            throttle: throttle(wire.throttle_time_ms),
            topics: wire.topics.into_iter().map(topic_from_wire).collect(),
        })
    }
}

fn topic_from_wire(wire: CreatableTopicResult) -> CreatedTopic {
    let result = ErrorCode(wire.error_code)
        .ok()
        .map(|()| TopicId::from_wire(wire.topic_id));
    CreatedTopic {
        name: wire.name.0.to_string(),
        result: result.map_err(|code| Refusal {
            code,
            message: text(wire.error_message),
        }),
    }
}

impl Connection {
    /// Creates topics; any broker can be asked.
    ///
    /// # Errors
    /// See [`CallError`]; a topic that cannot be created is no error here but in its place.
    pub async fn create_topics(
        &self,
        request: &CreateTopicsRequest,
    ) -> Result<CreatedTopics, CallError> {
        self.call(request).await
    }
}
