//! The model towards other Kafka clients: it answers every request type in every version that it
//! offers, as the codecs of `kafka-protocol` read and write them.

use bytes::{Buf, Bytes, BytesMut};
use kafka::model::ModelHandle;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::batch::batch_at;
use crate::setup::{TOPIC, model};

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// Sends one request in one version and decodes the answer, which must have nothing behind it.
async fn ask<R: Request>(model: &ModelHandle, version: i16, request: R) -> R::Response {
    let mut stream = TcpStream::connect(model.address()).await.unwrap();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("foreign")));
    let mut frame = BytesMut::new();
    header
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    stream
        .write_i32(i32::try_from(frame.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&frame).await.unwrap();
    let length = stream.read_i32().await;
    let length = length.unwrap_or_else(|error| panic!("key {} version {version}: {error}", R::KEY));
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    let mut answer = Bytes::from(answer);
    let header_version = R::Response::header_version(version);
    let header = ResponseHeader::decode(&mut answer, header_version).unwrap();
    assert_eq!(header.correlation_id, 77);
    let response = R::Response::decode(&mut answer, version).unwrap();
    assert!(!answer.has_remaining(), "key {} version {version}", R::KEY);
    response
}

#[tokio::test]
async fn produce_and_fetch_are_answered_in_every_version() {
    let (model, _connection) = model().await;
    for version in 3..=9 {
        let data = produce_request::PartitionProduceData::default()
            .with_records(Some(batch_at(-1, -1, -1, 1, -1)));
        let topic = produce_request::TopicProduceData::default()
            .with_name(name())
            .with_partition_data(vec![data]);
        for acks in [-1, 1, 7] {
            let request = ProduceRequest::default()
                .with_acks(acks)
                .with_topic_data(vec![topic.clone()]);
            let response = ask(&model, version, request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, if acks == 7 { 21 } else { 0 });
        }
    }
    for version in 4..=12 {
        let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(9999);
        let topic = fetch_request::FetchTopic::default()
            .with_topic(name())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_bytes(9999)
            .with_topics(vec![topic]);
        let response = ask(&model, version, request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 14));
        assert!(partition.records.as_ref().unwrap().len() > 14 * 61);
    }
    let session = FetchRequest::default().with_session_id(5);
    assert_eq!(ask(&model, 12, session).await.error_code, 70, "no sessions");
}

#[tokio::test]
async fn offsets_and_epochs_are_answered_in_every_version() {
    let (model, _connection) = model().await;
    for version in 1..=6 {
        for timestamp in [-2, -1, 0] {
            let partition =
                list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = list_offsets_request::ListOffsetsTopic::default()
                .with_name(name())
                .with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_topics(vec![topic]);
            let response = ask(&model, version, request).await;
            let partition = &response.topics[0].partitions[0];
            let expected = if timestamp == 0 { -1 } else { 0 };
            assert_eq!((partition.error_code, partition.offset), (0, expected));
        }
    }
    for version in 2..=4 {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
        let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(name())
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let response = ask(&model, version, request).await;
        assert_eq!(response.topics[0].partitions[0].end_offset, 0);
    }
}

#[tokio::test]
async fn cluster_requests_are_answered_in_every_version() {
    let (model, _connection) = model().await;
    for version in 0..=12 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let response = ask(&model, version, MetadataRequest::default().with_topics(all)).await;
        assert_eq!(response.topics.len(), 1);
        assert_eq!(response.topics[0].partitions.len(), 2);
    }
    for version in 0..=3 {
        let response = ask(&model, version, ApiVersionsRequest::default()).await;
        assert_eq!((response.error_code, response.api_keys.len()), (0, 9));
    }
    for version in 0..=4 {
        let response = ask(&model, version, InitProducerIdRequest::default()).await;
        assert_eq!(response.error_code, 53, "no transactions");
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        assert!(ask(&model, version, request).await.producer_id.0 > 0);
    }
    for version in 2..=7 {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(format!(
                "made.in.version.{version}"
            ))))
            .with_num_partitions(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        assert_eq!(ask(&model, version, request).await.topics[0].error_code, 0);
    }
}

/// The refusal of a version comes in version 0, whatever version was asked.
#[tokio::test]
async fn unknown_version_of_api_versions_is_refused_in_version_0() {
    let (model, _connection) = model().await;
    let mut stream = TcpStream::connect(model.address()).await.unwrap();
    // Key 18, version 99, correlation id 5, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff];
    stream.write_all(&request).await.unwrap();
    let length = usize::try_from(stream.read_i32().await.unwrap()).unwrap();
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.unwrap();
    let mut answer = Bytes::from(answer).split_off(4);
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!((response.error_code, response.api_keys.len()), (35, 9));
}

#[tokio::test]
async fn connection_is_closed_when_a_request_makes_no_sense() {
    let (model, connection) = model().await;
    let senseless: [&[u8]; 5] = [
        // An unknown key, an unknown version, a client id beyond the end, a body of the wrong
        // layout, a length beyond the limit.
        &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 5, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 5, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 3, 0, 5, 0, 0, 0, 5, 0x7f, 0xff],
        &[
            0, 0, 0, 14, 0, 3, 0, 5, 0, 0, 0, 5, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
        ],
        &[0x7f, 0xff, 0xff, 0xff, 0],
    ];
    for request in senseless {
        let mut stream = TcpStream::connect(model.address()).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset, but nothing is said.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"", "{request:?}");
    }
    connection.init_producer_id().await.unwrap();
}
