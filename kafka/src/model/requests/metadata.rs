//! Metadata: this one broker leads everything.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Answer, Received};
use crate::error_code::ErrorCode;
use crate::messages::{self, topic_name};
use crate::model::node::{NODE_ID, Node};
use crate::model::server::Shared;

pub(super) fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::metadata::REQUEST;
    let Some(request) = received.body::<MetadataRequest>(layout) else {
        return Answer::Cut;
    };
    let mut node = shared.node();
    // Null asks for all topics, and so does an empty list in version 0.
    let all = request
        .topics
        .as_ref()
        .is_none_or(|topics| received.version == 0 && topics.is_empty());
    let names: Vec<Option<String>> = if all {
        node.topics.keys().cloned().map(Some).collect()
    } else {
        let topics = request.topics.unwrap_or_default();
        topics
            .into_iter()
            .map(|topic| name_of(&node, topic))
            .collect()
    };
    let topics = names.into_iter().map(|name| match name {
        Some(name) => topic_metadata(&mut node, &name),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
            .with_name(None),
    });
    let topics = topics.collect();
    let address = node.options.advertised.unwrap_or(shared.address);
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE_ID.into())
        .with_host(StrBytes::from_string(address.ip().to_string()))
        .with_port(address.port().into());
    let body = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(node.options.cluster_id.clone())))
        .with_controller_id(NODE_ID.into())
        .with_topics(topics);
    received.reply(&body)
}

/// The name asked for, or the name of the topic with the id asked for.
fn name_of(node: &Node, asked: MetadataRequestTopic) -> Option<String> {
    if let Some(name) = asked.name {
        return Some(name.0.to_string());
    }
    let id = asked.topic_id.into_bytes();
    let found = node.topics.iter().find(|(_, topic)| topic.id.0 == id);
    found.map(|(name, _)| name.clone())
}

fn topic_metadata(node: &mut Node, name: &str) -> MetadataResponseTopic {
    let response = MetadataResponseTopic::default().with_name(Some(topic_name(name)));
    let topic = match node.topic(name) {
        Ok(topic) => topic,
        Err(code) => return response.with_error_code(code.0),
    };
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID.into())
            .with_leader_epoch(partition.leader_epoch())
            .with_replica_nodes(vec![NODE_ID.into()])
            .with_isr_nodes(vec![NODE_ID.into()])
    });
    response
        .with_topic_id(uuid::Uuid::from_bytes(topic.id.0))
        .with_partitions(partitions.collect())
}
