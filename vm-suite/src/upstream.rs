//! The Kafka that the guest replicates to: the model of a broker in this process for the short form,
//! Apache Kafka for the long one.
//!
//! Clients are told the address under which the guest finds it.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use kafka::model::{ModelHandle, ModelOptions};
use tests::deadline::{self, PATIENCE};
use tests::kafka::records::{self, Origin};
use tests::kafka::{Node, admin, available};
use tests::ports;
use tests::supervised::{Files, Supervised};
use tokio::runtime::Runtime;

use crate::machine::UPSTREAM;

/// The topic, which is named like the log.
pub(crate) const TOPIC: &str = "suite";
const PARTITIONS: i32 = 4;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Apache Kafka, as the tests start it
    Apache,
    /// The model of a broker, in this process
    Model,
}

/// A Kafka that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) enum Upstream {
    Apache {
        node: Node,
        guest_port: u16,
        _process: Supervised,
    },
    Model {
        _runtime: Runtime,
        handle: ModelHandle,
        port: u16,
    },
}

/// What stands in Kafka: the payload of each record, by what its `tg-id` says.
pub(crate) type Replicated = HashMap<(u16, u64), String>;

impl Upstream {
    /// Starts it. Apache Kafka keeps its data in the folder, for the next run.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self> {
        match kind {
            Kind::Apache => start_apache(folder),
            Kind::Model => start_model(),
        }
    }

    /// The port of the host's loopback that the guest's connections are to reach.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Apache { guest_port, .. } => *guest_port,
            Self::Model { port, .. } => *port,
        }
    }

    /// Records in the topic.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub(crate) fn count(&self) -> Result<u64> {
        let ends = match self {
            Self::Apache { node, .. } => admin::end_offsets(address(node.port), TOPIC)?,
            Self::Model { handle, .. } => (0..PARTITIONS)
                .map(|partition| handle.records(TOPIC, partition).len() as i64)
                .collect(),
        };
        Ok(ends.iter().sum::<i64>().unsigned_abs())
    }

    /// Everything in the topic.
    ///
    /// # Errors
    /// A `tg-id` that is there twice, is none, or is not of the suite's log.
    pub(crate) fn read(&self) -> Result<Replicated> {
        let mut found = Replicated::new();
        let mut take = |id: &str, payload: String| {
            let origin = Origin::parse(id).with_context(|| format!("tg-id {id:?}"))?;
            ensure!(origin.log == TOPIC, "{id} is of another log");
            let place = (origin.partition, origin.offset);
            ensure!(
                found.insert(place, payload).is_none(),
                "{id} is in Kafka twice"
            );
            Ok(())
        };
        match self {
            Self::Apache { node, .. } => {
                records::for_each(address(node.port), TOPIC, |record| {
                    take(&record.header("tg-id")?, record.value_text())
                })?;
            }
            Self::Model { handle, .. } => {
                for partition in 0..PARTITIONS {
                    for record in handle.records(TOPIC, partition) {
                        let mut headers = record.headers.iter();
                        let id = headers.find(|(name, _)| name == "tg-id");
                        let id = id.and_then(|(_, value)| value).context("no tg-id")?;
                        let value = record.value.as_deref().unwrap_or_default();
                        let payload = String::from_utf8_lossy(value).into_owned();
                        take(&String::from_utf8_lossy(&id), payload)?;
                    }
                }
            }
        }
        Ok(found)
    }
}

fn start_model() -> Result<Upstream> {
    let runtime = Runtime::new().context("start threads for the model of Kafka")?;
    let port = ports::free()?;
    let options = ModelOptions {
        advertised: Some(UPSTREAM.parse().context("the address of Kafka")?),
        port,
        ..ModelOptions::default()
    };
    let handle = runtime
        .block_on(ModelHandle::start(options))
        .context("start a model of Kafka")?;
    let created = handle.create_topic(TOPIC, PARTITIONS);
    created.map_err(|code| anyhow!("create the topic: {code:?}"))?;
    Ok(Upstream::Model {
        _runtime: runtime,
        handle,
        port,
    })
}

/// A listener more than the tests' Kafka has: clients of the host are told another address than the
/// guest.
fn start_apache(folder: &Path) -> Result<Upstream> {
    let jars = available().map_err(|reason| anyhow!(reason))?;
    let (port, guest_port, controller_port) = (ports::free()?, ports::free()?, ports::free()?);
    let listeners = format!(
        "PLAINTEXT://127.0.0.1:{port},GUEST://127.0.0.1:{guest_port},\
         CONTROLLER://127.0.0.1:{controller_port}"
    );
    let advertised = format!("PLAINTEXT://127.0.0.1:{port},GUEST://{UPSTREAM}");
    let protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUEST:PLAINTEXT";
    let properties = [
        ("listeners", listeners.as_str()),
        ("advertised.listeners", &advertised),
        ("listener.security.protocol.map", protocols),
    ];
    let node = Node {
        folder: folder.join("kafka"),
        port,
        controller_port,
        advertised: address(port),
        properties: properties
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        heap_mib: 256,
    };
    fs::create_dir_all(&node.folder).context("make Kafka's folder")?;
    node.prepare(&jars)?;
    let log = node.folder.join("kafka.log");
    let files = Files {
        stdout: &log,
        stderr: &log,
        scratch: None,
    };
    let mut process = Supervised::spawn("Kafka", &node.server(&jars), &files)?;
    let is_known = node.data().join(format!("{TOPIC}-0")).exists();
    process.wait_ready(|| {
        let answer = admin::partition_count(address(port), TOPIC);
        // A new node answers that it does not know the topic: error 3.
        let up = answer.map_or_else(
            |e| !is_known && e.to_string().ends_with("error 3"),
            |_| true,
        );
        up.then_some(())
    })?;
    if !is_known {
        admin::create_topic(address(port), TOPIC, PARTITIONS, &[])?;
        deadline::retry("leaders of the topic", PATIENCE, || {
            admin::partition_count(address(port), TOPIC)
        })?;
    }
    Ok(Upstream::Apache {
        node,
        guest_port,
        _process: process,
    })
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
