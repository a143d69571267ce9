//! One message at a time from a publisher to a subscriber, both with the same QoS.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{SUCCESS, Written, median_and_p99, next, payload, stay, subscribe};
use crate::broker_process::BrokerProcess;
use crate::deadline::PATIENCE;
use crate::mqtt::packet::{self, Connect, Packet, Publish};
use crate::mqtt::{Client, Version};

/// QoS of message and subscription.
pub(super) const CASES: [u8; 3] = [2, 1, 0];

const PACKET_ID: u16 = 1;
const MS_OF_A_SECOND: f64 = 1_000.0;

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// From PUBLISH to PUBLISH at the subscriber: median and 99th percentile.
    pub(super) delivered_ms: (f64, f64),
    /// From PUBLISH to PUBCOMP or PUBACK at the publisher.
    pub(super) completed_ms: (f64, f64),
    /// For each message.
    pub(super) written: Written,
}

/// What the subscriber has to say of each message.
enum Told {
    Came(Instant),
    /// It has answered to the end.
    IsThrough,
}

/// Sends so many messages.
pub(super) fn measure(broker: &BrokerProcess, qos: u8, messages: u32) -> Result<Measured> {
    let topic = format!("live/{qos}");
    let mut subscriber = stay(broker, &format!("live-{qos}"), None)?;
    subscribe(&mut subscriber, &topic, qos)?;
    let connect = Connect::new(Version::V5, "publisher");
    let mut publisher = Client::connect(broker.mqtt(), &connect)?;
    let before = Written::so_far(broker)?;
    let (telling, told) = mpsc::sync_channel(2);
    let (delivered, completed) = thread::scope(|scope| {
        let receiving = scope.spawn(move || receive(&mut subscriber, qos, messages, &telling));
        let published = publish_all(&mut publisher, &topic, qos, messages, &told);
        let received = receiving.join();
        received.map_err(|_| anyhow!("the subscriber panicked"))??;
        published
    })?;
    Ok(Measured {
        delivered_ms: median_and_p99(delivered),
        completed_ms: median_and_p99(completed),
        written: Written::so_far(broker)?.since(before, messages),
    })
}

fn publish_all(
    publisher: &mut Client,
    topic: &str,
    qos: u8,
    messages: u32,
    told: &Receiver<Told>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut delivered, mut completed) = (Vec::new(), Vec::new());
    for number in 0..messages {
        let publish = Publish {
            packet_id: (qos > 0).then_some(PACKET_ID),
            exactly_once: qos == 2,
            ..Publish::new(topic, payload(number))
        };
        let bytes = publish.encode(Version::V5);
        let sent = Instant::now();
        publisher.send(&bytes)?;
        complete(publisher, qos)?;
        let ms = |at: Instant| at.duration_since(sent).as_secs_f64() * MS_OF_A_SECOND;
        completed.push(ms(Instant::now()));
        let tell = || told.recv_timeout(PATIENCE).context("no word of it came");
        while let Told::Came(at) = tell()? {
            delivered.push(ms(at));
        }
    }
    Ok((delivered, completed))
}

/// The publisher's side, after PUBLISH.
fn complete(publisher: &mut Client, qos: u8) -> Result<()> {
    if qos == 1 {
        return match next(publisher)? {
            Packet::Puback { code: SUCCESS, .. } => Ok(()),
            other => bail!("{other:?} in the place of PUBACK"),
        };
    }
    if qos == 2 {
        match next(publisher)? {
            Packet::Pubrec { code: SUCCESS, .. } => publisher.send(&packet::pubrel(PACKET_ID))?,
            other => bail!("{other:?} in the place of PUBREC"),
        }
        match next(publisher)? {
            Packet::Pubcomp { code: SUCCESS, .. } => {}
            other => bail!("{other:?} in the place of PUBCOMP"),
        }
    }
    Ok(())
}

/// The subscriber's side.
fn receive(
    subscriber: &mut Client,
    qos: u8,
    messages: u32,
    telling: &SyncSender<Told>,
) -> Result<()> {
    for number in 0..messages {
        let Packet::Publish(publish) = next(subscriber)? else {
            bail!("something else in the place of PUBLISH");
        };
        let came = Instant::now();
        ensure!(publish.qos() == qos && publish.payload == payload(number));
        telling.send(Told::Came(came))?;
        match (qos, publish.packet_id) {
            (1, Some(packet_id)) => subscriber.send(&packet::puback(packet_id))?,
            (2, Some(packet_id)) => {
                subscriber.send(&packet::pubrec(packet_id))?;
                match next(subscriber)? {
                    Packet::Pubrel { .. } => subscriber.send(&packet::pubcomp(packet_id))?,
                    other => bail!("{other:?} in the place of PUBREL"),
                }
            }
            _ => {}
        }
        telling.send(Told::IsThrough)?;
    }
    Ok(())
}
