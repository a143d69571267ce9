//! One connection of `pub` or `sub` to a broker.
//!
//! A task drives `rumqttc`, because its `poll` must not be dropped half way; it ends with the first
//! error, so that nothing is ever sent over a second connection of which the caller does not know.
//! Requests and events go through bounded channels. Deadlock is impossible: the caller makes no
//! more than [`WINDOW`] requests that are not yet answered, and for so many there is room.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use mqtt::{FIELD_BYTES_MAX, QoS, TopicFilter};
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{Transport, v5};
use tokio::sync::mpsc;

use crate::cli::client::{ConnectionOptions, MqttVersion};
use crate::client::event::Event;
use crate::client::failure::Circumstances;
use crate::client::tls;

/// Messages on their way to the broker at one time.
pub(super) const WINDOW: usize = INFLIGHT_MAX as usize;
/// Requests that wait beside the messages: SUBSCRIBE or DISCONNECT.
const OTHER_REQUESTS: usize = 2;
/// The same as `rumqttc` counts.
const INFLIGHT_MAX: u16 = 64;
const EVENTS_MAX: usize = 256;
/// Longest packet in bytes that is sent or received. The standard's own limit is four times as much.
pub(super) const PACKET_BYTES_MAX: u32 = 64 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// What is to be published.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) user_properties: Vec<(String, String)>,
}

/// A connection, from CONNECT on.
#[derive(Debug)]
pub(super) struct Connection {
    requests: Requests,
    events: mpsc::Receiver<anyhow::Result<Event>>,
    circumstances: Circumstances,
}

enum Requests {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

enum EventLoop {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What goes into CONNECT, and the way there.
struct Login {
    id: String,
    credentials: Option<(String, String)>,
    transport: Transport,
}

impl Connection {
    /// Begins to connect; the first event says whether it worked. Runs inside a `LocalSet`.
    pub(super) fn open(options: &ConnectionOptions) -> anyhow::Result<Self> {
        let (transport, default_port) = match &options.cafile {
            Some(cafile) => (tls::transport(cafile)?, PORT_TLS),
            None => (Transport::tcp(), PORT),
        };
        let port = options.port.unwrap_or(default_port);
        let login = Login {
            id: options.id.clone().unwrap_or_else(random_id),
            credentials: credentials(options)?,
            transport,
        };
        let circumstances = Circumstances {
            broker: address(&options.host, port),
            encrypted: options.cafile.is_some(),
            timeout_seconds: options.timeout,
            connected: false,
        };
        let (requests, event_loop) = match options.mqtt_version {
            MqttVersion::V311 => open_v311(options, port, login),
            MqttVersion::V5 => open_v5(options, port, login),
        };
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        tokio::task::spawn_local(drive(event_loop, circumstances.clone(), sender));
        Ok(Self {
            requests,
            events,
            circumstances,
        })
    }

    /// The next event; may be dropped half way.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        let event = self.events.recv().await;
        let event = event.unwrap_or_else(|| Err(anyhow!("the connection has ended")))?;
        if matches!(event, Event::Connected(_)) {
            self.circumstances.connected = true;
        }
        Ok(event)
    }

    /// The next event, or that the broker is silent.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Event> {
        let timeout = self.timeout();
        match tokio::time::timeout(timeout, self.next()).await {
            Ok(event) => event,
            Err(_) => Err(self.silent()),
        }
    }

    /// Longest silence of a broker that owes an answer.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.circumstances.timeout_seconds)
    }

    /// The error for a broker that has been silent for so long.
    pub(super) fn silent(&self) -> anyhow::Error {
        self.circumstances.silent()
    }

    /// Sends a message as soon as it is its turn; at most [`WINDOW`] may be unanswered.
    pub(super) fn publish(&self, message: Outgoing) -> anyhow::Result<()> {
        let Outgoing {
            topic,
            payload,
            qos,
            retain,
            user_properties,
        } = message;
        let sent = match &self.requests {
            Requests::V311(client) => client
                .try_publish(topic, qos_v311(qos), retain, payload)
                .is_ok(),
            Requests::V5(client) => {
                let properties = packets::PublishProperties {
                    user_properties,
                    ..packets::PublishProperties::default()
                };
                client
                    .try_publish_with_properties(topic, qos_v5(qos), retain, payload, properties)
                    .is_ok()
            }
        };
        // Not an end of the connection: events tell that, with its reason.
        sent.then_some(()).context("queue a message")
    }

    /// Subscribes to all filters in one packet.
    pub(super) fn subscribe(&self, filters: &[TopicFilter], qos: QoS) -> anyhow::Result<()> {
        let sent =
            match &self.requests {
                Requests::V311(client) => client
                    .try_subscribe_many(filters.iter().map(|filter| {
                        rumqttc::SubscribeFilter::new(filter.to_string(), qos_v311(qos))
                    }))
                    .is_ok(),
                Requests::V5(client) => client
                    .try_subscribe_many(
                        filters
                            .iter()
                            .map(|filter| packets::Filter::new(filter.to_string(), qos_v5(qos))),
                    )
                    .is_ok(),
            };
        sent.then_some(()).context("queue the subscription")
    }

    /// Says good-bye and waits until the broker has closed: by then it has read everything that was
    /// sent, of QoS 0 too. A broker that does not close is not waited for long.
    pub(super) async fn close(mut self) {
        let queued = match &self.requests {
            Requests::V311(client) => client.try_disconnect().is_ok(),
            Requests::V5(client) => client.try_disconnect().is_ok(),
        };
        let patience = self.timeout().min(CLOSE_PATIENCE);
        let until_closed = async { while self.events.recv().await.is_some_and(|e| e.is_ok()) {} };
        if queued {
            // Silence is no failure here: there is nothing left to learn.
            let _ = tokio::time::timeout(patience, until_closed).await;
        }
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V311(_) => "V311",
            Self::V5(_) => "V5",
        })
    }
}

fn open_v311(options: &ConnectionOptions, port: u16, login: Login) -> (Requests, EventLoop) {
    let bytes_max = usize::try_from(PACKET_BYTES_MAX).unwrap_or(usize::MAX);
    let mut mqtt = rumqttc::MqttOptions::new(login.id, &options.host, port);
    mqtt.set_transport(login.transport)
        .set_keep_alive(KEEP_ALIVE)
        .set_inflight(INFLIGHT_MAX)
        .set_max_packet_size(bytes_max, bytes_max);
    if let Some((username, password)) = login.credentials {
        mqtt.set_credentials(username, password);
    }
    let (client, mut event_loop) = rumqttc::AsyncClient::new(mqtt, WINDOW + OTHER_REQUESTS);
    let mut network = event_loop.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(options.timeout);
    event_loop.set_network_options(network);
    (
        Requests::V311(client),
        EventLoop::V311(Box::new(event_loop)),
    )
}

fn open_v5(options: &ConnectionOptions, port: u16, login: Login) -> (Requests, EventLoop) {
    let mut mqtt = v5::MqttOptions::new(login.id, &options.host, port);
    let mut network = mqtt.network_options();
    network.set_tcp_nodelay(true);
    mqtt.set_transport(login.transport)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_connection_timeout(options.timeout)
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_network_options(network);
    if let Some((username, password)) = login.credentials {
        mqtt.set_credentials(username, password);
    }
    let (client, event_loop) = v5::AsyncClient::new(mqtt, WINDOW + OTHER_REQUESTS);
    (Requests::V5(client), EventLoop::V5(Box::new(event_loop)))
}

/// Passes events on until the first error or until nobody wants them.
async fn drive(
    mut event_loop: EventLoop,
    mut circumstances: Circumstances,
    events: mpsc::Sender<anyhow::Result<Event>>,
) {
    loop {
        let polled = match &mut event_loop {
            EventLoop::V311(event_loop) => match event_loop.poll().await {
                Ok(event) => Ok(Event::from_v311(event)),
                Err(error) => Err(circumstances.explain_v311(error)),
            },
            EventLoop::V5(event_loop) => match event_loop.poll().await {
                Ok(event) => Ok(Event::from_v5(event)),
                Err(error) => Err(circumstances.explain_v5(error)),
            },
        };
        let event = match polled {
            Ok(None) => continue,
            Ok(Some(event)) => event,
            Err(error) => {
                // What was read together with the end came before it.
                for event in event_loop.remaining() {
                    if events.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                // Nobody to tell if the receiver has gone.
                let _ = events.send(Err(error)).await;
                return;
            }
        };
        circumstances.connected |= matches!(event, Event::Connected(_));
        if events.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

impl EventLoop {
    fn remaining(&mut self) -> Vec<Event> {
        match self {
            Self::V311(event_loop) => {
                let events = event_loop.state.events.drain(..);
                events.filter_map(Event::from_v311).collect()
            }
            Self::V5(event_loop) => {
                let events = event_loop.state.events.drain(..);
                events.filter_map(Event::from_v5).collect()
            }
        }
    }
}

fn qos_v311(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn qos_v5(qos: QoS) -> v5::mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

/// 23 letters and digits: what every 3.1.1 broker must take.
fn random_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("tidegate{:015x}", random >> 4)
}

fn credentials(options: &ConnectionOptions) -> anyhow::Result<Option<(String, String)>> {
    let Some(username) = &options.username else {
        return Ok(None);
    };
    let password = match &options.password_file {
        Some(path) => first_line(path)?,
        None => String::new(),
    };
    Ok(Some((username.clone(), password)))
}

fn first_line(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("open the password file {name}"))?;
    let mut line = String::new();
    // One more than is possible, and the end of the line.
    BufReader::new(file)
        .take(FIELD_BYTES_MAX as u64 + 3)
        .read_line(&mut line)
        .with_context(|| format!("read the password file {name}"))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.len() > FIELD_BYTES_MAX {
        bail!(
            "the first line of the password file {name} is empty or longer than {FIELD_BYTES_MAX} \
             bytes"
        );
    }
    Ok(line.to_owned())
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn random_id_suits_every_broker_of_mqtt_3_1_1() {
        let id = random_id();
        assert_eq!(id.len(), 23);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(id, random_id());
    }

    #[test]
    fn password_is_the_first_line_and_may_not_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "geheim mit raum\r\nnot this\n").unwrap();
        assert_eq!(first_line(&path).unwrap(), "geheim mit raum");
        for text in ["\nsecond\n", &"x".repeat(65_536)] {
            fs::write(&path, text).unwrap();
            let error = first_line(&path).unwrap_err().to_string();
            assert!(error.contains("is empty or longer than 65535"), "{error}");
        }
    }
}
