//! Clients that do nothing wrong while others do.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tests::broker_process::BrokerProcess;
use tests::command_line;
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;

/// A publisher and a subscriber whose messages must keep flowing.
pub(crate) struct Bystanders {
    publisher: Client,
    subscriber: Client,
    acknowledged: Vec<String>,
}

impl Bystanders {
    pub(crate) fn new(broker: &BrokerProcess) -> Self {
        let connect = |version, id| {
            let connect = Connect::new(version, id);
            Client::connect(broker.mqtt(), &connect).unwrap()
        };
        let mut subscriber = connect(Version::V311, "bystander 1");
        assert_eq!(subscriber.subscribe("bystanders").unwrap(), 1);
        Self {
            publisher: connect(Version::V5, "bystander 2"),
            subscriber,
            acknowledged: Vec::new(),
        }
    }

    /// One message is acknowledged and delivered, on the old connections and on a new one.
    pub(crate) fn exchange(&mut self) {
        let payload = format!("message {}", self.acknowledged.len());
        let publish = Publish::new("bystanders", &payload);
        let code = self.publisher.publish_acknowledged(publish).unwrap();
        assert_eq!(code, SUCCESS);
        let received = self.subscriber.receive_publish().unwrap();
        assert_eq!(received.payload, payload.as_bytes());
        self.acknowledged.push(payload);
    }

    /// What was acknowledged stands in the log of the running broker, in its order.
    pub(crate) fn expect_logged(&self, broker: &BrokerProcess) {
        assert_eq!(
            read(&["--admin", &broker.admin().to_string()], "bystanders"),
            self.acknowledged
        );
    }

    /// What was acknowledged stands in a folder, in its order.
    pub(crate) fn expect_in_folder(&self, folder: &Path) {
        assert_eq!(
            read(&["--data", folder.to_str().unwrap()], "bystanders"),
            self.acknowledged
        );
    }
}

/// The payloads of a topic in the log `default`.
pub(crate) fn read(source: &[&str], topic: &str) -> Vec<String> {
    let arguments = ["log", "read", "default", "--count", "100000", "--json"];
    let ended = command_line::tidegate(&[&arguments[..], source].concat()).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    let records = ended.stdout.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record
    });
    let of_topic = records.filter(|record| record["topic"] == topic);
    of_topic
        .map(|record| record["payload"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Whether a client that comes now is served.
pub(crate) fn is_served(address: SocketAddr) -> bool {
    Client::connect(address, &Connect::new(Version::V5, "newcomer")).is_ok()
}
