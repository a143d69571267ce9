//! The two sides and their answers in words that can be compared.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kafka::messages::create_topics::{CreateTopicsRequest, NewTopic};
use kafka::messages::describe_producers::DescribeProducers;
use kafka::messages::fetch::{FetchPartition, FetchRequest};
use kafka::messages::list_offsets::{ListOffset, OffsetAt};
use kafka::messages::offset_for_leader_epoch::OffsetForLeaderEpoch;
use kafka::messages::produce::{ProducePartition, ProduceRequest};
use kafka::model::partition::{PartitionOptions, TimestampType};
use kafka::model::{ModelHandle, ModelOptions};
use kafka::{Connection, ConnectionOptions, ErrorCode};
use record_batch::{Batch, batches};

use crate::operation::{Operation, Produce};

/// How the wire writes "earliest" among timestamps.
const EARLIEST: i64 = -2;

/// The model and Apache Kafka, with one topic of the same settings on each.
pub(crate) struct Pair {
    topic: Arc<str>,
    log_append_time: bool,
    model: Connection,
    kafka: Connection,
    /// Keeps the model alive.
    _handle: ModelHandle,
}

impl Pair {
    pub(crate) async fn start(broker: &str, seed: u64, log_append_time: bool) -> Self {
        let timestamp_type = if log_append_time {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        };
        let partition = PartitionOptions {
            timestamp_type,
            ..PartitionOptions::default()
        };
        let options = ModelOptions {
            partition,
            ..ModelOptions::default()
        };
        let handle = ModelHandle::start(options).await.unwrap();
        let connect = |address: String| async move {
            Connection::connect(&address, ConnectionOptions::default())
                .await
                .unwrap()
        };
        let pair = Self {
            topic: format!("differential-{seed}-{}", unix_ms()).into(),
            log_append_time,
            model: connect(handle.address()).await,
            kafka: connect(broker.to_owned()).await,
            _handle: handle,
        };
        for side in [&pair.model, &pair.kafka] {
            pair.create_topic(side).await;
        }
        pair
    }

    async fn create_topic(&self, side: &Connection) {
        let timestamp_type = if self.log_append_time {
            "LogAppendTime"
        } else {
            "CreateTime"
        };
        let topic = NewTopic {
            name: Arc::clone(&self.topic),
            partition_count: 1,
            replication_factor: 1,
            configs: vec![
                (
                    "message.timestamp.type".to_owned(),
                    timestamp_type.to_owned(),
                ),
                // Brokers before 4.0 have no limit by default.
                (
                    "message.timestamp.after.max.ms".to_owned(),
                    "3600000".to_owned(),
                ),
            ],
        };
        let request = CreateTopicsRequest {
            timeout: Duration::from_secs(10),
            topics: vec![topic],
        };
        let created = side.create_topics(&request).await.unwrap();
        created.topics[0].result.as_ref().unwrap();
        // The cluster knows the topic before the leader of its partition does.
        while self.offset(side, EARLIEST).await.starts_with("Err") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        unix_ms()
    }

    /// The answers of model and broker.
    pub(crate) async fn run(&mut self, operation: &Operation) -> [String; 2] {
        [
            self.ask(&self.model, operation).await,
            self.ask(&self.kafka, operation).await,
        ]
    }

    async fn ask(&self, side: &Connection, operation: &Operation) -> String {
        match operation {
            Operation::DescribeProducers => self.describe_producers(side).await,
            Operation::EpochEnd { current, epoch } => self.epoch_end(side, *current, *epoch).await,
            Operation::FetchAt { offset, bytes_max } => self.fetch(side, *offset, *bytes_max).await,
            Operation::Offset { at } => self.offset(side, *at).await,
            Operation::Produce(produce) => self.produce(side, produce).await,
        }
    }

    async fn produce(&self, side: &Connection, produce: &Produce) -> String {
        let request = ProduceRequest {
            timeout: Duration::from_secs(5),
            partitions: vec![ProducePartition {
                topic: Arc::clone(&self.topic),
                partition: 0,
                records: produce.bytes(),
            }],
        };
        let response = match side.produce(&request).await {
            Ok(response) => response,
            Err(error) => return format!("{error}"),
        };
        match &response.partitions[0].result {
            Ok(produced) => {
                let time = match produced.log_append_time_ms {
                    Some(_) if self.log_append_time => "some time".to_owned(),
                    other => format!("{other:?}"),
                };
                let start = produced.log_start_offset;
                format!(
                    "appended at {}, time {time}, log start {start:?}",
                    produced.base_offset
                )
            }
            Err(refusal) => format!("refused: {}", refusal.refusal.code),
        }
    }

    async fn describe_producers(&self, side: &Connection) -> String {
        let asked = DescribeProducers {
            topic: Arc::clone(&self.topic),
            partition: 0,
        };
        let answer = side.describe_producers(&[asked]).await.unwrap();
        let mut producers = answer.partitions[0].result.clone().unwrap();
        producers.sort_by_key(|producer| producer.producer_id);
        if self.log_append_time {
            producers
                .iter_mut()
                .for_each(|producer| producer.last_timestamp_ms = 0);
        }
        format!("{producers:?}")
    }

    async fn epoch_end(&self, side: &Connection, current: Option<i32>, epoch: i32) -> String {
        let asked = OffsetForLeaderEpoch {
            topic: Arc::clone(&self.topic),
            partition: 0,
            current_leader_epoch: current,
            leader_epoch: epoch,
        };
        let answer = side.offset_for_leader_epoch(&[asked]).await.unwrap();
        format!("{:?}", answer.partitions[0].result)
    }

    async fn offset(&self, side: &Connection, at: i64) -> String {
        let asked = ListOffset {
            topic: Arc::clone(&self.topic),
            partition: 0,
            current_leader_epoch: Some(0),
            at: OffsetAt::TimestampMs(at),
        };
        let answer = side.list_offsets(&[asked]).await.unwrap();
        let mut result = answer.partitions[0].result;
        if let (Ok(found), true) = (&mut result, self.log_append_time) {
            found.timestamp_ms = found.timestamp_ms.map(|_| 0);
        }
        format!("{result:?}")
    }

    /// The first batch that a Fetch returns, byte by byte. How many follow it is the broker's
    /// choice: it stops at the end of a segment.
    async fn fetch(&self, side: &Connection, offset: i64, bytes_max: i32) -> String {
        let (text, batch) = match self.fetch_first(side, offset, bytes_max).await {
            Ok(fetched) => fetched,
            Err(code) => return format!("refused: {code}"),
        };
        let batch = batch.map(|batch| {
            let records: Vec<_> = batch.records().map(Result::unwrap).collect();
            let values: Vec<_> = records
                .iter()
                .map(|record| (record.offset, &record.value))
                .collect();
            if self.log_append_time {
                format!("{values:?}")
            } else {
                format!("{:?} {:?}", batch.header(), batch.as_bytes())
            }
        });
        format!("{text}: {batch:?}")
    }

    async fn fetch_first(
        &self,
        side: &Connection,
        offset: i64,
        bytes_max: i32,
    ) -> Result<(String, Option<Batch>), ErrorCode> {
        let request = FetchRequest {
            max_wait: Duration::ZERO,
            bytes_min: 1,
            bytes_max,
            partitions: vec![FetchPartition {
                topic: Arc::clone(&self.topic),
                partition: 0,
                offset,
                current_leader_epoch: Some(0),
                bytes_max,
            }],
        };
        let answer = side.fetch(&request).await.unwrap();
        let fetched = answer.partitions[0].result.clone()?;
        let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start_offset);
        let text = format!("high watermark {high_watermark}, log start {log_start:?}");
        Ok((text, batches(fetched.records).next().map(Result::unwrap)))
    }

    /// Compares all that was stored.
    pub(crate) async fn finish(&self, differences: &mut Vec<String>) {
        let mut offset = 0;
        while let Ok((_, Some(batch))) = self.fetch_first(&self.model, offset, 1).await {
            let model = self.fetch(&self.model, offset, 1).await;
            let kafka = self.fetch(&self.kafka, offset, 1).await;
            if model != kafka {
                differences.push(format!("log at {offset}\n  model {model}\n  kafka {kafka}"));
                return;
            }
            offset = batch.header().next_offset();
        }
    }
}

fn unix_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}
