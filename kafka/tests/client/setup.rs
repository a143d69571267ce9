//! A model with a topic, a connection to it, and requests that most tests send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka::messages::Refusal;
use kafka::messages::fetch::{FetchPartition, FetchRequest, Fetched};
use kafka::messages::produce::{ProducePartition, ProduceRequest, ProduceResponse, Produced};
use kafka::model::{ModelHandle, ModelOptions};
use kafka::{CallError, Connection, ConnectionOptions, ErrorCode, Lost, Pending};

/// The topic that [`model`] makes, with two partitions.
pub(crate) const TOPIC: &str = "plant.telemetry";

pub(crate) fn topic() -> Arc<str> {
    TOPIC.into()
}

pub(crate) async fn model_with(options: ModelOptions) -> (ModelHandle, Connection) {
    let model = ModelHandle::start(options).await.unwrap();
    model.create_topic(TOPIC, 2).unwrap();
    let connection = connect(&model).await;
    (model, connection)
}

pub(crate) async fn model() -> (ModelHandle, Connection) {
    model_with(ModelOptions::default()).await
}

pub(crate) async fn connect(model: &ModelHandle) -> Connection {
    Connection::connect(&model.address(), ConnectionOptions::default())
        .await
        .unwrap()
}

/// Waits until the connection has ended, which must happen by itself.
pub(crate) async fn ended(connection: &Connection) -> Lost {
    let ended = tokio::time::timeout(Duration::from_secs(30), connection.closed()).await;
    ended.expect("the connection ends")
}

/// One batch for partition 0.
pub(crate) fn produce_request(records: Bytes) -> ProduceRequest {
    let partition = ProducePartition {
        topic: topic(),
        partition: 0,
        records,
    };
    ProduceRequest {
        timeout: Duration::from_secs(10),
        partitions: vec![partition],
    }
}

/// Produces one batch to partition 0; a refusal is given as its code.
pub(crate) async fn produce(
    connection: &Connection,
    records: Bytes,
) -> Result<Result<Produced, ErrorCode>, CallError> {
    let response = connection.produce(&produce_request(records)).await?;
    let outcome = response.partition(TOPIC, 0).unwrap().result.clone();
    Ok(outcome.map_err(|refusal| refusal.refusal.code))
}

/// Begins to produce one batch to partition 0.
pub(crate) async fn begun(
    connection: &Connection,
    records: Bytes,
    timeout: Duration,
) -> Pending<ProduceResponse> {
    let request = produce_request(records);
    connection.begin_produce(&request, timeout).await.unwrap()
}

/// Produces one batch that must be appended; gives its base offset.
pub(crate) async fn appended(connection: &Connection, records: Bytes) -> i64 {
    produce(connection, records)
        .await
        .unwrap()
        .unwrap()
        .base_offset
}

pub(crate) fn fetch_request(offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait: Duration::ZERO,
        bytes_min: 1,
        bytes_max: 1_000_000,
        partitions: vec![FetchPartition {
            topic: topic(),
            partition: 0,
            offset,
            current_leader_epoch: None,
            bytes_max: 1_000_000,
        }],
    }
}

pub(crate) async fn fetch(
    connection: &Connection,
    request: &FetchRequest,
) -> Result<Fetched, ErrorCode> {
    connection.fetch(request).await.unwrap().partitions[0]
        .result
        .clone()
}

pub(crate) fn refused(code: ErrorCode) -> Refusal {
    code.into()
}
