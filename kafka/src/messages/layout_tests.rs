//! Every layout against the codec that it protects: what the codec writes, the layout accepts; what
//! the layout accepts, the codec reads without a panic.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::decode_checked;
use crate::layout::{Layout, LayoutError};

fn text() -> StrBytes {
    StrBytes::from_static_str("text")
}

fn name() -> TopicName {
    TopicName(text())
}

/// Tags that no version of the message knows.
fn tags() -> BTreeMap<i32, Bytes> {
    BTreeMap::from([(90, Bytes::from_static(b"tagged")), (91, Bytes::new())])
}

/// A message in all its versions: encoded with and without unknown tags, and decoded again.
struct Sample {
    what: &'static str,
    layout: &'static Layout,
    versions: std::ops::RangeInclusive<i16>,
    encode: Box<dyn Fn(i16, bool) -> Bytes>,
    decode: fn(&Layout, Bytes, i16) -> Result<(), crate::ResponseError>,
}

fn decode<D: Decodable>(
    layout: &Layout,
    bytes: Bytes,
    version: i16,
) -> Result<(), crate::ResponseError> {
    decode_checked::<D>(layout, bytes, version).map(drop)
}

fn sample<M: Encodable + Decodable + 'static>(
    what: &'static str,
    layout: &'static Layout,
    versions: std::ops::RangeInclusive<i16>,
    build: impl Fn(i16, BTreeMap<i32, Bytes>) -> M + 'static,
) -> Sample {
    let encode = move |version: i16, tagged: bool| {
        let flexible = version >= layout.flexible_from;
        let tags = if tagged && flexible {
            tags()
        } else {
            BTreeMap::new()
        };
        let mut bytes = BytesMut::new();
        build(version, tags).encode(&mut bytes, version).unwrap();
        bytes.freeze()
    };
    Sample {
        what,
        layout,
        versions,
        encode: Box::new(encode),
        decode: decode::<M>,
    }
}

fn produce() -> [Sample; 2] {
    use produce_request::{PartitionProduceData, TopicProduceData};
    use produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let partition = PartitionProduceData::default()
            .with_records(Some(Bytes::from_static(b"batch")))
            .with_unknown_tagged_fields(tags.clone());
        let topic = TopicProduceData::default()
            .with_name(name())
            .with_partition_data(vec![partition.clone(), partition])
            .with_unknown_tagged_fields(tags.clone());
        ProduceRequest::default()
            .with_topic_data(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let response = |version, tags: BTreeMap<i32, Bytes>| {
        let mut partition =
            PartitionProduceResponse::default().with_unknown_tagged_fields(tags.clone());
        if version >= 8 {
            let record =
                BatchIndexAndErrorMessage::default().with_batch_index_error_message(Some(text()));
            partition = partition
                .with_error_message(Some(text()))
                .with_record_errors(vec![record]);
        }
        let topic = TopicProduceResponse::default()
            .with_name(name())
            .with_partition_responses(vec![partition])
            .with_unknown_tagged_fields(tags.clone());
        ProduceResponse::default()
            .with_responses(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    [
        sample("Produce request", &super::produce::REQUEST, 3..=9, request),
        sample(
            "Produce response",
            &super::produce::RESPONSE,
            3..=9,
            response,
        ),
    ]
}

fn fetch() -> [Sample; 2] {
    use fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    use fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
        PartitionData, SnapshotId,
    };
    let request = |version, tags: BTreeMap<i32, Bytes>| {
        let topic = FetchTopic::default()
            .with_topic(name())
            .with_partitions(vec![FetchPartition::default(); 3])
            .with_unknown_tagged_fields(tags.clone());
        let mut request = FetchRequest::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags);
        if version >= 7 {
            let forgotten = ForgottenTopic::default()
                .with_topic(name())
                .with_partitions(vec![1, 2]);
            request = request.with_forgotten_topics_data(vec![forgotten]);
        }
        if version >= 11 {
            request = request.with_rack_id(text());
        }
        if version >= 12 {
            request = request.with_cluster_id(Some(text()));
        }
        request
    };
    let response = |version, tags: BTreeMap<i32, Bytes>| {
        let mut partition = PartitionData::default()
            .with_aborted_transactions(Some(vec![AbortedTransaction::default()]))
            .with_records(Some(Bytes::from_static(b"batch")))
            .with_unknown_tagged_fields(tags.clone());
        if version >= 12 {
            partition = partition
                .with_diverging_epoch(EpochEndOffset::default().with_epoch(1))
                .with_current_leader(LeaderIdAndEpoch::default().with_leader_epoch(1))
                .with_snapshot_id(SnapshotId::default().with_epoch(1));
        }
        let topic = FetchableTopicResponse::default()
            .with_topic(name())
            .with_partitions(vec![partition, PartitionData::default().with_records(None)]);
        FetchResponse::default()
            .with_responses(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    [
        sample("Fetch request", &super::fetch::REQUEST, 4..=12, request),
        sample("Fetch response", &super::fetch::RESPONSE, 4..=12, response),
    ]
}

fn list_offsets() -> [Sample; 2] {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = ListOffsetsTopic::default()
            .with_name(name())
            .with_partitions(vec![ListOffsetsPartition::default(); 2])
            .with_unknown_tagged_fields(tags.clone());
        ListOffsetsRequest::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let response = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = ListOffsetsTopicResponse::default()
            .with_name(name())
            .with_partitions(vec![ListOffsetsPartitionResponse::default(); 2])
            .with_unknown_tagged_fields(tags.clone());
        ListOffsetsResponse::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    [
        sample(
            "ListOffsets request",
            &super::list_offsets::REQUEST,
            1..=6,
            request,
        ),
        sample(
            "ListOffsets response",
            &super::list_offsets::RESPONSE,
            1..=6,
            response,
        ),
    ]
}

fn metadata() -> [Sample; 2] {
    use metadata_request::MetadataRequestTopic;
    use metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = MetadataRequestTopic::default()
            .with_name(Some(name()))
            .with_unknown_tagged_fields(tags.clone());
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_unknown_tagged_fields(tags)
    };
    let response = |_, tags: BTreeMap<i32, Bytes>| {
        let broker = MetadataResponseBroker::default()
            .with_host(text())
            .with_rack(Some(text()));
        let partition = MetadataResponsePartition::default()
            .with_replica_nodes(vec![1.into(), 2.into()])
            .with_isr_nodes(vec![1.into()])
            .with_unknown_tagged_fields(tags.clone());
        let topic = MetadataResponseTopic::default()
            .with_name(Some(name()))
            .with_partitions(vec![partition; 2])
            .with_unknown_tagged_fields(tags.clone());
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text()))
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    [
        sample(
            "Metadata request",
            &super::metadata::REQUEST,
            0..=12,
            request,
        ),
        sample(
            "Metadata response",
            &super::metadata::RESPONSE,
            0..=12,
            response,
        ),
    ]
}

fn create_topics() -> [Sample; 2] {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    use create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let config = CreatableTopicConfig::default()
            .with_name(text())
            .with_value(Some(text()));
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![1.into()]);
        let topic = CreatableTopic::default()
            .with_name(name())
            .with_assignments(vec![assignment])
            .with_configs(vec![config])
            .with_unknown_tagged_fields(tags.clone());
        CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let response = |version, tags: BTreeMap<i32, Bytes>| {
        let mut topic = CreatableTopicResult::default()
            .with_name(name())
            .with_error_message(Some(text()))
            .with_unknown_tagged_fields(tags.clone());
        if version >= 5 {
            let config = CreatableTopicConfigs::default()
                .with_name(text())
                .with_value(Some(text()));
            topic = topic
                .with_configs(Some(vec![config]))
                .with_topic_config_error_code(29);
        }
        CreateTopicsResponse::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    [
        sample(
            "CreateTopics request",
            &super::create_topics::REQUEST,
            2..=7,
            request,
        ),
        sample(
            "CreateTopics response",
            &super::create_topics::RESPONSE,
            2..=7,
            response,
        ),
    ]
}

fn offset_for_leader_epoch() -> [Sample; 2] {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name())
            .with_partitions(vec![OffsetForLeaderPartition::default(); 2])
            .with_unknown_tagged_fields(tags.clone());
        OffsetForLeaderEpochRequest::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let response = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = OffsetForLeaderTopicResult::default()
            .with_topic(name())
            .with_partitions(vec![EpochEndOffset::default(); 2])
            .with_unknown_tagged_fields(tags.clone());
        OffsetForLeaderEpochResponse::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let layouts = (
        &super::offset_for_leader_epoch::REQUEST,
        &super::offset_for_leader_epoch::RESPONSE,
    );
    [
        sample("OffsetForLeaderEpoch request", layouts.0, 2..=4, request),
        sample("OffsetForLeaderEpoch response", layouts.1, 2..=4, response),
    ]
}

fn describe_producers() -> [Sample; 2] {
    use describe_producers_request::TopicRequest;
    use describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
    let request = |_, tags: BTreeMap<i32, Bytes>| {
        let topic = TopicRequest::default()
            .with_name(name())
            .with_partition_indexes(vec![0, 1])
            .with_unknown_tagged_fields(tags.clone());
        DescribeProducersRequest::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let response = |_, tags: BTreeMap<i32, Bytes>| {
        let partition = PartitionResponse::default()
            .with_error_message(Some(text()))
            .with_active_producers(vec![ProducerState::default(); 2])
            .with_unknown_tagged_fields(tags.clone());
        let topic = TopicResponse::default()
            .with_name(name())
            .with_partitions(vec![partition]);
        DescribeProducersResponse::default()
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    let layouts = (
        &super::describe_producers::REQUEST,
        &super::describe_producers::RESPONSE,
    );
    [
        sample("DescribeProducers request", layouts.0, 0..=0, request),
        sample("DescribeProducers response", layouts.1, 0..=0, response),
    ]
}

fn init_producer_id() -> [Sample; 2] {
    let request = |_, tags| {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text())))
            .with_unknown_tagged_fields(tags)
    };
    let response = |_, tags| InitProducerIdResponse::default().with_unknown_tagged_fields(tags);
    let layouts = (
        &super::init_producer_id::REQUEST,
        &super::init_producer_id::RESPONSE,
    );
    [
        sample("InitProducerId request", layouts.0, 0..=4, request),
        sample("InitProducerId response", layouts.1, 0..=4, response),
    ]
}

fn api_versions() -> [Sample; 2] {
    use api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
    let request = |version, tags| {
        let request = ApiVersionsRequest::default().with_unknown_tagged_fields(tags);
        if version < 3 {
            return request;
        }
        request
            .with_client_software_name(text())
            .with_client_software_version(text())
    };
    let response = |version, tags: BTreeMap<i32, Bytes>| {
        let api = ApiVersion::default().with_unknown_tagged_fields(tags.clone());
        let response = ApiVersionsResponse::default()
            .with_api_keys(vec![api; 3])
            .with_unknown_tagged_fields(tags);
        if version < 3 {
            return response;
        }
        response
            .with_supported_features(vec![SupportedFeatureKey::default().with_name(text()); 2])
            .with_finalized_features(vec![FinalizedFeatureKey::default().with_name(text())])
            .with_finalized_features_epoch(7)
            .with_zk_migration_ready(true)
    };
    [
        sample(
            "ApiVersions request",
            &super::api_versions::REQUEST,
            0..=3,
            request,
        ),
        sample(
            "ApiVersions response",
            &super::api_versions::RESPONSE,
            0..=3,
            response,
        ),
    ]
}

fn samples() -> Vec<Sample> {
    [
        produce(),
        fetch(),
        list_offsets(),
        metadata(),
        create_topics(),
        offset_for_leader_epoch(),
        describe_producers(),
        init_producer_id(),
        api_versions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn layout_accepts_what_the_codec_writes_and_nothing_shorter_or_longer() {
    for sample in samples() {
        for version in sample.versions.clone() {
            for tagged in [false, true] {
                let what = format!("{} version {version}, tags {tagged}", sample.what);
                let bytes = (sample.encode)(version, tagged);
                assert_eq!(
                    (sample.decode)(sample.layout, bytes.clone(), version),
                    Ok(()),
                    "{what}"
                );
                for cut in 0..bytes.len() {
                    let result = sample.layout.check(&bytes[..cut], version);
                    assert!(result.is_err(), "{what}, cut at {cut}");
                }
                let longer = [&bytes[..], &[0]].concat();
                let trailing = LayoutError::Trailing {
                    trailing_bytes: 1,
                    at_byte: bytes.len(),
                };
                assert_eq!(
                    sample.layout.check(&longer, version),
                    Err(trailing),
                    "{what}"
                );
            }
        }
    }
}

/// Without the layout the decoder would reserve room for two thousand million elements here.
#[test]
fn huge_array_length_is_refused_before_anything_is_reserved() {
    for sample in samples() {
        for version in sample.versions.clone() {
            let bytes = (sample.encode)(version, false);
            for at in 0..bytes.len().saturating_sub(4) {
                let mut hostile = bytes.to_vec();
                hostile[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
                let _ = (sample.decode)(sample.layout, Bytes::from(hostile), version);
                let mut hostile = bytes.to_vec();
                hostile.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
                let _ = (sample.decode)(sample.layout, Bytes::from(hostile), version);
            }
        }
    }
}

#[test]
fn structures_are_counted() {
    // InitProducerId with more tagged fields than any message has.
    let mut bytes = vec![0; 4 + 2 + 8 + 2];
    bytes.extend_from_slice(&[0xff, 0xff, 0x7f]);
    bytes.resize(bytes.len() + 3 * 70_000, 0);
    let result = super::init_producer_id::RESPONSE.check(&bytes, 2);
    assert!(
        matches!(result, Err(LayoutError::TooMany { .. })),
        "{result:?}"
    );
}

#[test]
fn tagged_field_is_refused_when_its_length_is_not_that_of_its_type() {
    // ApiVersions: no error, no request types, no throttling, one tag.
    let with_tag = |tag: &[u8]| [&[0, 0, 1, 0, 0, 0, 0, 1], tag].concat();
    let check = |tag: &[u8]| super::api_versions::RESPONSE.check(&with_tag(tag), 3);
    // Tag 1 is a 64-bit number, tag 9 is unknown.
    assert_eq!(check(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(()));
    assert_eq!(check(&[9, 3, 0, 0, 0]), Ok(()));
    for (length, bytes) in [(9, 9), (7, 8), (0, 8), (100, 8)] {
        let tag = [vec![1, length], vec![0; bytes]].concat();
        let result = check(&tag);
        assert!(
            matches!(result, Err(LayoutError::Length { .. })),
            "{length}: {result:?}"
        );
    }
}

proptest! {
    #[test]
    fn damaged_message_is_refused_or_read(
        pick in any::<proptest::sample::Index>(),
        version in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<u8>()),
            1..6,
        ),
    ) {
        let samples = samples();
        let sample = &samples[pick.index(samples.len())];
        let versions: Vec<_> = sample.versions.clone().collect();
        let version = versions[version.index(versions.len())];
        let mut bytes = (sample.encode)(version, true).to_vec();
        // Some requests have no body in their first versions.
        let empty = bytes.is_empty();
        for (at, value) in changes.into_iter().filter(|_| !empty) {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = (sample.decode)(sample.layout, Bytes::from(bytes), version);
    }
}
