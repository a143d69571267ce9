//! What a run plays on: the product, Apache Kafka, and the link between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::broker_process::{BrokerProcess, Options as BrokerOptions};
use crate::deadline::{PATIENCE, wait_for};
use crate::kafka::{Kafka, Options as KafkaOptions};
use crate::ports;
use crate::proxy::Proxy;

/// Name of the log, of the topic and of the route between them.
pub(super) const LOG: &str = "chaos";

/// Two partitions of the log share each partition of the topic.
const LOG_PARTITIONS: u16 = 6;
const TOPIC_PARTITIONS: i32 = 3;

/// What [`BrokerOptions::bridged`] sets.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the link takes in each direction when a fault is to come.
const LINK_DELAY: Duration = Duration::from_millis(50);

/// How long to wait for a produce before a fault is said to have missed.
const PRODUCE_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Stage {
    // In the order in which they are to go.
    pub(super) broker: BrokerProcess,
    pub(super) kafka: Kafka,
    pub(super) proxy: Proxy,
}

impl Stage {
    pub(super) fn set(program: Option<PathBuf>) -> Result<Self> {
        let port = ports::free()?;
        let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let kafka = Kafka::start(KafkaOptions {
            port: Some(port),
            advertised_port: Some(proxy.address().port()),
            ..KafkaOptions::default()
        })?;
        kafka.create_topic(LOG, TOPIC_PARTITIONS, &[])?;
        let options = BrokerOptions {
            tables: format!(
                "[[log]]\nname = \"{LOG}\"\nfilters = [\"{LOG}/#\"]\npartitions = {LOG_PARTITIONS}\n"
            ),
            program,
            ..BrokerOptions::default()
        };
        let broker = BrokerProcess::start(options.bridged(proxy.address(), &[(LOG, LOG)]))?;
        Ok(Self {
            broker,
            kafka,
            proxy,
        })
    }

    /// Records of which the bridge does not know whether Kafka has them: those of the batches
    /// without an answer.
    pub(super) fn in_doubt(&self) -> Result<u64> {
        let route = self.broker.route(LOG)?;
        let in_doubt = route.get("in_doubt").and_then(Value::as_u64);
        in_doubt.context("no in_doubt in the route's status")
    }

    /// Waits until records flow in every partition, or would if there were any: what is in doubt
    /// from then on is in flight. Makes the link one on which things are in flight for a while.
    pub(super) fn prepare(&self) -> Result<()> {
        self.proxy.delay(LINK_DELAY);
        wait_for("streams that stream", PATIENCE, || {
            let route = self.broker.route(LOG)?;
            let partitions = route.get("partitions").and_then(Value::as_array);
            let streams = |partition: &Value| {
                partition.get("activity").and_then(Value::as_str) == Some("streaming")
            };
            let is_ready = partitions.is_some_and(|all| {
                all.len() == usize::from(LOG_PARTITIONS) && all.iter().all(streams)
            });
            Ok(is_ready.then_some(()))
        })
    }

    /// Waits until a produce is in flight; the records of it, or 0 when none came.
    pub(super) fn wait_in_doubt(&self) -> Result<u64> {
        let end = Instant::now() + PRODUCE_WITHIN;
        loop {
            let in_doubt = self.in_doubt()?;
            if in_doubt > 0 || Instant::now() >= end {
                return Ok(in_doubt);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}
