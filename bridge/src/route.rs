//! A route: maps the partitions of a log to those of a topic, durably, and runs a driver for each.
//!
//! Local partition p goes to partition p mod M of the topic, M being the number of partitions that
//! the topic had when it was mapped. Where M divides the number of local partitions, that is what
//! Kafka's own partitioner would choose. The mapping stays as it is when the topic grows; when the
//! topic is another one (it was deleted and made again) the next version begins, under new producer
//! ids.

mod mapping;
mod unmapped;

use std::sync::Arc;
use std::time::Duration;

use kafka::ConnectionOptions;
use storage::{AppendError, CommitNumber, Log, LogPartition};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::checkpoint::{self, CheckpointError, RouteState, encode, route_key, stream_key};
use crate::driver::{Driver, End, Place, Shared, with_causes};
use crate::feed::Feed;
use crate::link::{Link, Topic};
use crate::options::{BridgeOptions, RouteOptions};
use crate::record::Origin;
use crate::status::Trouble;
use crate::stream::Stream;
use mapping::{Mapping, mapping};

/// Between two looks at a cluster that is not the one that was mapped.
const FOREIGN_CLUSTER_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at a broker whose metadata is behind.
const METADATA_BEHIND_EVERY: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Route {
    shared: Shared,
    options: RouteOptions,
    gateway_id: String,
    log: Log,
    link: Arc<Link>,
}

/// A route cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("make the position durable")]
    Store(#[source] AppendError),
    #[error("a stream of the route panicked")]
    Panicked,
}

impl Route {
    pub(crate) fn new(
        shared: Shared,
        bridge: &BridgeOptions,
        options: RouteOptions,
        log: Log,
    ) -> Self {
        let connection = ConnectionOptions {
            client_id: bridge.client_id.clone(),
            request_timeout: bridge.request_timeout,
            // Five batches of every partition that one leader may have, and a question.
            inflight_max: usize::from(log.partitions) * 5 + 1,
            ..ConnectionOptions::default()
        };
        let topic: Arc<str> = options.topic.as_str().into();
        let link = Link::new(
            bridge.bootstrap.clone(),
            topic,
            connection,
            bridge.backoff_max,
        );
        let gateway_id = bridge.gateway_id.clone();
        Self {
            shared,
            options,
            gateway_id,
            log,
            link: Arc::new(link),
        }
    }

    /// Runs until it is told to end.
    pub(crate) async fn run(self) -> Result<(), RouteError> {
        self.shared.probe.update(&self.options.name, |route| {
            route.log.clone_from(&self.options.log);
            route.topic.clone_from(&self.options.topic);
        });
        self.begin_unseen().await?;
        loop {
            let Some((topic, mapping)) = self.map().await? else {
                return Ok(());
            };
            match self.run_streams(&topic, &mapping).await? {
                End::Shutdown => return Ok(()),
                End::Store(error) => return Err(RouteError::Store(error)),
                End::TopicReplaced => tracing::warn!(
                    route = self.options.name,
                    topic = self.options.topic,
                    "Topic is another one than before; mapping it anew."
                ),
            }
        }
    }

    fn is_ending(&self) -> bool {
        *self.shared.shutdown.borrow()
    }

    /// Finds the topic and makes sure that its mapping is durable; `None` when it is time to end.
    async fn map(&self) -> Result<Option<(Topic, RouteState)>, RouteError> {
        loop {
            let Some(found) = self.look_for_topic().await? else {
                return Ok(None);
            };
            let topic = match found {
                Ok(topic) => topic,
                Err(error) => {
                    let remedy = error.code().and_then(|code| code.remedy());
                    self.trouble(with_causes(&error), remedy);
                    continue;
                }
            };
            let stored = checkpoint::route(&self.shared.store, &self.options.name)?;
            match mapping(&self.options.topic, &topic, stored.as_ref()) {
                Mapping::Use(mapping) => {
                    if stored.as_ref() != Some(&mapping) {
                        self.persist(&mapping).await?;
                    }
                    return Ok(Some((topic, mapping)));
                }
                Mapping::OtherCluster => self.refuse_cluster(&topic, stored.as_ref()).await,
                Mapping::FewerPartitions => self.wait_for_partitions(&topic).await,
            }
            if self.is_ending() {
                return Ok(None);
            }
        }
    }

    async fn refuse_cluster(&self, topic: &Topic, stored: Option<&RouteState>) {
        let id = |id: Option<&String>| id.map_or("(none)", String::as_str).to_owned();
        let before = id(stored.and_then(|stored| stored.cluster_id.as_ref()));
        let now = id(topic.cluster_id.as_ref());
        self.trouble(
            format!("the cluster is {now}, but the route's records went to cluster {before}"),
            Some("point the bridge at the former cluster, or give the route another name"),
        );
        self.pause(FOREIGN_CLUSTER_EVERY).await;
    }

    async fn wait_for_partitions(&self, topic: &Topic) {
        self.trouble(
            format!(
                "the broker knows {} partitions of topic {}, which has had more",
                topic.partition_count, self.options.topic
            ),
            Some("wait until the broker has caught up with its cluster"),
        );
        self.pause(METADATA_BEHIND_EVERY).await;
    }

    async fn pause(&self, pause: Duration) {
        let mut shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = sleep(pause) => {}
            _ = shutdown.wait_for(|ending| *ending) => {}
        }
    }

    async fn persist(&self, mapping: &RouteState) -> Result<(), RouteError> {
        let key = route_key(&self.options.name);
        let put = self
            .shared
            .store
            .put_journal_entry(key, Some(encode(mapping)), Duration::ZERO);
        self.wait_durable(put.map_err(RouteError::Store)?).await
    }

    async fn wait_durable(&self, commit: CommitNumber) -> Result<(), RouteError> {
        let store = self.shared.store.clone();
        let waited = tokio::task::spawn_blocking(move || store.wait_durable(commit)).await;
        waited
            .unwrap_or(Err(AppendError::Closing))
            .map_err(RouteError::Store)
    }

    /// Runs a driver for each partition until one of them has a reason to end all.
    async fn run_streams(&self, topic: &Topic, mapping: &RouteState) -> Result<End, RouteError> {
        let partition_count = mapping.partition_count.max(1);
        self.shared.probe.update(&self.options.name, |route| {
            route.topic_partitions = partition_count;
            route.agrees_with_kafka_partitioner =
                self.log.partitions.is_multiple_of(partition_count);
        });
        // Not the shutdown of the process: one stream's end must end its siblings, gently.
        let (end_all, ending) = tokio::sync::watch::channel(self.is_ending());
        let mut drivers = JoinSet::new();
        for partition in self.log.partitions() {
            let shared = Shared {
                shutdown: ending.clone(),
                ..self.shared.clone()
            };
            let driver = self.driver(shared, partition, topic, mapping)?;
            drivers.spawn_local(driver.run());
        }
        let mut shutdown = self.shared.shutdown.clone();
        let mut result = End::Shutdown;
        loop {
            tokio::select! {
                ended = drivers.join_next() => match ended {
                    None => return Ok(result),
                    Some(Ok(End::Shutdown)) => {}
                    Some(Ok(end)) => {
                        end_all.send_replace(true);
                        if !matches!(result, End::Store(_)) {
                            result = end;
                        }
                    }
                    Some(Err(_)) => return Err(RouteError::Panicked),
                },
                _ = shutdown.wait_for(|ending| *ending), if !*end_all.borrow() => {
                    end_all.send_replace(true);
                }
            }
        }
    }

    fn driver(
        &self,
        shared: Shared,
        partition: LogPartition,
        topic: &Topic,
        mapping: &RouteState,
    ) -> Result<Driver, RouteError> {
        let store = &self.shared.store;
        let number = partition.partition.0;
        let stored = checkpoint::stream(store, &self.options.name, number)?;
        let state = stored.unwrap_or_else(|| self.unseen(partition));
        let mut stream = Stream::restore(state);
        if stream.state().mapping_version != mapping.mapping_version {
            stream.handle_topic_replaced(mapping.mapping_version);
        }
        let origin = Origin {
            gateway_id: self.gateway_id.clone(),
            log: self.log.name.clone(),
            partition: number,
        };
        let feed = Feed::new(store.clone(), origin, partition, stream.acknowledged());
        let place = Place {
            route: self.options.name.clone(),
            partition,
            target: i32::from(number % mapping.partition_count.max(1)),
            topic: Topic {
                cluster_id: mapping.cluster_id.clone(),
                topic_id: mapping.topic_id,
                partition_count: topic.partition_count,
            },
        };
        Ok(Driver::new(
            shared,
            place,
            Arc::clone(&self.link),
            stream,
            feed,
        ))
    }

    /// Writes down where the partitions begin that the route has never seen. "Now" is the moment of
    /// the first start, and what goes from the oldest record on is missed from then on; neither is
    /// the day on which a cluster first answers.
    async fn begin_unseen(&self) -> Result<(), RouteError> {
        let store = &self.shared.store;
        let mut last = None;
        for partition in self.log.partitions() {
            let number = partition.partition.0;
            if checkpoint::stream(store, &self.options.name, number)?.is_some() {
                continue;
            }
            let key = stream_key(&self.options.name, number);
            let value = encode(&self.unseen(partition));
            let put = store.put_journal_entry(key, Some(value), Duration::ZERO);
            last = Some(put.map_err(RouteError::Store)?);
        }
        if let Some(commit) = last {
            self.wait_durable(commit).await?;
        }
        checkpoint::set_pins(store, &self.options.name, &self.log);
        Ok(())
    }

    fn trouble(&self, what: String, remedy: Option<&str>) {
        let trouble = Trouble {
            what,
            remedy: remedy.map(str::to_owned),
        };
        self.shared.probe.update(&self.options.name, |route| {
            if route.trouble.as_ref() != Some(&trouble) {
                tracing::warn!(
                    route = self.options.name,
                    remedy = trouble.remedy,
                    "{}.",
                    trouble.what
                );
                route.trouble = Some(trouble);
            }
        });
    }
}
