//! Which client, which version, which QoS: and how each is made to publish.

use std::io::Write;
use std::process::{Command, Stdio};

use tests::deadline::PATIENCE;
use tests::mqtt::Version;
use tests::{mosquitto, python};

use crate::rumqttc_client;

/// Messages of each client.
pub(crate) const COUNT: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Mosquitto,
    Paho,
    Rumqttc,
}

impl Program {
    pub(crate) const ALL: [Self; 3] = [Self::Mosquitto, Self::Paho, Self::Rumqttc];
}

/// A client as this suite lets it run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    pub(crate) program: Program,
    pub(crate) version: Version,
    pub(crate) qos: u8,
}

impl Who {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Program::ALL.into_iter().flat_map(|program| {
            Version::BOTH.into_iter().flat_map(move |version| {
                [0, 1].map(|qos| Self {
                    program,
                    version,
                    qos,
                })
            })
        })
    }

    pub(crate) fn client_id(self) -> String {
        let level = self.version.level();
        format!("{:?}-v{level}-q{}", self.program, self.qos).to_lowercase()
    }

    /// Publishes the numbers from 0 on one connection, and waits for its acknowledgements.
    pub(crate) fn publish_numbers(self, port: u16, topic: &str) {
        match self.program {
            Program::Mosquitto => {
                let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
                self.mosquitto_pub(port, topic, &["-l"], &lines);
            }
            Program::Paho => {
                let (port, level) = (port.to_string(), self.version.level().to_string());
                let (qos, count, client_id) =
                    (self.qos.to_string(), COUNT.to_string(), self.client_id());
                let arguments = [&port, "--topic", topic, "--protocol", &level, "--qos", &qos];
                let more = ["--count", &count, "--client-id", &client_id];
                let arguments = [&arguments[..], &more[..]].concat();
                let acknowledged = python::run("mqtt_publish.py", &arguments, PATIENCE).unwrap();
                assert_eq!(acknowledged.len(), COUNT, "{self:?}");
            }
            Program::Rumqttc => {
                let payloads: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
                let publish = rumqttc_client::Publish {
                    client_id: &self.client_id(),
                    topic,
                    qos: self.qos,
                    retain: false,
                    payloads: &payloads,
                };
                rumqttc_client::publish(port, self.version, &publish);
            }
        }
    }

    pub(crate) fn mosquitto_pub(self, port: u16, topic: &str, arguments: &[&str], input: &str) {
        let (mosquitto_pub, _) = mosquitto::clients().unwrap();
        let mut child = Command::new(mosquitto_pub)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic])
            .args(["-V", mosquitto_version(self.version)])
            .args(["-q", &self.qos.to_string(), "-i", &self.client_id()])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{self:?}");
    }
}

pub(crate) fn mosquitto_version(version: Version) -> &'static str {
    match version {
        Version::V311 => "mqttv311",
        Version::V5 => "mqttv5",
    }
}
