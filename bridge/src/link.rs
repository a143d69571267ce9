//! A route's way to the cluster: who leads which partition, and a connection to each leader.
//!
//! Connections are made when they are asked for, one attempt at a time for the whole route, with a
//! growing pause after a failure. Names are resolved anew for each connection; when the brokers that
//! the metadata names cannot be reached, the bootstrap list is asked again.
//!
//! Invariant: what [`Link::leader`] returns was in the metadata of one answer: leader, epoch and
//! replicas in sync belong together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::messages::metadata::{Metadata, PartitionMetadata};
use kafka::{CallError, ConnectError, Connection, ConnectionOptions, ErrorCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;

/// Metadata that is older is asked for again when somebody needs it.
const METADATA_AGE_MAX: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Link {
    bootstrap: Vec<String>,
    topic: Arc<str>,
    options: ConnectionOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    metadata: Option<(Metadata, Instant)>,
    connections: HashMap<String, Arc<Connection>>,
    backoff: Backoff,
    not_before: Instant,
}

/// The leader of a partition, as it was when it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) connection: Arc<Connection>,
    pub(crate) epoch: Option<i32>,
    pub(crate) all_in_sync: bool,
}

/// What the cluster says of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) cluster_id: Option<String>,
    pub(crate) topic_id: Option<[u8; 16]>,
    pub(crate) partition_count: usize,
}

impl Topic {
    /// Whether both have an id, and it is not the same. Brokers of older versions know of none.
    pub(crate) fn is_another_than(&self, other: &Self) -> bool {
        differ(self.topic_id.as_ref(), other.topic_id.as_ref())
    }

    /// Likewise for their clusters.
    pub(crate) fn is_of_another_cluster_than(&self, other: &Self) -> bool {
        differ(self.cluster_id.as_ref(), other.cluster_id.as_ref())
    }
}

fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// The leader cannot be talked to.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no broker is configured")]
    NoBroker,
    #[error("partition {partition} of topic {topic} has no leader")]
    NoLeader { topic: Arc<str>, partition: i32 },
    #[error("the cluster refuses topic {topic}: {code}")]
    Refused { topic: Arc<str>, code: ErrorCode },
    /// The topic is not the one that it was.
    #[error("topic {topic} is another one than before")]
    Replaced { topic: Arc<str> },
}

impl LinkError {
    /// The broker's code, if it is a refusal.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Call(CallError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }
}

impl Link {
    pub(crate) fn new(
        bootstrap: Vec<String>,
        topic: Arc<str>,
        options: ConnectionOptions,
        backoff_max: Duration,
    ) -> Self {
        let state = State {
            metadata: None,
            connections: HashMap::new(),
            backoff: Backoff::new(backoff_max),
            not_before: Instant::now(),
        };
        Self {
            bootstrap,
            topic,
            options,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn topic_name(&self) -> &Arc<str> {
        &self.topic
    }

    /// The topic as the cluster describes it, asked anew.
    pub(crate) async fn topic(&self) -> Result<Topic, LinkError> {
        let mut state = self.state.lock().await;
        state.metadata = None;
        self.attempt(&mut state, None).await.map(|(topic, _)| topic)
    }

    /// The leader of `partition`, connected. `expected` is the topic that was mapped: another one is
    /// an error.
    pub(crate) async fn leader(
        &self,
        partition: i32,
        expected: &Topic,
    ) -> Result<Leader, LinkError> {
        let mut state = self.state.lock().await;
        let (topic, leader) = self.attempt(&mut state, Some(partition)).await?;
        if topic.is_another_than(expected) || topic.is_of_another_cluster_than(expected) {
            state.metadata = None;
            return Err(LinkError::Replaced {
                topic: Arc::clone(&self.topic),
            });
        }
        leader.ok_or_else(|| LinkError::NoLeader {
            topic: Arc::clone(&self.topic),
            partition,
        })
    }

    /// What was known at `time` is out of date: the next question goes to the cluster, unless another
    /// stream has asked since.
    pub(crate) async fn forget_metadata_of(&self, time: Instant) {
        let mut state = self.state.lock().await;
        if state
            .metadata
            .as_ref()
            .is_some_and(|(_, asked)| *asked <= time)
        {
            state.metadata = None;
        }
    }

    /// Waits for the pause after the last failure, tries, and sets the next pause.
    async fn attempt(
        &self,
        state: &mut State,
        partition: Option<i32>,
    ) -> Result<(Topic, Option<Leader>), LinkError> {
        sleep_until(state.not_before).await;
        let result = self.find(state, partition).await;
        match &result {
            Ok(_) => state.backoff.reset(),
            Err(_) => {
                state.metadata = None;
                state.not_before = Instant::now() + state.backoff.next();
            }
        }
        result
    }

    async fn find(
        &self,
        state: &mut State,
        partition: Option<i32>,
    ) -> Result<(Topic, Option<Leader>), LinkError> {
        state
            .connections
            .retain(|_, connection| connection.lost().is_none());
        let fresh = state
            .metadata
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() < METADATA_AGE_MAX);
        if !fresh {
            state.metadata = Some((self.ask_metadata(state).await?, Instant::now()));
        }
        let Some((metadata, _)) = &state.metadata else {
            return Err(LinkError::NoBroker);
        };
        let refused = |code| LinkError::Refused {
            topic: Arc::clone(&self.topic),
            code,
        };
        let found = metadata.topic(&self.topic);
        let found = found.ok_or_else(|| refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let partitions = found.partitions.as_ref().map_err(|code| refused(*code))?;
        let topic = Topic {
            cluster_id: metadata.cluster_id.clone(),
            topic_id: found.topic_id.map(|id| id.0),
            partition_count: partitions.len(),
        };
        let Some(partition) = partition else {
            return Ok((topic, None));
        };
        let led = partitions.iter().find(|led| led.partition == partition);
        let led: Option<PartitionMetadata> = led.cloned();
        let node = led.as_ref().and_then(|led| metadata.broker(led.leader_id?));
        let (Some(led), Some(address)) = (led, node.map(|node| node.address())) else {
            return Err(LinkError::NoLeader {
                topic: Arc::clone(&self.topic),
                partition,
            });
        };
        let connection = self.connect(state, &address).await?;
        let PartitionMetadata {
            leader_epoch: epoch,
            replica_count,
            isr_count,
            ..
        } = led;
        let all_in_sync = isr_count == replica_count;
        Ok((
            topic,
            Some(Leader {
                connection,
                epoch,
                all_in_sync,
            }),
        ))
    }

    /// Asks a connected broker, or one of the bootstrap list.
    async fn ask_metadata(&self, state: &mut State) -> Result<Metadata, LinkError> {
        let topics = [Arc::clone(&self.topic)];
        let mut last = LinkError::NoBroker;
        for connection in state.connections.values() {
            match connection.metadata(&topics).await {
                Ok(metadata) => return Ok(metadata),
                Err(error) => last = error.into(),
            }
        }
        for address in &self.bootstrap {
            let asked = match self.connect(state, address).await {
                Ok(connection) => connection.metadata(&topics).await.map_err(LinkError::from),
                Err(error) => Err(error),
            };
            match asked {
                Ok(metadata) => return Ok(metadata),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(
        &self,
        state: &mut State,
        address: &str,
    ) -> Result<Arc<Connection>, LinkError> {
        if let Some(connection) = state
            .connections
            .get(address)
            .filter(|c| c.lost().is_none())
        {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::connect(address, self.options.clone()).await?);
        state
            .connections
            .insert(address.to_owned(), Arc::clone(&connection));
        Ok(connection)
    }
}
