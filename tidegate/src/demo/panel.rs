//! A control panel beside the devices: in the end it looks at the retained states, and it makes sure
//! that the gateway has taken in everything that the devices have sent.
//!
//! Its own message belongs to a log that no route replicates, so that it is in nobody's balance.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, timeout_at};

use super::message::STATE_FILTER;
use super::mqtt_connection::{Event, MqttConnection, Version};

const CLIENT_ID: &str = "panel";
const TOPIC: &str = "panel/ready";

/// Subscribes and waits until `count` topics have shown their retained state: payloads by topic.
/// Before that it publishes a message of its own; once that is acknowledged, everything that the
/// gateway had read from connections that ended before is on flash.
///
/// # Errors
/// The gateway does not take part until `deadline`.
pub(super) async fn look(
    gateway: SocketAddr,
    count: usize,
    deadline: Instant,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut connection = MqttConnection::open(Version::V5, CLIENT_ID, gateway);
    let is_taken = connection.publish(TOPIC, true, false, "{}".to_owned())
        && connection.subscribe(STATE_FILTER);
    if !is_taken {
        bail!("the panel's connection takes nothing");
    }
    let mut states = BTreeMap::new();
    let mut is_acknowledged = false;
    while !is_acknowledged || states.len() < count {
        let event = timeout_at(deadline, connection.next()).await;
        let seen = states.len();
        let event = event.with_context(|| {
            format!("the panel has seen {seen} of {count} retained states, and time is up")
        })?;
        match event {
            Event::Connected | Event::Sent(_) => {}
            Event::Acknowledged(_) => is_acknowledged = true,
            Event::Message { topic, payload } => {
                states.insert(topic, payload);
            }
            Event::Refused(why) | Event::Lost(why) => {
                bail!("the panel has lost its connection: {why}")
            }
        }
    }
    Ok(states)
}
