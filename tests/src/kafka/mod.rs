//! A real Apache Kafka: one node, broker and controller in one process, on loopback.
//!
//! It is the judge of the bridge, so it can be killed, stopped, continued and started again on the
//! same ports and data.

pub mod admin;
pub mod dump_log;
pub mod node;
pub mod records;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::supervised::{Files, Supervised};
use crate::{deadline, ports};
pub use admin::Configured;
pub use node::{Node, available};
pub use records::Record;

/// A topic that every Kafka started here has: it shows that the node takes requests.
const READY_TOPIC: &str = "ready";

/// How to start it; the default takes a free port.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Port for clients.
    pub port: Option<u16>,
    /// Port that clients are told to use: that of a [`crate::proxy::Proxy`].
    pub advertised_port: Option<u16>,
    /// Further server properties; they win over the defaults.
    pub properties: Vec<(String, String)>,
}

/// A running Kafka. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    jars: PathBuf,
    node: Node,
    process: Option<Supervised>,
    scratch: TempDir,
}

impl Kafka {
    /// Starts a node and waits until it has a topic.
    ///
    /// # Errors
    /// When Kafka is not installed or does not come up, with the end of its log.
    pub fn start(options: Options) -> Result<Self> {
        let jars = available().map_err(|reason| anyhow!(reason))?;
        let scratch = tempfile::Builder::new().prefix("tidegate-kafka-").tempdir();
        let scratch = scratch.context("create Kafka's temporary folder")?;
        let port = options.port.map_or_else(ports::free, Ok)?;
        let node = Node {
            folder: scratch.path().to_owned(),
            port,
            controller_port: ports::free()?,
            advertised: loopback(options.advertised_port.unwrap_or(port)),
            properties: options.properties,
            heap_mib: 256,
        };
        node.prepare(&jars)?;
        let mut kafka = Self {
            jars,
            node,
            process: None,
            scratch,
        };
        kafka.spawn()?;
        kafka.create_topic(READY_TOPIC, 1, &[])?;
        Ok(kafka)
    }

    /// One Kafka for all tests of this test program; started by the first that asks.
    ///
    /// # Errors
    /// As [`Kafka::start`]; the same error to everybody.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(Options::default()).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("the shared Kafka: {error}"))
    }

    /// Where clients connect first. Past a proxy this is still the node itself; give clients the
    /// proxy's address.
    #[must_use]
    pub fn bootstrap(&self) -> SocketAddr {
        loopback(self.node.port)
    }

    /// Creates a topic and waits until every partition has a leader.
    ///
    /// # Errors
    /// When Kafka refuses, for instance because the topic exists.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let broker = self.bootstrap();
        admin::create_topic(broker, name, partitions, configs)?;
        deadline::retry(&format!("leaders of {name}"), deadline::PATIENCE, || {
            admin::partition_count(broker, name)
        })?;
        Ok(())
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    /// When Kafka refuses, for instance because there is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let broker = self.bootstrap();
        admin::delete_topic(broker, name)?;
        deadline::wait_for(&format!("the end of {name}"), deadline::PATIENCE, || {
            Ok(admin::partition_count(broker, name).err().map(|_| ()))
        })
    }

    /// Makes Kafka forget every producer of a topic, as it does a day after their last batch.
    ///
    /// # Errors
    /// When Kafka refuses or does not forget.
    pub fn forget_producers(&self, topic: &str) -> Result<()> {
        let broker = self.bootstrap();
        let expire = |after_ms| {
            let key = "producer.id.expiration.ms";
            admin::configure(broker, Configured::Cluster, key, after_ms)
        };
        expire(Some("1"))?;
        let partitions = admin::partition_count(broker, topic)?;
        let forgotten = deadline::wait_for("forgotten producers", deadline::PATIENCE, || {
            let mut left = 0;
            for partition in 0..partitions {
                left += admin::producer_count(broker, topic, partition)?;
            }
            Ok((left == 0).then_some(()))
        });
        expire(None)?;
        forgotten
    }

    /// The end offset of each partition of a topic.
    ///
    /// # Errors
    /// When Kafka does not answer or does not know the topic.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        admin::end_offsets(self.bootstrap(), topic)
    }

    /// SIGKILL; ports and data stay ours.
    ///
    /// # Errors
    /// When the process does not end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again on the same ports and data, after [`Kafka::kill`] or instead of it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.spawn()
    }

    /// SIGSTOP: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.signal(Signal::STOP)
    }

    /// SIGCONT after [`Kafka::pause`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    fn running(&mut self) -> Result<&mut Supervised> {
        self.process.as_mut().context("Kafka is not running")
    }

    fn spawn(&mut self) -> Result<()> {
        let log = self.scratch.path().join("kafka.log");
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: Some(self.scratch.path()),
        };
        let mut process = Supervised::spawn("Kafka", &self.node.server(&self.jars), &files)?;
        let broker = self.bootstrap();
        let known = self.node.data().join(format!("{READY_TOPIC}-0")).exists();
        process.wait_ready(|| {
            let answer = admin::partition_count(broker, READY_TOPIC);
            // A new node answers that it does not know the topic: error 3.
            let up = answer.map_or_else(|e| !known && e.to_string().ends_with("error 3"), |_| true);
            up.then_some(())
        })?;
        self.process = Some(process);
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
