//! Subscribers that return to the same messages, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{DISCONNECT, SUCCESS, Written, next, payload, stay, subscribe};
use crate::broker_process::BrokerProcess;
use crate::mqtt::packet::{self, Connect, Packet, Publish};
use crate::mqtt::{Client, Version};

/// What a subscriber asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) qos: u8,
    pub(super) receive_maximum: u16,
}

const fn case(qos: u8, receive_maximum: u16) -> Case {
    Case {
        qos,
        receive_maximum,
    }
}

/// All that are measured.
pub(super) const CASES: [Case; 6] = [
    case(2, 1),
    case(2, 8),
    case(2, 64),
    case(1, 1),
    case(1, 8),
    case(1, 64),
];

const TOPIC: &str = "backlog";
/// Messages that are published at a time.
const BURST: u16 = 64;

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) messages: u32,
    pub(super) messages_per_second: f64,
    /// For each message.
    pub(super) written: Written,
}

/// A session for each case, and what waits for them.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: u32,
}

impl Case {
    fn client_id(self) -> String {
        format!("backlog-{}-{}", self.qos, self.receive_maximum)
    }
}

impl Waiting {
    /// Makes the sessions, and publishes so many messages of QoS 2.
    pub(super) fn prepare(broker: &BrokerProcess, messages: u32) -> Result<Self> {
        for case in CASES {
            let mut client = stay(broker, &case.client_id(), None)?;
            subscribe(&mut client, TOPIC, case.qos)?;
            leave(client)?;
        }
        let connect = Connect::new(Version::V5, "publisher");
        let mut publisher = Client::connect(broker.mqtt(), &connect)?;
        let mut number = 0;
        while number < messages {
            let burst = u32::from(BURST).min(messages - number);
            publish_burst(&mut publisher, number, burst)?;
            number += burst;
        }
        Ok(Self { messages })
    }

    /// The subscriber of this case returns, and stays until it has everything or for so long.
    pub(super) fn measure(
        &self,
        broker: &BrokerProcess,
        case: Case,
        time: Duration,
    ) -> Result<Measured> {
        let before = Written::so_far(broker)?;
        let mut client = stay(broker, &case.client_id(), Some(case.receive_maximum))?;
        let begin = Instant::now();
        let (mut received, mut elapsed) = (0, Duration::ZERO);
        while received < self.messages && begin.elapsed() < time {
            match next(&mut client)? {
                Packet::Publish(publish) => {
                    let expected = publish.payload == payload(received);
                    ensure!(expected, "{publish:?} in the place of {received}");
                    received += 1;
                    elapsed = begin.elapsed();
                    let packet_id = publish.packet_id.unwrap_or_default();
                    client.send(&match case.qos {
                        2 => packet::pubrec(packet_id),
                        _ => packet::puback(packet_id),
                    })?;
                }
                Packet::Pubrel { packet_id, .. } => client.send(&packet::pubcomp(packet_id))?,
                other => bail!("{other:?} in the place of PUBLISH"),
            }
        }
        leave(client)?;
        Ok(Measured {
            messages: received,
            messages_per_second: f64::from(received) / elapsed.as_secs_f64(),
            written: Written::so_far(broker)?.since(before, received),
        })
    }
}

/// Says good-bye, and waits until that is heard.
fn leave(mut client: Client) -> Result<()> {
    client.send(&DISCONNECT)?;
    while client.receive()?.is_some() {}
    Ok(())
}

fn publish_burst(publisher: &mut Client, first: u32, count: u32) -> Result<()> {
    let mut bytes = Vec::new();
    for (number, packet_id) in (first..first + count).zip(1..) {
        let publish = Publish {
            packet_id: Some(packet_id),
            exactly_once: true,
            ..Publish::new(TOPIC, payload(number))
        };
        bytes.extend(publish.encode(Version::V5));
    }
    publisher.send(&bytes)?;
    let mut left = count;
    while left > 0 {
        match next(publisher)? {
            Packet::Pubrec {
                packet_id,
                code: SUCCESS,
            } => publisher.send(&packet::pubrel(packet_id))?,
            Packet::Pubcomp { code: SUCCESS, .. } => left -= 1,
            other => bail!("{other:?} in the place of PUBREC and PUBCOMP"),
        }
    }
    Ok(())
}
