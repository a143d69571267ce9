//! What the client sends.
//!
//! Packet identifiers of QoS 2 deliveries never exist here, because QoS 2 is not served. What a
//! client sends about them anyway is answered as the standard wants it for an unknown one:
//!
//! | packet | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | PUBREC, unknown | PUBREL 0x92; nothing when its code is a failure (4.3.3) | PUBREL |
//! | PUBREC for a message of QoS 1 | protocol error | protocol error |
//! | PUBREL | PUBCOMP 0x92 | PUBCOMP (3.6.4) |
//! | PUBCOMP; PUBACK, unknown | no consequence | no consequence |

use std::time::Instant;

use bytes::BytesMut;

use super::client::Client;
use super::{Connection, DisconnectCause, Event, Misbehaviour, Phase};
use crate::codec;
use crate::message::Message;
use crate::packet::{
    Acknowledgement, Disconnect, Packet, PacketId, ProtocolVersion, Publish, Subscribe, Unsubscribe,
};
use crate::reason_code::ReasonCode;

impl Connection {
    /// Takes whole packets off the front of `src`, as many as it wants for now. To be called when
    /// bytes were read, and again while events come; see [`Connection`].
    ///
    /// After the end of the connection everything is thrown away.
    pub fn handle_bytes(&mut self, now: Instant, src: &mut BytesMut) {
        let mut came = false;
        while self.wants_read() {
            match codec::decode(src, self.version(), &self.options.limits) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    came = true;
                    self.handle_packet(packet);
                }
                Err(error) if matches!(self.phase, Phase::AwaitingConnect) => {
                    self.handle_invalid_connect(error);
                }
                Err(error) => self.close(DisconnectCause::Invalid(error)),
            }
        }
        if self.is_closed() {
            src.clear();
            return;
        }
        if came {
            self.restart_keep_alive(now);
        }
        self.look_after_timers(now);
        self.pump(now);
    }

    fn handle_packet(&mut self, packet: Packet) {
        match (self.phase, packet) {
            (Phase::AwaitingConnect, Packet::Connect(connect)) => self.handle_connect(connect),
            (Phase::Connected(client), packet) => {
                if let Err(misbehaviour) = self.handle_connected(client, packet) {
                    self.close(DisconnectCause::Misbehaved(misbehaviour));
                }
            }
            // Only CONNECT is decoded in the first phase, and nothing in the others.
            _ => {}
        }
    }

    fn handle_connected(&mut self, client: Client, packet: Packet) -> Result<(), Misbehaviour> {
        match packet {
            Packet::Publish(publish) => self.handle_publish(client, publish)?,
            Packet::Puback(puback) => self.handle_puback(&puback),
            Packet::Pubrec(pubrec) => self.handle_pubrec(client, &pubrec)?,
            Packet::Pubrel(pubrel) => {
                self.answer_unknown(client, pubrel.packet_id, Packet::Pubcomp)
            }
            Packet::Pubcomp(_) => {}
            Packet::Subscribe(subscribe) => self.handle_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe),
            Packet::Pingreq => self.answer(client, Packet::Pingresp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(client, disconnect)?,
            Packet::Connect(_) => return Err(Misbehaviour::SecondConnect),
            Packet::Auth(_) => return Err(Misbehaviour::AuthUnexpected),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(Misbehaviour::UnexpectedPacket {
                    packet: packet.packet_type(),
                });
            }
        }
        Ok(())
    }

    fn handle_publish(&mut self, client: Client, publish: Publish) -> Result<(), Misbehaviour> {
        let qos = publish.delivery.qos();
        if qos > self.options.maximum_qos.level() {
            return Err(Misbehaviour::QosNotServed { qos });
        }
        if !publish.subscription_identifiers.is_empty() {
            return Err(Misbehaviour::SubscriptionIdentifierFromClient);
        }
        let topic = self.aliases.resolve(
            publish.topic,
            publish.topic_alias,
            self.options.topic_alias_maximum,
        )?;
        let maximum = self.options.receive_maximum.get();
        let is_window_full = self.acknowledgements.len() >= usize::from(maximum);
        let ticket = match publish.delivery.packet_id() {
            None => None,
            // A 3.1.1 client does not know the bound; it is not read from when it has reached it.
            Some(_) if client.version == ProtocolVersion::V5 && is_window_full => {
                return Err(Misbehaviour::ReceiveMaximumExceeded { maximum });
            }
            Some(packet_id) => {
                let bytes = topic.as_bytes().len() + publish.payload.len();
                Some(self.acknowledgements.open(packet_id, bytes))
            }
        };
        let message = Message {
            topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            properties: publish.properties,
        };
        self.events.push_back(Event::Publish { ticket, message });
        Ok(())
    }

    fn handle_puback(&mut self, puback: &Acknowledgement) {
        let &Acknowledgement {
            packet_id,
            reason_code,
            ..
        } = puback;
        if self.outbound.acknowledge(packet_id) {
            self.events.push_back(Event::Acknowledged {
                packet_id,
                reason_code,
            });
        }
    }

    fn handle_pubrec(
        &mut self,
        client: Client,
        pubrec: &Acknowledgement,
    ) -> Result<(), Misbehaviour> {
        let packet_id = pubrec.packet_id;
        if self.outbound.is_inflight(packet_id) {
            return Err(Misbehaviour::PubrecForQos1 { packet_id });
        }
        if !pubrec.reason_code.is_error() {
            self.answer_unknown(client, packet_id, Packet::Pubrel);
        }
        Ok(())
    }

    fn answer_unknown(
        &mut self,
        client: Client,
        packet_id: PacketId,
        answer: fn(Acknowledgement) -> Packet,
    ) {
        let reason_code = ReasonCode::PacketIdentifierNotFound;
        self.answer(client, answer(Acknowledgement::new(packet_id, reason_code)));
    }

    fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe {
            packet_id,
            subscriptions,
            subscription_identifier,
            user_properties,
        } = subscribe;
        let ticket = self.requests.open_subscribe(packet_id, subscriptions.len());
        self.events.push_back(Event::Subscribe {
            ticket,
            subscriptions,
            subscription_identifier,
            user_properties,
        });
    }

    fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let Unsubscribe {
            packet_id,
            filters,
            user_properties,
        } = unsubscribe;
        let ticket = self.requests.open_unsubscribe(packet_id, filters.len());
        self.events.push_back(Event::Unsubscribe {
            ticket,
            filters,
            user_properties,
        });
    }

    fn handle_disconnect(
        &mut self,
        client: Client,
        disconnect: Disconnect,
    ) -> Result<(), Misbehaviour> {
        let is_prolonged = disconnect
            .session_expiry_interval
            .is_some_and(|seconds| seconds > 0);
        if is_prolonged && client.session_expiry_interval == 0 {
            return Err(Misbehaviour::SessionExpiryRaised);
        }
        self.end(DisconnectCause::Client(disconnect));
        Ok(())
    }
}
