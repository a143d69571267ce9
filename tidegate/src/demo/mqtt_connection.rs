//! One MQTT connection of a device, in either version of the protocol.
//!
//! The event loop runs in a task of its own, so that whoever waits for an event may stop waiting
//! without tearing a packet apart.
//!
//! Invariants:
//! - Sessions are clean: nothing of an earlier connection is sent again by the client library. The
//!   device decides that, with its outbox.
//! - Dropping the connection ends its task and closes the socket.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{Outgoing, Packet, QoS, v5};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Messages of QoS 1 on their way; the library keeps a table of that size.
const INFLIGHT_MAX: u16 = 32;
/// Messages that the library takes before it has sent them.
const REQUESTS_MAX: usize = 16;
const EVENTS_MAX: usize = 64;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

/// What happens on the connection.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// A message of QoS 1 got this packet id and goes out.
    Sent(u16),
    Acknowledged(u16),
    /// Only MQTT 5 says so.
    Refused(String),
    /// A message came.
    Message {
        topic: String,
        payload: Vec<u8>,
    },
    /// The connection has ended; nothing follows.
    Lost(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct MqttConnection {
    client: Client,
    events: mpsc::Receiver<Event>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl MqttConnection {
    /// Begins to connect; [`Event::Connected`] or [`Event::Lost`] follows.
    pub(super) fn open(version: Version, client_id: &str, address: SocketAddr) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut task = JoinSet::new();
        let host = address.ip().to_string();
        let client = match version {
            Version::V311 => {
                let mut options = rumqttc::MqttOptions::new(client_id, host, address.port());
                options.set_keep_alive(KEEP_ALIVE);
                options.set_inflight(INFLIGHT_MAX);
                let (client, event_loop) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
                task.spawn_local(run_v311(event_loop, sender));
                Client::V311(client)
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(client_id, host, address.port());
                options.set_keep_alive(KEEP_ALIVE);
                options.set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
                let (client, event_loop) = v5::AsyncClient::new(options, REQUESTS_MAX);
                task.spawn_local(run_v5(event_loop, sender));
                Client::V5(client)
            }
        };
        Self {
            client,
            events,
            _task: task,
        }
    }

    /// The next event. May be given up and asked again.
    pub(super) async fn next(&mut self) -> Event {
        let event = self.events.recv().await;
        event.unwrap_or_else(|| Event::Lost("its task has ended".to_owned()))
    }

    /// Gives a message to the connection; false if it takes none for now.
    pub(super) fn publish(
        &self,
        topic: &str,
        is_acknowledged: bool,
        retain: bool,
        payload: String,
    ) -> bool {
        match &self.client {
            Client::V311(client) => {
                let qos = if is_acknowledged {
                    QoS::AtLeastOnce
                } else {
                    QoS::AtMostOnce
                };
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
            Client::V5(client) => {
                use v5::mqttbytes::QoS;
                let qos = if is_acknowledged {
                    QoS::AtLeastOnce
                } else {
                    QoS::AtMostOnce
                };
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
        }
    }

    /// Asks for messages; false if the connection takes nothing for now.
    pub(super) fn subscribe(&self, filter: &str) -> bool {
        match &self.client {
            Client::V311(client) => client.try_subscribe(filter, QoS::AtLeastOnce).is_ok(),
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                client.try_subscribe(filter, qos).is_ok()
            }
        }
    }

    /// Says goodbye behind everything that was published; [`Event::Lost`] follows.
    pub(super) fn disconnect(&self) -> bool {
        match &self.client {
            Client::V311(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

async fn run_v311(mut event_loop: rumqttc::EventLoop, events: mpsc::Sender<Event>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => Event::Connected,
            Ok(rumqttc::Event::Incoming(Packet::PubAck(puback))) => {
                Event::Acknowledged(puback.pkid)
            }
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => Event::Message {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
            },
            Ok(rumqttc::Event::Outgoing(outgoing)) => match from_outgoing(&outgoing) {
                Some(event) => event,
                None => continue,
            },
            Ok(rumqttc::Event::Incoming(_)) => continue,
            Err(error) => Event::Lost(error.to_string()),
        };
        if !tell(&events, event).await {
            return;
        }
    }
}

async fn run_v5(mut event_loop: v5::EventLoop, events: mpsc::Sender<Event>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(v5::Event::Incoming(packets::Packet::ConnAck(_))) => Event::Connected,
            Ok(v5::Event::Incoming(packets::Packet::PubAck(puback))) => match puback.reason {
                packets::PubAckReason::Success | packets::PubAckReason::NoMatchingSubscribers => {
                    Event::Acknowledged(puback.pkid)
                }
                reason => Event::Refused(format!("{reason:?}")),
            },
            Ok(v5::Event::Incoming(packets::Packet::Publish(publish))) => Event::Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
            },
            Ok(v5::Event::Outgoing(outgoing)) => match from_outgoing(&outgoing) {
                Some(event) => event,
                None => continue,
            },
            Ok(v5::Event::Incoming(_)) => continue,
            Err(error) => Event::Lost(error.to_string()),
        };
        if !tell(&events, event).await {
            return;
        }
    }
}

fn from_outgoing(outgoing: &Outgoing) -> Option<Event> {
    match outgoing {
        // Messages of QoS 0 have no packet id.
        Outgoing::Publish(packet_id) if *packet_id != 0 => Some(Event::Sent(*packet_id)),
        Outgoing::Disconnect => Some(Event::Lost("disconnected".to_owned())),
        _ => None,
    }
}

/// Passes an event on; false when it was the last one.
async fn tell(events: &mpsc::Sender<Event>, event: Event) -> bool {
    let is_last = matches!(event, Event::Lost(_));
    events.send(event).await.is_ok() && !is_last
}
