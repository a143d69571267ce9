//! The cluster that the gateway replicates to: the model of a Kafka broker inside this process, or a
//! real one. Either is spoken to over sockets, by the same client.
//!
//! Not for: the way there (see [`super::relay`]).
//!
//! Invariant: on a real cluster two topics with a new name are created and read, and nothing else
//! is touched; they stay there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kafka::messages::create_topics::{CreateTopicsRequest, NewTopic};
use kafka::messages::fetch::{FetchPartition, FetchRequest};
use kafka::messages::metadata::Metadata;
use kafka::model::partition::Tampering;
use kafka::model::{ModelHandle, ModelOptions, ProduceFault};
use kafka::{Connection, ConnectionOptions};
use record_batch::Record;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::demo::Tamper;

/// How long the partitions of a new topic may take to get their leaders.
const LEADERS_LIMIT: Duration = Duration::from_secs(15);
const RETRY_EVERY: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const FETCH_BYTES_MAX: i32 = 1 << 20;

/// A log of the gateway and the topic that it is replicated to.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// Name of the log and of the route.
    pub(super) log: &'static str,
    /// Topic filter of the log.
    pub(super) filter: &'static str,
    pub(super) partitions: u16,
    /// Name of the topic in the cluster.
    pub(super) name: Arc<str>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Upstream {
    address: String,
    topics: [Topic; 2],
    model: Option<ModelHandle>,
}

impl Upstream {
    /// The model, with the demonstration's topics.
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn model() -> anyhow::Result<Self> {
        let model = ModelHandle::start(ModelOptions::default());
        let model = model.await.context("start the model of a Kafka broker")?;
        let upstream = Self {
            address: model.address(),
            topics: topics("demo"),
            model: Some(model),
        };
        upstream.create_topics(1).await?;
        Ok(upstream)
    }

    /// A real cluster, by one of its brokers; `unique` tells the topics from those of other runs.
    ///
    /// # Errors
    /// It cannot be reached, or refuses the topics.
    pub(super) async fn cluster(address: &str, unique: u64) -> anyhow::Result<Self> {
        let upstream = Self {
            address: address.to_owned(),
            topics: topics(&format!("tidegate-demo-{unique:08x}")),
            model: None,
        };
        // -1: as many replicas as the cluster gives by default.
        upstream.create_topics(-1).await?;
        Ok(upstream)
    }

    /// `host:port` of the broker to ask first.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn topics(&self) -> &[Topic; 2] {
        &self.topics
    }

    pub(super) fn is_model(&self) -> bool {
        self.model.is_some()
    }

    /// Lets the model lie about the next record of the first topic. A real cluster cannot be asked to.
    pub(super) fn tamper(&self, tamper: Tamper) {
        let [topic, _] = &self.topics;
        let tampering = match tamper {
            Tamper::Drop => Tampering::DropRecord,
            Tamper::Duplicate => Tampering::DuplicateRecord,
        };
        if let Some(model) = &self.model {
            model.inject(&topic.name, 0, ProduceFault::Tamper(tampering), 1);
        }
    }

    /// Lies that the model has not told yet.
    pub(super) fn faults_left(&self) -> u64 {
        self.model.as_ref().map_or(0, ModelHandle::clear_faults)
    }

    async fn connect(address: &str) -> anyhow::Result<Connection> {
        let options = ConnectionOptions {
            client_id: "tidegate-demo".to_owned(),
            frame_bytes_max: 64 << 20,
            request_timeout: REQUEST_TIMEOUT,
            ..ConnectionOptions::default()
        };
        Ok(Connection::connect(address, options).await?)
    }

    async fn create_topics(&self, replication_factor: i16) -> anyhow::Result<()> {
        let connection = Self::connect(&self.address).await?;
        let topics = self.topics.iter().map(|topic| NewTopic {
            name: Arc::clone(&topic.name),
            partition_count: i32::from(topic.partitions),
            replication_factor,
            configs: Vec::new(),
        });
        let request = CreateTopicsRequest {
            timeout: REQUEST_TIMEOUT,
            topics: topics.collect(),
        };
        for created in connection.create_topics(&request).await?.topics {
            let name = created.name;
            created
                .result
                .with_context(|| format!("create topic {name}"))?;
        }
        let deadline = Instant::now() + LEADERS_LIMIT;
        for topic in &self.topics {
            // In the end everything is read back: better to know now whether that is possible.
            let mut leaders = self.leaders(&connection, topic, deadline).await?;
            leaders.dedup();
            for leader in leaders {
                Self::connect(&leader).await.with_context(|| {
                    format!(
                        "the cluster says that {leader} leads a partition of topic {}, and that \
                         address must be reachable from here",
                        topic.name
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The addresses of the leaders of a topic's partitions, in the order of their numbers.
    async fn leaders(
        &self,
        connection: &Connection,
        topic: &Topic,
        deadline: Instant,
    ) -> anyhow::Result<Vec<String>> {
        loop {
            let metadata = connection.metadata(&[Arc::clone(&topic.name)]).await?;
            match leaders_in(&metadata, topic) {
                Ok(leaders) => return Ok(leaders),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(RETRY_EVERY).await,
            }
        }
    }

    /// Reads every record of the demonstration's topics, partition by partition in the order of
    /// their offsets.
    ///
    /// # Errors
    /// The cluster does not answer, or has not answered everything at `deadline`.
    pub(super) async fn read(
        &self,
        deadline: Instant,
        mut visit: impl FnMut(&Topic, i32, &Record),
    ) -> anyhow::Result<()> {
        let read = async {
            let first = Self::connect(&self.address).await?;
            let mut connections: HashMap<String, Connection> = HashMap::new();
            for topic in &self.topics {
                let leaders = self.leaders(&first, topic, deadline).await?;
                for (partition, leader) in (0_i32..).zip(leaders) {
                    if !connections.contains_key(&leader) {
                        let connection = Self::connect(&leader).await?;
                        connections.insert(leader.clone(), connection);
                    }
                    if let Some(connection) = connections.get(&leader) {
                        let visit = |record: &Record| visit(topic, partition, record);
                        read_partition(connection, &topic.name, partition, visit)
                            .await
                            .with_context(|| {
                                format!("read partition {partition} of topic {}", topic.name)
                            })?;
                    }
                }
            }
            Ok(())
        };
        let in_time = timeout_at(deadline, read).await;
        in_time.unwrap_or_else(|_| Err(anyhow!("time is up")))
    }
}

/// Alarms have a log of their own, so that nothing of the rest can hold them up.
fn topics(prefix: &str) -> [Topic; 2] {
    let topic = |log, filter, partitions| Topic {
        log,
        filter,
        partitions,
        name: format!("{prefix}.{log}").into(),
    };
    [
        topic("alarms", "alarms/#", 1),
        topic("telemetry", "plant/#", 4),
    ]
}

fn leaders_in(metadata: &Metadata, topic: &Topic) -> anyhow::Result<Vec<String>> {
    let found = metadata.topic(&topic.name);
    let found = found.with_context(|| format!("the cluster does not know topic {}", topic.name))?;
    let partitions = found.partitions.as_ref().map_err(|code| anyhow!("{code}"));
    let partitions = partitions.with_context(|| format!("ask about topic {}", topic.name))?;
    if partitions.len() != usize::from(topic.partitions) {
        let (found, name) = (partitions.len(), &topic.name);
        bail!(
            "topic {name} has {found} partitions instead of {}",
            topic.partitions
        );
    }
    let leader = |partition: &kafka::messages::metadata::PartitionMetadata| {
        let leader = metadata.broker(partition.leader_id?)?;
        Some(leader.address())
    };
    let leaders: Option<Vec<_>> = partitions.iter().map(leader).collect();
    leaders.with_context(|| format!("topic {} has a partition without a leader", topic.name))
}

async fn read_partition(
    connection: &Connection,
    topic: &Arc<str>,
    partition: i32,
    mut visit: impl FnMut(&Record),
) -> anyhow::Result<()> {
    let mut offset = 0;
    loop {
        let request = FetchRequest {
            max_wait: Duration::from_millis(100),
            bytes_min: 1,
            bytes_max: FETCH_BYTES_MAX,
            partitions: vec![FetchPartition {
                topic: Arc::clone(topic),
                partition,
                offset,
                current_leader_epoch: None,
                bytes_max: FETCH_BYTES_MAX,
            }],
        };
        let response = connection.fetch(&request).await?;
        let fetched = response.partitions.into_iter().next();
        let fetched = fetched.context("the answer has no partition")?.result;
        let fetched = fetched.map_err(|code| anyhow!("{code}"))?;
        for batch in record_batch::batches(fetched.records) {
            let batch = batch?;
            for record in batch.records() {
                let record = record?;
                // The first batch may begin before what was asked for.
                if record.offset >= offset {
                    visit(&record);
                }
            }
            offset = offset.max(batch.header().next_offset());
        }
        if offset >= fetched.high_watermark {
            return Ok(());
        }
    }
}
