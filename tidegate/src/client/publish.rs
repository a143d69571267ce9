//! `tidegate pub`: publishes, and succeeds when the broker has answered for every message.
//!
//! Messages go out in the order of the input, several at a time. The first refusal ends it: what is
//! on its way then is still waited for, nothing more is begun.

use std::collections::HashMap;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use mqtt::QoS;
use tokio::time::{Instant, sleep_until};

use crate::cli::client::{MqttVersion, PubOptions};
use crate::client::connection::{Connection, Outgoing, WINDOW};
use crate::client::event::{Event, Terms};
use crate::client::input::Input;

/// Publishes what the options say.
pub(super) async fn publish(options: &PubOptions) -> anyhow::Result<()> {
    let qos = QoS::from_bits(options.qos).unwrap_or_default();
    if options.connection.mqtt_version == MqttVersion::V311 && !options.property.is_empty() {
        bail!("MQTT 3.1.1 has no user properties: use --property with --mqtt-version 5");
    }
    let mut input = Input::open(options)?;
    let mut connection = Connection::open(&options.connection)?;
    match connection.answer().await? {
        Event::Connected(terms) => check(&terms, options, qos)?,
        event => bail!("the broker began with {event:?} instead of CONNACK"),
    }
    let mut progress = Progress::new(qos);
    match pump(options, &mut input, &mut connection, &mut progress).await {
        Ok(()) => {
            connection.close().await;
            progress.result()
        }
        Err(error) => Err(progress.explain(error, options.connection.mqtt_version)),
    }
}

/// Whether the broker has said that it does not serve this.
fn check(terms: &Terms, options: &PubOptions, qos: QoS) -> anyhow::Result<()> {
    if qos > terms.qos_max {
        bail!(
            "the broker serves at most {}: use --qos {}",
            terms.qos_max,
            terms.qos_max as u8
        );
    }
    if options.retain && !terms.takes_retained {
        bail!("the broker keeps no retained messages: publish without --retain");
    }
    Ok(())
}

async fn pump(
    options: &PubOptions,
    input: &mut Input,
    connection: &mut Connection,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut at_end = false;
    let mut deadline = Instant::now() + connection.timeout();
    loop {
        at_end |= progress.refusal.is_some();
        if at_end && progress.unanswered() == 0 {
            return Ok(());
        }
        tokio::select! {
            biased;
            event = connection.next() => {
                progress.handle(event?);
                deadline = Instant::now() + connection.timeout();
            }
            payload = input.next(), if !at_end && progress.unanswered() < WINDOW => {
                match payload? {
                    Some(payload) => {
                        if progress.unanswered() == 0 {
                            deadline = Instant::now() + connection.timeout();
                        }
                        connection.publish(message(options, progress.qos, payload))?;
                        progress.begun += 1;
                    }
                    None => at_end = true,
                }
            }
            () = sleep_until(deadline), if progress.unanswered() > 0 => {
                return Err(connection.silent());
            }
        }
    }
}

fn message(options: &PubOptions, qos: QoS, payload: Bytes) -> Outgoing {
    Outgoing {
        topic: options.topic.to_string(),
        payload,
        qos,
        retain: options.retain,
        user_properties: options.property.clone(),
    }
}

/// How far it has got. Messages count from 1.
#[derive(Debug)]
struct Progress {
    qos: QoS,
    begun: u64,
    sent: u64,
    /// With QoS 0, handed over; with QoS 1 and 2, answered.
    finished: u64,
    refused: u64,
    /// The first one.
    refusal: Option<(u64, String)>,
    /// The message that each packet identifier stands for.
    inflight: HashMap<u16, u64>,
}

impl Progress {
    fn new(qos: QoS) -> Self {
        Self {
            qos,
            begun: 0,
            sent: 0,
            finished: 0,
            refused: 0,
            refusal: None,
            inflight: HashMap::new(),
        }
    }

    fn unanswered(&self) -> usize {
        usize::try_from(self.begun - self.finished).unwrap_or(usize::MAX)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Sent { packet_id } => {
                self.sent += 1;
                if self.qos == QoS::AtMostOnce {
                    self.finished += 1;
                } else {
                    self.inflight.insert(packet_id, self.sent);
                }
            }
            Event::Answered { packet_id, refusal } => {
                // `rumqttc` lets only answers to what was sent through.
                let number = self.inflight.remove(&packet_id).unwrap_or(self.sent);
                self.finished += 1;
                if let Some(refusal) = refusal {
                    self.refused += 1;
                    self.refusal.get_or_insert((number, refusal));
                }
            }
            Event::Connected(_) | Event::Subscribed(_) | Event::Message(_) => {}
        }
    }

    fn result(&self) -> anyhow::Result<()> {
        let Some((number, refusal)) = &self.refusal else {
            return Ok(());
        };
        let accepted = self.finished - self.refused;
        bail!("the broker refused message {number}: {refusal}; it acknowledged {accepted} messages")
    }

    /// What the end of the connection means for the messages.
    fn explain(&self, error: anyhow::Error, version: MqttVersion) -> anyhow::Error {
        if let Err(refusal) = self.result() {
            return refusal;
        }
        let Self {
            qos,
            begun,
            finished,
            ..
        } = self;
        if *qos == QoS::AtMostOnce {
            return error;
        }
        let hint = if *qos == QoS::ExactlyOnce && version == MqttVersion::V311 && *finished == 0 {
            "; it may not serve QoS 2, which MQTT 3.1.1 has no word for: use --qos 1"
        } else {
            ""
        };
        anyhow!("{error:#}; it acknowledged {finished} of {begun} messages{hint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(packet_id: u16, refusal: Option<&str>) -> Event {
        Event::Answered {
            packet_id,
            refusal: refusal.map(str::to_owned),
        }
    }

    #[test]
    fn first_refusal_is_told_with_the_number_of_its_message() {
        let mut progress = Progress::new(QoS::AtLeastOnce);
        progress.begun = 3;
        for packet_id in [7, 8, 9] {
            progress.handle(Event::Sent { packet_id });
        }
        progress.handle(answered(7, None));
        progress.handle(answered(9, Some("quota exceeded (0x97)")));
        assert_eq!(progress.unanswered(), 1);
        progress.handle(answered(8, Some("unspecified error (0x80)")));
        assert_eq!(progress.unanswered(), 0);
        let error = progress.result().unwrap_err().to_string();
        let expected =
            "the broker refused message 3: quota exceeded (0x97); it acknowledged 1 messages";
        assert_eq!(error, expected);
    }

    #[test]
    fn lost_connection_says_how_many_messages_are_safe() {
        let mut progress = Progress::new(QoS::AtLeastOnce);
        progress.begun = 2;
        progress.handle(Event::Sent { packet_id: 1 });
        progress.handle(answered(1, None));
        let error = progress.explain(anyhow!("gone"), MqttVersion::V5);
        assert_eq!(error.to_string(), "gone; it acknowledged 1 of 2 messages");
    }
}
