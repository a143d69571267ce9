//! The model's faults, one by one, as the client sees them.

use std::time::Duration;

use bytes::Bytes;
use kafka::model::partition::{PartitionOptions, Tampering};
use kafka::model::{ModelHandle, ModelOptions, ProduceFault};
use kafka::{CallError, Connection, ConnectionOptions, ErrorCode, Lost};

use crate::batch::{batch_at, values};
use crate::setup::{
    TOPIC, appended, begun, connect, ended, model, model_with, produce, produce_request, topic,
};

/// Batches with no timestamp, so that the model's clock does not matter.
fn batch(sequence: i32, count: i32) -> Bytes {
    batch_at(7, 0, sequence, count, -1)
}

fn stored(model: &ModelHandle) -> Vec<String> {
    values(&model.records(TOPIC, 0))
}

#[tokio::test]
async fn refused_batches_are_not_appended() {
    let (model, connection) = model().await;
    let fault = ProduceFault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS);
    model.inject(TOPIC, 0, fault, 2);
    for _ in 0..2 {
        let refused = produce(&connection, batch(0, 1)).await.unwrap();
        assert_eq!(refused, Err(ErrorCode::NOT_ENOUGH_REPLICAS));
    }
    assert_eq!(appended(&connection, batch(0, 1)).await, 0);
    let counters = model.counters();
    assert_eq!(
        (counters.batches, counters.batches_refused, counters.faults),
        (3, 2, 2)
    );
    assert_eq!(
        (counters.batches_appended, counters.records_appended),
        (1, 1)
    );
}

#[tokio::test]
async fn batch_stands_when_it_is_refused_after_the_append() {
    let (model, connection) = model().await;
    let code = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    model.inject(TOPIC, 0, ProduceFault::RefuseAfterAppend(code), 1);
    assert_eq!(produce(&connection, batch(0, 1)).await.unwrap(), Err(code));
    assert_eq!(stored(&model), ["7/0/0"]);
    assert_eq!(appended(&connection, batch(0, 1)).await, 0, "a duplicate");
    assert_eq!(model.counters().batches_duplicate, 1);
}

#[tokio::test]
async fn cut_connection_leaves_the_batch_in_doubt() {
    let (model, connection) = model().await;
    model.inject(TOPIC, 0, ProduceFault::CutAfterAppend, 1);
    model.inject(TOPIC, 0, ProduceFault::CutBeforeAppend, 1);
    let error = produce(&connection, batch(0, 1)).await.unwrap_err();
    assert!(error.is_in_doubt(), "{error:?}");
    assert_eq!(
        stored(&model),
        ["7/0/0"],
        "appended, though there is no answer"
    );

    let connection = connect(&model).await;
    let error = produce(&connection, batch(1, 1)).await.unwrap_err();
    assert!(error.is_in_doubt(), "{error:?}");
    assert_eq!(stored(&model), ["7/0/0"], "not appended");
}

#[tokio::test]
async fn late_answer_comes_and_holds_up_those_behind_it() {
    let (model, connection) = model().await;
    model.inject(
        TOPIC,
        0,
        ProduceFault::AnswerLate(Duration::from_millis(100)),
        1,
    );
    let late = begun(&connection, batch(0, 1), Duration::from_secs(30)).await;
    let metadata = connection.metadata(&[topic()]).await;
    metadata.unwrap();
    assert_eq!(
        late.await.unwrap().partitions[0]
            .result
            .as_ref()
            .unwrap()
            .base_offset,
        0
    );
}

#[tokio::test]
async fn tampering_is_seen_by_counting_only() {
    let (model, connection) = model().await;
    model.inject(TOPIC, 0, ProduceFault::Tamper(Tampering::DropRecord), 1);
    model.inject(
        TOPIC,
        0,
        ProduceFault::Tamper(Tampering::DuplicateRecord),
        1,
    );
    for sequence in [0, 2, 4] {
        produce(&connection, batch(sequence, 2))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        stored(&model),
        ["7/0/1", "7/0/2", "7/0/2", "7/0/3", "7/0/4", "7/0/5"]
    );
    assert_eq!(
        model.counters().records_appended,
        6,
        "as the producer counts"
    );
    assert_eq!(model.counters().faults, 2);
}

#[tokio::test]
async fn tampering_waits_for_a_batch_that_is_new() {
    let (model, connection) = model().await;
    appended(&connection, batch(0, 1)).await;
    model.inject(
        TOPIC,
        0,
        ProduceFault::Tamper(Tampering::DuplicateRecord),
        1,
    );
    appended(&connection, batch(0, 1)).await;
    produce(&connection, batch(7, 1))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(model.counters().faults, 0);
    appended(&connection, batch(1, 1)).await;
    assert_eq!(stored(&model), ["7/0/0", "7/0/1", "7/0/1"]);
}

#[tokio::test]
async fn faults_that_have_not_struck_can_be_taken_back() {
    let (model, connection) = model().await;
    model.inject(
        TOPIC,
        0,
        ProduceFault::Refuse(ErrorCode::REQUEST_TIMED_OUT),
        5,
    );
    produce(&connection, batch(0, 1))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(model.clear_faults(), 4);
    appended(&connection, batch(0, 1)).await;
}

#[tokio::test]
async fn refused_topic_is_refused_until_it_is_not() {
    let (model, connection) = model().await;
    model.refuse_topic(TOPIC, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let refused = produce(&connection, batch(0, 1)).await.unwrap();
    assert_eq!(refused, Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let metadata = connection.metadata(&[topic()]).await.unwrap();
    assert!(metadata.topic(TOPIC).unwrap().partitions.is_err());
    model.refuse_topic(TOPIC, ErrorCode::NONE);
    appended(&connection, batch(0, 1)).await;
}

#[tokio::test]
async fn broker_comes_back_at_its_address_in_a_new_leader_epoch() {
    let (model, connection) = model().await;
    for sequence in 0..3 {
        appended(&connection, batch(sequence, 1)).await;
    }
    model.stop().await;
    assert!(!model.is_running());
    ended(&connection).await;
    let refused = Connection::connect(&model.address(), ConnectionOptions::default()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&model.address()), "{text}");

    model.restart().await.unwrap();
    let connection = connect(&model).await;
    let metadata = connection.metadata(&[topic()]).await.unwrap();
    let partitions = metadata.topic(TOPIC).unwrap().partitions.clone().unwrap();
    assert_eq!(partitions[0].leader_epoch, Some(2));
    assert_eq!(
        appended(&connection, batch(2, 1)).await,
        2,
        "the last batch is remembered"
    );
    let older = produce(&connection, batch(1, 1)).await.unwrap();
    assert_eq!(
        older,
        Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        "the others are not"
    );
    assert_eq!(stored(&model).len(), 3);
}

#[tokio::test]
async fn lost_producer_states_let_a_second_copy_in() {
    let (model, connection) = model().await;
    appended(&connection, batch(0, 1)).await;
    model.stop().await;
    model.lose_producer_states();
    model.restart().await.unwrap();
    let connection = connect(&model).await;
    assert_eq!(appended(&connection, batch(0, 1)).await, 1);
    assert_eq!(stored(&model), ["7/0/0", "7/0/0"]);
}

#[tokio::test]
async fn cut_connections_end_and_new_ones_are_accepted() {
    let (model, connection) = model().await;
    model.cut_connections();
    ended(&connection).await;
    let connection = connect(&model).await;
    appended(&connection, batch(0, 1)).await;
    assert_eq!(model.counters().connections, 2);
}

#[tokio::test]
async fn nothing_is_left_when_the_last_handle_goes() {
    let (model, connection) = model().await;
    let address = model.address();
    drop(model.clone());
    connection.init_producer_id().await.unwrap();
    drop(model);
    ended(&connection).await;
    Connection::connect(&address, ConnectionOptions::default())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn delayed_broker_answers_all_the_same() {
    let (model, connection) = model().await;
    model.delay(Duration::from_millis(50));
    appended(&connection, batch(0, 1)).await;
    model.delay(Duration::ZERO);
    appended(&connection, batch(1, 1)).await;
}

#[tokio::test]
async fn stalled_broker_lets_requests_time_out_and_carries_them_out_later() {
    let (model, connection) = model().await;
    let accepted = connect(&model).await;
    model.stall();
    let pending = begun(&connection, batch(0, 1), Duration::from_millis(50)).await;
    let behind = begun(&connection, batch(1, 1), Duration::from_secs(60)).await;
    let error = pending.await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    assert!(
        error.to_string().contains("not answered within 50 ms"),
        "{error}"
    );
    let error = behind.await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Lost {
                sent: true,
                source: Lost::TimedOut { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        connection.lost().is_some(),
        "answers would come in the wrong order"
    );
    assert_eq!(stored(&model).len(), 0);

    // The old request was read before the client gave up, and is carried out when the broker wakes.
    let mut changed = model.counters();
    model.resume();
    while changed.batches == 0 {
        tokio::task::yield_now().await;
        changed = model.counters();
    }
    assert_eq!(
        appended(&accepted, batch(0, 1)).await,
        0,
        "a duplicate of it"
    );
}

fn lagging() -> ModelOptions {
    let partition = PartitionOptions {
        high_watermark_lags: true,
        ..PartitionOptions::default()
    };
    ModelOptions {
        partition,
        ..ModelOptions::default()
    }
}

#[tokio::test]
async fn acknowledgement_waits_for_the_high_watermark() {
    let (model, connection) = model_with(lagging()).await;
    let pending = begun(&connection, batch(0, 3), Duration::from_secs(30)).await;
    // The append is done as soon as it can be seen; the answer is not there yet.
    while stored(&model).is_empty() {
        tokio::task::yield_now().await;
    }
    model
        .with_partition(TOPIC, 0, |partition| partition.advance_high_watermark(2))
        .unwrap();
    model
        .with_partition(TOPIC, 0, |partition| partition.advance_high_watermark(3))
        .unwrap();
    let response = pending.await.unwrap();
    assert_eq!(
        response.partitions[0].result.as_ref().unwrap().base_offset,
        0
    );
}

#[tokio::test]
async fn acknowledgement_fails_when_the_high_watermark_stays_or_the_leader_goes() {
    let (model, connection) = model_with(lagging()).await;
    let mut request = produce_request(batch(0, 3));
    request.timeout = Duration::from_millis(30);
    let response = connection.produce(&request).await.unwrap();
    let refusal = response.partitions[0].result.clone().unwrap_err();
    assert_eq!(refusal.refusal.code, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(stored(&model).len(), 3, "it stands all the same");

    let pending = begun(&connection, batch(3, 1), Duration::from_secs(30)).await;
    while stored(&model).len() < 4 {
        tokio::task::yield_now().await;
    }
    model
        .with_partition(TOPIC, 0, |partition| partition.new_leader_epoch(Some(3)))
        .unwrap();
    let response = pending.await.unwrap();
    let refusal = response.partitions[0].result.clone().unwrap_err();
    assert_eq!(refusal.refusal.code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(stored(&model).len(), 3, "the new leader did not have it");
}

#[tokio::test]
async fn batch_is_refused_when_the_model_is_full() {
    let options = ModelOptions {
        bytes_max: 1000,
        ..ModelOptions::default()
    };
    let (model, connection) = model_with(options).await;
    let mut sequence = 0;
    while let Ok(Ok(_)) = produce(&connection, batch(sequence, 1)).await {
        sequence += 1;
        assert!(
            sequence < 100,
            "a hundred batches do not fit a thousand bytes"
        );
    }
    let refused = produce(&connection, batch(sequence, 1)).await.unwrap();
    assert_eq!(refused, Err(ErrorCode::KAFKA_STORAGE_ERROR));
    assert!(sequence > 1);
    model
        .with_partition(TOPIC, 0, |partition| partition.trim(2))
        .unwrap();
    appended(&connection, batch(sequence, 1)).await;
}

#[tokio::test]
async fn producers_expire_by_the_timestamps_of_their_batches() {
    let (model, connection) = model().await;
    appended(&connection, batch_at(7, 0, 0, 1, 0)).await;
    model.expire_producers(86_400_000);
    let known = model.with_partition(TOPIC, 0, |partition| partition.producer(7).is_some());
    assert_eq!(known, Some(false));
}
