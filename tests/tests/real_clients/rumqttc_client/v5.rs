//! rumqttc in MQTT 5.

use anyhow::Result;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, LastWill, LastWillProperties, Packet, PubAckReason, Publish,
    PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event as Happening, EventLoop, MqttOptions, StateError,
};
use tokio::sync::oneshot;

use super::{PACKET_BYTES_MAX, Poll, REQUESTS_MAX, Requests, Told};
use crate::connection::{Commands, Connack, Event};
use crate::message::{Connect, Message, Properties, Subscription, Will};

pub(super) fn open(
    port: u16,
    connect: &Connect,
    cut: oneshot::Sender<()>,
) -> (Box<dyn Commands>, impl Poll) {
    let mut options = MqttOptions::new(&connect.client_id, "127.0.0.1", port);
    options.set_clean_start(connect.clean);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: connect.session_expiry,
        max_packet_size: Some(connect.maximum_packet_size.unwrap_or(PACKET_BYTES_MAX)),
        ..ConnectProperties::new()
    });
    if let Some(will) = &connect.will {
        options.set_last_will(will_of(will));
    }
    let (client, eventloop) = AsyncClient::new(options, REQUESTS_MAX);
    (Box::new(Requests::new(client, cut)), eventloop)
}

fn qos_of(qos: u8) -> QoS {
    mqttbytes::qos(qos).unwrap()
}

fn will_of(will: &Will) -> LastWill {
    let Message {
        topic,
        payload,
        qos,
        retain,
        ..
    } = &will.message;
    let properties = LastWillProperties {
        delay_interval: will.delay,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let payload = payload.clone();
    LastWill::new(topic, payload, qos_of(*qos), *retain, Some(properties))
}

impl Commands for Requests<AsyncClient> {
    fn subscribe(&self, subscription: &Subscription) -> Result<()> {
        let retain_forward_rule = match subscription.retain_handling {
            0 => RetainForwardRule::OnEverySubscribe,
            1 => RetainForwardRule::OnNewSubscribe,
            _ => RetainForwardRule::Never,
        };
        let filter = Filter {
            path: subscription.filter.clone(),
            qos: qos_of(subscription.qos),
            nolocal: false,
            preserve_retain: subscription.retain_as_published,
            retain_forward_rule,
        };
        Ok(self.client.try_subscribe_many([filter])?)
    }

    fn publish(&self, message: &Message) -> Result<()> {
        let Properties {
            content_type,
            response_topic,
            correlation_data,
            payload_format,
            message_expiry,
            user,
        } = message.properties.clone();
        let properties = PublishProperties {
            payload_format_indicator: payload_format,
            message_expiry_interval: message_expiry,
            response_topic,
            correlation_data: correlation_data.map(Into::into),
            user_properties: user,
            content_type,
            ..PublishProperties::default()
        };
        let (qos, payload) = (qos_of(message.qos), message.payload.clone());
        Ok(self.client.try_publish_with_properties(
            &message.topic,
            qos,
            message.retain,
            payload,
            properties,
        )?)
    }

    fn disconnect(&self) -> Result<()> {
        Ok(self.client.try_disconnect()?)
    }

    fn cut(&self) -> Result<()> {
        self.cut()
    }
}

fn told_message(publish: &Publish) -> Result<Message, Box<Event>> {
    let topic = str::from_utf8(&publish.topic)
        .map_err(|error| Box::new(Event::Failed(error.to_string())))?;
    let message = Message::new(topic, publish.payload.to_vec(), publish.qos as u8);
    let properties = publish.properties.clone().unwrap_or_default();
    Ok(Message {
        retain: publish.retain,
        properties: Properties {
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data.map(|data| data.to_vec()),
            payload_format: properties.payload_format_indicator,
            message_expiry: None,
            user: properties.user_properties,
        },
        ..message
    })
}

fn told_suback(code: &SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => *qos as u8,
        // Which one is of no interest: none may come.
        _ => 0x80,
    }
}

fn end_of(error: ConnectionError) -> Event {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            Event::Closed(Some(reason_code as u8))
        }
        ConnectionError::MqttState(StateError::ConnectionAborted | StateError::Io(_))
        | ConnectionError::Io(_) => Event::Closed(None),
        other => Event::Failed(other.to_string()),
    }
}

impl Poll for EventLoop {
    async fn poll_told(&mut self) -> Result<Told, Event> {
        Ok(match self.poll().await.map_err(end_of)? {
            Happening::Incoming(Packet::ConnAck(connack)) => {
                let told = connack.properties.as_ref();
                Told::Event(Event::Connected(Connack {
                    session_present: Some(connack.session_present),
                    maximum_packet_size: told.and_then(|told| told.max_packet_size),
                }))
            }
            Happening::Incoming(Packet::SubAck(suback)) => {
                let codes = suback.return_codes.iter().map(told_suback);
                Told::Event(Event::Subscribed(codes.collect()))
            }
            Happening::Incoming(Packet::PubAck(puback)) => {
                // Not its number: which one it is is of no interest.
                let is_accepted = matches!(
                    puback.reason,
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                );
                Told::Event(Event::Published(if is_accepted { 0 } else { 0x80 }))
            }
            Happening::Incoming(Packet::PubComp(_)) | Happening::Outgoing(Outgoing::Publish(0)) => {
                Told::Event(Event::Published(0))
            }
            Happening::Incoming(Packet::Publish(publish)) => Told::Event(Event::Message(
                told_message(&publish).map_err(|event| *event)?,
            )),
            Happening::Outgoing(Outgoing::Disconnect) => Told::Gone,
            _ => Told::Nothing,
        })
    }
}
