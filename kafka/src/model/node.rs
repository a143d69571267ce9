//! The one broker of the model cluster: its topics, producer ids, faults and counters. No I/O; the
//! server asks it under a lock.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::faults::{Faults, ProduceFault};
use super::partition::{Appended, Partition, PartitionOptions};
use super::requests;
use crate::api::{Api, VersionRange};
use crate::error_code::ErrorCode;
use crate::messages::TopicId;

/// The node id of the only broker.
pub(super) const NODE_ID: i32 = 1;

/// Longest name of a topic, as in Kafka.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// What the model does with a topic that nobody has created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnknownTopic {
    /// Creates it with so many partitions as soon as a client asks about it or writes to it.
    Create {
        /// How many.
        partition_count: i32,
    },
    /// Refuses it with this code: `UNKNOWN_TOPIC_OR_PARTITION`, as Kafka does when it may not
    /// create topics, or `TOPIC_AUTHORIZATION_FAILED`.
    Refuse(ErrorCode),
}

/// Settings of the model.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Where clients are told to connect, if that is not where it listens: they may be behind a
    /// forwarded port.
    pub advertised: Option<SocketAddr>,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// What all partitions together may take up. A batch beyond it is refused with
    /// `KAFKA_STORAGE_ERROR`, as by a broker whose disk is full.
    pub bytes_max: usize,
    /// Connections at the same time; further ones wait to be accepted.
    pub connections_max: usize,
    /// Largest request; the connection of a longer one is closed.
    pub frame_bytes_max: usize,
    /// Settings of new partitions.
    pub partition: PartitionOptions,
    /// All partitions of all topics; creating more is refused with `POLICY_VIOLATION`.
    pub partitions_max: usize,
    /// The port on 127.0.0.1; 0 chooses a free one.
    pub port: u16,
    /// What happens to topics that nobody has created.
    pub unknown_topic: UnknownTopic,
    /// The request types and versions offered. Taking some away makes an older broker, or one of
    /// Kafka's imitators.
    pub versions: BTreeMap<Api, VersionRange>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            advertised: None,
            cluster_id: "model-cluster".to_owned(),
            bytes_max: 256 * 1024 * 1024,
            connections_max: 256,
            frame_bytes_max: 16 * 1024 * 1024,
            partition: PartitionOptions::default(),
            partitions_max: 1024,
            port: 0,
            unknown_topic: UnknownTopic::Refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            versions: Api::ALL
                .into_iter()
                .map(|api| (api, requests::versions(api)))
                .collect(),
        }
    }
}

/// What the model has seen and done since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Requests of any type.
    pub requests: u64,
    /// Batches that came in Produce requests.
    pub batches: u64,
    /// Batches appended.
    pub batches_appended: u64,
    /// Batches recognised as sent before.
    pub batches_duplicate: u64,
    /// Batches refused, by the rules or by a fault.
    pub batches_refused: u64,
    /// Records in the batches appended, as their producer counted them.
    pub records_appended: u64,
    /// Faults that struck.
    pub faults: u64,
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) partitions: Vec<Partition>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    Appended {
        appended: Appended,
        leader_epoch: i32,
        log_start_offset: i64,
    },
    Refused(ErrorCode),
}

impl Outcome {
    fn is_new(&self) -> bool {
        matches!(self, Self::Appended { appended, .. } if !appended.duplicate)
    }
}

/// The outcome of a batch and what is to be done to its answer.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) outcome: Outcome,
    pub(super) fault: Option<ProduceFault>,
}

/// The broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) options: ModelOptions,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    /// Refusals by topic name, whether the topic exists or not.
    refused_topics: BTreeMap<String, ErrorCode>,
    next_producer_id: i64,
    topics_made: u64,
}

impl Node {
    pub(super) fn new(options: ModelOptions) -> Self {
        Self {
            options,
            topics: BTreeMap::new(),
            faults: Faults::default(),
            counters: Counters::default(),
            refused_topics: BTreeMap::new(),
            next_producer_id: 0,
            topics_made: 0,
        }
    }

    /// Makes a topic, in place of one of the same name if `anew`.
    pub(super) fn create_topic(
        &mut self,
        name: &str,
        partition_count: i32,
        anew: bool,
    ) -> Result<TopicId, ErrorCode> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && name != "."
            && name != "..";
        if !valid {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if self.topics.contains_key(name) && !anew {
            return Err(ErrorCode::TOPIC_ALREADY_EXISTS);
        }
        let count = usize::try_from(partition_count).unwrap_or(0);
        if count == 0 {
            return Err(ErrorCode::INVALID_PARTITIONS);
        }
        let others = self.topics.iter().filter(|(other, _)| *other != name);
        let others: usize = others.map(|(_, topic)| topic.partitions.len()).sum();
        if others.saturating_add(count) > self.options.partitions_max {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        self.topics_made += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.topics_made.to_be_bytes());
        let id = TopicId(id);
        let partitions = vec![Partition::new(self.options.partition); count];
        self.topics
            .insert(name.to_owned(), Topic { id, partitions });
        Ok(id)
    }

    /// From now on the topic is refused with `code`; with `ErrorCode::NONE` no longer.
    pub(super) fn refuse_topic(&mut self, name: &str, code: ErrorCode) {
        if code == ErrorCode::NONE {
            self.refused_topics.remove(name);
        } else if self.refused_topics.len() < self.options.partitions_max {
            self.refused_topics.insert(name.to_owned(), code);
        }
    }

    /// The topic, created now if that is what happens to unknown ones.
    pub(super) fn topic(&mut self, name: &str) -> Result<&mut Topic, ErrorCode> {
        if let Some(code) = self.refused_topics.get(name) {
            return Err(*code);
        }
        if !self.topics.contains_key(name) {
            match self.options.unknown_topic {
                UnknownTopic::Refuse(code) => return Err(code),
                UnknownTopic::Create { partition_count } => {
                    self.create_topic(name, partition_count, false)?;
                }
            }
        }
        self.topics
            .get_mut(name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// The partition, if the client's idea of its leader epoch is right.
    pub(super) fn partition(
        &mut self,
        topic: &str,
        partition: i32,
        current_leader_epoch: Option<i32>,
    ) -> Result<&mut Partition, ErrorCode> {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let found = self.topic(topic)?.partitions.get_mut(index);
        let found = found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        found.check_leader_epoch(current_leader_epoch)?;
        Ok(found)
    }

    pub(super) fn all_partitions(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics
            .values_mut()
            .flat_map(|topic| topic.partitions.iter_mut())
    }

    pub(super) fn bytes(&self) -> usize {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.map(Partition::bytes).sum()
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id
    }

    /// Appends a batch, or lets a fault strike.
    pub(super) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: &Bytes,
        now_ms: i64,
    ) -> Produced {
        self.counters.batches += 1;
        let fault = self.faults.take(topic, partition);
        let outcome = match fault {
            Some(ProduceFault::Refuse(code)) => Outcome::Refused(code),
            // Never answered.
            Some(ProduceFault::CutBeforeAppend) => Outcome::Refused(ErrorCode::NONE),
            _ => match self.append(topic, partition, records, now_ms, fault) {
                Ok(appended) => appended,
                Err(code) => Outcome::Refused(code),
            },
        };
        self.counters.batches_refused += u64::from(matches!(outcome, Outcome::Refused(_)));
        match fault {
            // A batch that is not stored cannot be stored wrongly: the next one will be.
            Some(tamper @ ProduceFault::Tamper(_)) if !outcome.is_new() => {
                self.faults.put_back(topic, partition, tamper);
            }
            Some(_) => self.counters.faults += 1,
            None => {}
        }
        Produced { outcome, fault }
    }

    fn append(
        &mut self,
        topic: &str,
        partition: i32,
        records: &Bytes,
        now_ms: i64,
        fault: Option<ProduceFault>,
    ) -> Result<Outcome, ErrorCode> {
        let full = self.bytes().saturating_add(records.len()) > self.options.bytes_max;
        let found = self.partition(topic, partition, None)?;
        if full {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        let tampering = match fault {
            Some(ProduceFault::Tamper(tampering)) => Some(tampering),
            _ => None,
        };
        let appended = found.append_tampered(records, now_ms, tampering)?;
        let (leader_epoch, log_start_offset) = (found.leader_epoch(), found.log_start_offset());
        if appended.duplicate {
            self.counters.batches_duplicate += 1;
        } else {
            self.counters.batches_appended += 1;
            let header = record_batch::BatchHeader::parse(records);
            let count = header.map_or(0, |header| header.record_count);
            self.counters.records_appended += u64::try_from(count).unwrap_or(0);
        }
        Ok(match fault {
            Some(ProduceFault::RefuseAfterAppend(code)) => Outcome::Refused(code),
            _ => Outcome::Appended {
                appended,
                leader_epoch,
                log_start_offset,
            },
        })
    }
}
