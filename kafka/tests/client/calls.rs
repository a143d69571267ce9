//! Every request type once as it should be, and once refused.

use std::sync::Arc;
use std::time::Duration;

use kafka::messages::create_topics::{CreateTopicsRequest, NewTopic};
use kafka::messages::describe_producers::{ActiveProducer, DescribeProducers};
use kafka::messages::list_offsets::{ListOffset, ListedOffset, OffsetAt};
use kafka::messages::offset_for_leader_epoch::{EpochEnd, OffsetForLeaderEpoch};
use kafka::messages::produce::{ProducePartition, ProduceRequest};
use kafka::model::{ModelOptions, UnknownTopic};
use kafka::{Api, CallError, Connection, ErrorCode};
use record_batch::batches;

use crate::batch::{batch_at, values};
use crate::setup::{
    TOPIC, appended, connect, fetch, fetch_request, model, model_with, produce, refused, topic,
};

/// Now, for a model that has a real clock.
fn now_ms() -> i64 {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}

fn batch_now(sequence: i32, count: i32) -> bytes::Bytes {
    batch_at(7, 0, sequence, count, now_ms())
}

#[tokio::test]
async fn connecting_learns_the_versions_of_the_broker() {
    let (_model, connection) = model().await;
    for api in Api::ALL {
        assert!(connection.broker_versions(api).is_some(), "{api}");
    }
    assert!(connection.lost().is_none());
}

#[tokio::test]
async fn metadata_names_leader_epoch_and_identities() {
    let (model, connection) = model().await;
    let asked: [Arc<str>; 2] = [topic(), "nobody.made.this".into()];
    let metadata = connection.metadata(&asked).await.unwrap();
    assert_eq!(metadata.cluster_id.as_deref(), Some("model-cluster"));
    let found = metadata.topic(TOPIC).unwrap();
    assert!(found.topic_id.is_some());
    let partitions = found.partitions.as_ref().unwrap();
    assert_eq!(partitions.len(), 2);
    let first = &partitions[0];
    assert_eq!((first.partition, first.leader_epoch), (0, Some(0)));
    assert_eq!(
        (first.replica_count, first.isr_count, first.error),
        (1, 1, None)
    );
    let leader = metadata.broker(first.leader_id.unwrap()).unwrap();
    assert_eq!(leader.address(), model.address());

    let unknown = metadata.topic("nobody.made.this").unwrap();
    let expected = Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(unknown.partitions.clone(), expected);
    assert_eq!(
        model.partition_count("nobody.made.this"),
        0,
        "asking creates nothing"
    );
}

#[tokio::test]
async fn topic_id_changes_when_the_topic_is_made_anew() {
    let (model, connection) = model().await;
    let before = connection.metadata(&[topic()]).await.unwrap();
    model.recreate_topic(TOPIC, 3).unwrap();
    let after = connection.metadata(&[topic()]).await.unwrap();
    let id =
        |metadata: &kafka::messages::metadata::Metadata| metadata.topic(TOPIC).unwrap().topic_id;
    assert_ne!(id(&before), id(&after));
    assert_eq!(
        after
            .topic(TOPIC)
            .unwrap()
            .partitions
            .as_ref()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn unknown_topic_is_created_or_refused_as_configured() {
    let create = UnknownTopic::Create { partition_count: 3 };
    let options = ModelOptions {
        unknown_topic: create,
        ..ModelOptions::default()
    };
    let (model, connection) = model_with(options).await;
    connection
        .metadata(&["made.by.asking".into()])
        .await
        .unwrap();
    assert_eq!(model.partition_count("made.by.asking"), 3);
    let metadata = connection.metadata(&["not allowed!".into()]).await.unwrap();
    let expected = Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(metadata.topics[0].partitions.clone(), expected);

    let forbidden = UnknownTopic::Refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let options = ModelOptions {
        unknown_topic: forbidden,
        ..ModelOptions::default()
    };
    let (_model, connection) = model_with(options).await;
    let metadata = connection.metadata(&["secret".into()]).await.unwrap();
    let expected = Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(metadata.topics[0].partitions.clone(), expected);
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let (_model, connection) = model().await;
    let first = connection.init_producer_id().await.unwrap();
    let second = connection.init_producer_id().await.unwrap();
    assert_ne!(first.producer_id, second.producer_id);
    assert_eq!((first.producer_epoch, second.producer_epoch), (0, 0));
}

#[tokio::test]
async fn produced_batch_is_fetched_byte_by_byte() {
    let (model, connection) = model().await;
    let records = batch_now(0, 3);
    assert_eq!(appended(&connection, records.clone()).await, 0);
    assert_eq!(appended(&connection, batch_now(3, 2)).await, 3);
    let fetched = fetch(&connection, &fetch_request(0)).await.unwrap();
    assert_eq!(
        (fetched.high_watermark, fetched.log_start_offset),
        (5, Some(0))
    );
    let read: Vec<_> = batches(fetched.records)
        .map(|batch| batch.unwrap())
        .collect();
    assert_eq!(read.len(), 2);
    assert_eq!(
        read[0].as_bytes()[16..],
        records[16..],
        "all but offset and leader epoch"
    );
    assert_eq!(
        values(&model.records(TOPIC, 0)),
        ["7/0/0", "7/0/1", "7/0/2", "7/0/3", "7/0/4"]
    );
}

#[tokio::test]
async fn batches_for_several_partitions_are_judged_one_by_one() {
    let (_model, connection) = model().await;
    let partition = |topic: &str, partition, records| ProducePartition {
        topic: topic.into(),
        partition,
        records,
    };
    let request = ProduceRequest {
        timeout: Duration::from_secs(10),
        partitions: vec![
            partition(TOPIC, 1, batch_now(0, 2)),
            partition("nobody.made.this", 0, batch_now(0, 2)),
            partition(TOPIC, 0, batch_now(0, 1)),
            partition(TOPIC, 9, batch_now(0, 1)),
        ],
    };
    let response = connection.produce(&request).await.unwrap();
    assert_eq!(response.partitions.len(), 4);
    let result = |topic, partition| &response.partition(topic, partition).unwrap().result;
    assert_eq!(result(TOPIC, 0).as_ref().unwrap().base_offset, 0);
    assert_eq!(result(TOPIC, 1).as_ref().unwrap().base_offset, 0);
    for (topic, partition) in [(TOPIC, 9), ("nobody.made.this", 0)] {
        let refusal = &result(topic, partition).as_ref().unwrap_err().refusal;
        assert_eq!(*refusal, refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
}

async fn offset(
    connection: &Connection,
    current_leader_epoch: Option<i32>,
    at: OffsetAt,
) -> Result<ListedOffset, ErrorCode> {
    let asked = ListOffset {
        topic: topic(),
        partition: 0,
        current_leader_epoch,
        at,
    };
    connection.list_offsets(&[asked]).await.unwrap().partitions[0].result
}

#[tokio::test]
async fn offsets_are_listed_from_the_leader_of_the_epoch_only() {
    let (model, connection) = model().await;
    let timestamp_ms = now_ms() - 5000;
    appended(&connection, batch_at(7, 0, 0, 4, timestamp_ms)).await;
    model
        .with_partition(TOPIC, 0, |partition| partition.trim(1))
        .unwrap();
    let listed = |offset, timestamp_ms, leader_epoch| {
        Ok(ListedOffset {
            offset,
            timestamp_ms,
            leader_epoch,
        })
    };
    let earliest = offset(&connection, Some(0), OffsetAt::Earliest).await;
    assert_eq!(earliest, listed(Some(1), None, Some(0)));
    let latest = offset(&connection, None, OffsetAt::Latest).await;
    assert_eq!(latest, listed(Some(4), None, Some(0)));
    let by_time = offset(&connection, None, OffsetAt::TimestampMs(timestamp_ms)).await;
    assert_eq!(by_time, listed(Some(1), Some(timestamp_ms), Some(0)));
    let too_new = offset(&connection, None, OffsetAt::TimestampMs(timestamp_ms + 1)).await;
    assert_eq!(too_new, listed(None, None, None));

    model
        .with_partition(TOPIC, 0, |partition| partition.new_leader_epoch(None))
        .unwrap();
    let behind = offset(&connection, Some(0), OffsetAt::Latest).await;
    assert_eq!(behind, Err(ErrorCode::FENCED_LEADER_EPOCH));
    let ahead = offset(&connection, Some(2), OffsetAt::Latest).await;
    assert_eq!(ahead, Err(ErrorCode::UNKNOWN_LEADER_EPOCH));
}

#[tokio::test]
async fn fetch_is_refused_out_of_range_and_in_another_leader_epoch() {
    let (_model, connection) = model().await;
    let out_of_range = fetch(&connection, &fetch_request(7)).await;
    assert_eq!(out_of_range.unwrap_err(), ErrorCode::OFFSET_OUT_OF_RANGE);
    let mut request = fetch_request(0);
    request.partitions[0].current_leader_epoch = Some(1);
    let ahead = fetch(&connection, &request).await;
    assert_eq!(ahead.unwrap_err(), ErrorCode::UNKNOWN_LEADER_EPOCH);
}

#[tokio::test]
async fn fetch_waits_for_records_to_come() {
    let (model, connection) = model().await;
    let mut request = fetch_request(0);
    request.max_wait = Duration::from_secs(20);
    let other = connect(&model).await;
    let (fetched, offset) = tokio::join!(
        fetch(&connection, &request),
        appended(&other, batch_now(0, 1))
    );
    assert_eq!(offset, 0);
    assert_eq!(
        fetched.unwrap().high_watermark,
        1,
        "not empty, so it has waited"
    );
}

#[tokio::test]
async fn described_producers_are_those_that_wrote() {
    let (_model, connection) = model().await;
    let timestamp_ms = now_ms();
    appended(&connection, batch_at(7, 3, 100, 5, timestamp_ms)).await;
    let asked = [
        DescribeProducers {
            topic: topic(),
            partition: 0,
        },
        DescribeProducers {
            topic: topic(),
            partition: 5,
        },
    ];
    let described = connection.describe_producers(&asked).await.unwrap();
    let expected = ActiveProducer {
        producer_id: 7,
        producer_epoch: 3,
        last_sequence: Some(104),
        last_timestamp_ms: timestamp_ms,
        transaction_start_offset: None,
    };
    assert_eq!(described.partitions[0].producer(7), Ok(Some(expected)));
    assert_eq!(described.partitions[0].producer(8), Ok(None));
    let unknown = refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(described.partitions[1].producer(7), Err(&unknown));
}

#[tokio::test]
async fn end_of_leader_epoch_shows_truncation() {
    let (model, connection) = model().await;
    appended(&connection, batch_now(0, 2)).await;
    appended(&connection, batch_now(2, 2)).await;
    model
        .with_partition(TOPIC, 0, |partition| partition.new_leader_epoch(Some(2)))
        .unwrap();
    let ask = async |current_leader_epoch, leader_epoch| {
        let asked = OffsetForLeaderEpoch {
            topic: topic(),
            partition: 0,
            current_leader_epoch,
            leader_epoch,
        };
        connection
            .offset_for_leader_epoch(&[asked])
            .await
            .unwrap()
            .partitions[0]
            .result
    };
    let end = |leader_epoch, end_offset| {
        Ok(EpochEnd {
            leader_epoch,
            end_offset,
        })
    };
    assert_eq!(ask(Some(1), 0).await, end(Some(0), Some(2)));
    assert_eq!(ask(Some(1), 1).await, end(Some(1), Some(2)));
    assert_eq!(ask(None, 7).await, end(None, None));
    assert_eq!(ask(Some(0), 0).await, Err(ErrorCode::FENCED_LEADER_EPOCH));
}

#[tokio::test]
async fn topics_are_created_once() {
    let (model, connection) = model().await;
    let topic = |name: &str, partition_count| NewTopic {
        name: name.into(),
        partition_count,
        replication_factor: 1,
        configs: vec![("retention.ms".to_owned(), "1000".to_owned())],
    };
    let request = CreateTopicsRequest {
        timeout: Duration::from_secs(10),
        topics: vec![
            topic("new", 4),
            topic(TOPIC, 1),
            topic("none", 0),
            topic("huge", 9999),
        ],
    };
    let created = connection.create_topics(&request).await.unwrap();
    let code = |index: usize| {
        created.topics[index]
            .result
            .as_ref()
            .map(|_| ())
            .map_err(|refusal| refusal.code)
    };
    assert!(
        created.topics[0].result.as_ref().unwrap().is_some(),
        "has a topic id"
    );
    assert_eq!(model.partition_count("new"), 4);
    assert_eq!(code(1), Err(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(code(2), Err(ErrorCode::INVALID_PARTITIONS));
    assert_eq!(code(3), Err(ErrorCode::POLICY_VIOLATION));
}

#[tokio::test]
async fn refused_batch_names_its_code() {
    let (_model, connection) = model().await;
    appended(&connection, batch_now(0, 2)).await;
    let gap = produce(&connection, batch_now(5, 1)).await.unwrap();
    assert_eq!(gap, Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    let resent = produce(&connection, batch_now(0, 2)).await.unwrap();
    assert_eq!(
        resent.unwrap().base_offset,
        0,
        "a duplicate has the first copy's offset"
    );
}

/// From the oldest version that the client speaks to the newest, one step at a time.
#[tokio::test]
async fn every_version_of_every_request_is_spoken() {
    let oldest = [
        (Api::Produce, 7),
        (Api::Fetch, 10),
        (Api::ListOffsets, 4),
        (Api::Metadata, 7),
        (Api::ApiVersions, 0),
        (Api::CreateTopics, 5),
        (Api::InitProducerId, 0),
        (Api::OffsetForLeaderEpoch, 2),
        (Api::DescribeProducers, 0),
    ];
    for step in 0..6 {
        let mut options = ModelOptions::default();
        for (api, version) in oldest {
            let range = options.versions.get_mut(&api).unwrap();
            range.max = range.max.min(version + step);
        }
        let (_model, connection) = model_with(options).await;
        let metadata = connection.metadata(&[topic()]).await.unwrap();
        assert_eq!(metadata.topic(TOPIC).unwrap().topic_id.is_some(), step >= 3);
        let producer = connection.init_producer_id().await.unwrap();
        let records = batch_at(
            producer.producer_id,
            producer.producer_epoch,
            0,
            2,
            now_ms(),
        );
        assert_eq!(appended(&connection, records).await, 0);
        let fetched = fetch(&connection, &fetch_request(0)).await.unwrap();
        assert_eq!(batches(fetched.records).count(), 1);
        let latest = offset(&connection, Some(0), OffsetAt::Latest)
            .await
            .unwrap();
        assert_eq!(latest.offset, Some(2));
        let asked = [OffsetForLeaderEpoch {
            topic: topic(),
            partition: 0,
            current_leader_epoch: Some(0),
            leader_epoch: 0,
        }];
        let ends = connection.offset_for_leader_epoch(&asked).await.unwrap();
        assert_eq!(ends.partitions[0].result.unwrap().end_offset, Some(2));
        let new = NewTopic {
            name: "new".into(),
            partition_count: 1,
            replication_factor: 1,
            configs: Vec::new(),
        };
        let request = CreateTopicsRequest {
            timeout: Duration::from_secs(10),
            topics: vec![new],
        };
        let created = connection.create_topics(&request).await.unwrap();
        assert_eq!(
            created.topics[0].result.as_ref().unwrap().is_some(),
            step >= 2
        );
    }
}

#[tokio::test]
async fn request_that_the_broker_does_not_know_is_not_sent() {
    let mut options = ModelOptions::default();
    options.versions.remove(&Api::DescribeProducers);
    let (model, connection) = model_with(options).await;
    let asked = [DescribeProducers {
        topic: topic(),
        partition: 0,
    }];
    let error = connection.describe_producers(&asked).await.unwrap_err();
    assert!(
        matches!(error, CallError::Unsupported { theirs: None, .. }),
        "{error:?}"
    );
    assert_eq!(model.counters().requests, 1, "ApiVersions only");
}

#[tokio::test]
async fn both_sides_count_the_same_bytes() {
    let (model, connection) = model().await;
    appended(&connection, batch_now(0, 50)).await;
    fetch(&connection, &fetch_request(0)).await.unwrap();
    let (ours, theirs) = (connection.traffic(), model.traffic());
    assert_eq!(ours.sent_bytes(), theirs.received_bytes());
    assert_eq!(ours.received_bytes(), theirs.sent_bytes());
    assert!(ours.sent_bytes() > 1000);
}
