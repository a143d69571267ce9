//! rumqttc in MQTT 3.1.1.

use anyhow::Result;
use rumqttc::{
    AsyncClient, ConnectionError, Event as Happening, EventLoop, LastWill, MqttOptions, Outgoing,
    Packet, QoS, StateError, SubscribeReasonCode,
};
use tokio::sync::oneshot;

use super::{PACKET_BYTES_MAX, Poll, REQUESTS_MAX, Requests, Told};
use crate::connection::{Commands, Connack, Event};
use crate::message::{Connect, Message, Subscription};

pub(super) fn open(
    port: u16,
    connect: &Connect,
    cut: oneshot::Sender<()>,
) -> (Box<dyn Commands>, impl Poll) {
    let mut options = MqttOptions::new(&connect.client_id, "127.0.0.1", port);
    options.set_clean_session(connect.clean);
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    if let Some(will) = &connect.will {
        let Message {
            topic,
            payload,
            qos,
            retain,
            ..
        } = &will.message;
        options.set_last_will(LastWill::new(topic, payload.clone(), qos_of(*qos), *retain));
    }
    let (client, eventloop) = AsyncClient::new(options, REQUESTS_MAX);
    (Box::new(Requests::new(client, cut)), eventloop)
}

fn qos_of(qos: u8) -> QoS {
    rumqttc::qos(qos).unwrap()
}

impl Commands for Requests<AsyncClient> {
    fn subscribe(&self, subscription: &Subscription) -> Result<()> {
        let Subscription { filter, qos, .. } = subscription;
        Ok(self.client.try_subscribe(filter, qos_of(*qos))?)
    }

    fn publish(&self, message: &Message) -> Result<()> {
        let Message {
            topic,
            payload,
            qos,
            retain,
            ..
        } = message;
        let payload = payload.clone();
        Ok(self
            .client
            .try_publish(topic, qos_of(*qos), *retain, payload)?)
    }

    fn disconnect(&self) -> Result<()> {
        Ok(self.client.try_disconnect()?)
    }

    fn cut(&self) -> Result<()> {
        self.cut()
    }
}

impl Poll for EventLoop {
    async fn poll_told(&mut self) -> Result<Told, Event> {
        let happening = self.poll().await.map_err(|error| match error {
            ConnectionError::MqttState(StateError::ConnectionAborted | StateError::Io(_))
            | ConnectionError::Io(_) => Event::Closed(None),
            other => Event::Failed(other.to_string()),
        })?;
        Ok(match happening {
            Happening::Incoming(Packet::ConnAck(connack)) => {
                Told::Event(Event::Connected(Connack {
                    session_present: Some(connack.session_present),
                    maximum_packet_size: None,
                }))
            }
            Happening::Incoming(Packet::SubAck(suback)) => {
                let code = |code: &SubscribeReasonCode| match code {
                    SubscribeReasonCode::Success(qos) => *qos as u8,
                    SubscribeReasonCode::Failure => 0x80,
                };
                let codes = suback.return_codes.iter().map(code);
                Told::Event(Event::Subscribed(codes.collect()))
            }
            Happening::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
            | Happening::Outgoing(Outgoing::Publish(0)) => Told::Event(Event::Published(0)),
            Happening::Incoming(Packet::Publish(publish)) => {
                let message =
                    Message::new(&publish.topic, publish.payload.to_vec(), publish.qos as u8);
                Told::Event(Event::Message(message.retained(publish.retain)))
            }
            Happening::Outgoing(Outgoing::Disconnect) => Told::Gone,
            _ => Told::Nothing,
        })
    }
}
