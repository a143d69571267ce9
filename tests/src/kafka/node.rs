//! The files and the command line of one Kafka node: broker and controller in one process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::program;

/// Any fixed id will do: every node has its own folder and its own controller.
const CLUSTER_ID: &str = "tidegate-tests-kafka00";

/// What a node needs to know.
#[derive(Debug, Clone)]
pub struct Node {
    /// Holds the configuration and, in `data/`, the log.
    pub folder: PathBuf,
    /// Port for clients, on 127.0.0.1.
    pub port: u16,
    /// Port of the controller, on 127.0.0.1.
    pub controller_port: u16,
    /// Address that clients are told to use.
    pub advertised: SocketAddr,
    /// Further server properties; they win over ours.
    pub properties: Vec<(String, String)>,
    /// Upper bound of the Java heap in MiB.
    pub heap_mib: u32,
}

/// The jars and a Java, or the reason for a skip.
///
/// # Errors
/// When either is not installed.
pub fn available() -> Result<PathBuf, String> {
    program::require("java", "default-jdk-headless")?;
    let jars = Cache::locate()
        .map_err(|error| format!("{error:#}"))?
        .kafka_jars();
    if jars.is_dir() {
        Ok(jars)
    } else {
        Err(String::from("Kafka is not installed (run ./test)"))
    }
}

impl Node {
    /// Writes the configuration and formats the data folder, once.
    ///
    /// # Errors
    /// When a file cannot be written, or what Kafka's own tool says about the configuration.
    pub fn prepare(&self, jars: &Path) -> Result<()> {
        fs::create_dir_all(&self.folder).context("create Kafka's folder")?;
        fs::write(
            self.logging(),
            include_str!("../../kafka/log4j2.properties"),
        )
        .context("write Kafka's logging configuration")?;
        let configuration = self.folder.join("server.properties");
        fs::write(&configuration, self.server_properties())
            .with_context(|| format!("write {}", configuration.display()))?;
        if self.data().join("meta.properties").exists() {
            return Ok(());
        }
        let output = self
            .java(jars)
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                CLUSTER_ID,
                "--config",
            ])
            .arg(&configuration)
            .output()
            .context("run Kafka's storage tool")?;
        if !output.status.success() {
            let (out, err) = (lossy(&output.stdout), lossy(&output.stderr));
            bail!("formatting {} failed:\n{out}{err}", self.data().display());
        }
        Ok(())
    }

    /// The command that runs the server.
    #[must_use]
    pub fn server(&self, jars: &Path) -> Command {
        let mut command = self.java(jars);
        command
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"));
        command
    }

    /// The folder of Kafka's log.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn logging(&self) -> PathBuf {
        self.folder.join("log4j2.properties")
    }

    /// Small and quick to start: the serial collector, only the first compiler.
    fn java(&self, jars: &Path) -> Command {
        let mut command = Command::new(program::find("java").unwrap_or_else(|| "java".into()));
        command
            .args(["-Xms64m", &format!("-Xmx{}m", self.heap_mib)])
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Djava.awt.headless=true",
                // A killed Java leaves its statistics and unpacked libraries behind: in the
                // temporary folder of the machine, unless it is told otherwise.
                "-XX:-UsePerfData",
            ])
            .arg(format!("-Djava.io.tmpdir={}", self.folder.display()))
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                self.logging().display()
            ))
            .arg("-cp")
            .arg(jars.join("*"))
            .current_dir(&self.folder);
        command
    }

    fn server_properties(&self) -> String {
        let Self {
            port,
            controller_port,
            advertised,
            ..
        } = self;
        let mut text = format!(
            "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A killed broker may not come back before its session has ended: 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default of 128 MiB is taken from the heap at once.
log.cleaner.dedupe.buffer.size=2097152
# So that producers that are to be forgotten are forgotten soon.
producer.id.expiration.check.interval.ms=200
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
",
            data = self.data().display(),
        );
        for (key, value) in &self.properties {
            // Java keeps the last of two lines with the same key.
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
