//! What the client sends.
//!
//! What it publishes becomes an event with a ticket; what it says about deliveries to it is in
//! [`receipt`](super::receipt). A PUBREL is an event in any case: which identifiers a session has
//! taken is the driver's to know, because they outlive the connection.

use std::time::Instant;

use bytes::BytesMut;

use super::client::Client;
use super::{Connection, DisconnectCause, Event, Misbehaviour, Phase, PublishTicket};
use crate::codec::{self, DecodeError, InvalidPacket};
use crate::message::Message;
use crate::packet::{
    Acknowledgement, Delivery, Disconnect, Packet, PacketId, PacketType, ProtocolVersion, Publish,
    Subscribe, Unsubscribe,
};

impl Connection {
    /// Takes whole packets off the front of `src`, as many as it wants for now. To be called when
    /// bytes were read, and again while events come; see [`Connection`].
    ///
    /// After the end of the connection everything is thrown away.
    pub fn handle_bytes(&mut self, now: Instant, src: &mut BytesMut) {
        let mut came = false;
        while self.wants_read() {
            if let Phase::Connected(Client { is_v31: true, .. }) = self.phase {
                take_dup_back(src);
            }
            match codec::decode(src, self.version(), &self.options.limits) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    came = true;
                    self.packet_counts.received += 1;
                    self.handle_packet(packet);
                }
                Err(error) if matches!(self.phase, Phase::AwaitingConnect) => {
                    self.handle_invalid_connect(error);
                }
                Err(error) if names_a_version(&error) => {
                    self.close(DisconnectCause::Misbehaved(Misbehaviour::SecondConnect));
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
            Packet::Puback(puback) => self.handle_puback(&puback)?,
            Packet::Pubrec(pubrec) => self.handle_pubrec(client, &pubrec)?,
            Packet::Pubrel(pubrel) => self.handle_pubrel(&pubrel),
            Packet::Pubcomp(pubcomp) => self.handle_pubcomp(&pubcomp)?,
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
        if qos > self.options.maximum_qos {
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
        let bytes = topic.as_bytes().len() + publish.payload.len();
        let (ticket, dup) = match publish.delivery {
            Delivery::AtMostOnce => (None, false),
            Delivery::AtLeastOnce { packet_id, dup } => {
                let ticket = self.open_publish(client, PacketType::Puback, packet_id, bytes)?;
                (Some(ticket), dup)
            }
            Delivery::ExactlyOnce { packet_id, dup } => {
                let ticket = self.open_publish(client, PacketType::Pubrec, packet_id, bytes)?;
                (Some(ticket), dup)
            }
        };
        let message = Message {
            topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            properties: publish.properties,
        };
        self.events.push_back(Event::Publish {
            ticket,
            packet_id: publish.delivery.packet_id(),
            dup,
            message,
        });
        Ok(())
    }

    /// A 3.1.1 client does not know Receive Maximum; it is not read from when it has reached it.
    fn open_publish(
        &mut self,
        client: Client,
        answer: PacketType,
        packet_id: PacketId,
        bytes: usize,
    ) -> Result<PublishTicket, Misbehaviour> {
        let maximum = self.options.receive_maximum.get();
        if client.version == ProtocolVersion::V5 && !self.receive_window.open(packet_id, maximum) {
            return Err(Misbehaviour::ReceiveMaximumExceeded { maximum });
        }
        Ok(self.acknowledgements.open(answer, packet_id, bytes))
    }

    fn handle_pubrel(&mut self, pubrel: &Acknowledgement) {
        let packet_id = pubrel.packet_id;
        let after = self.acknowledgements.newest(packet_id);
        if let Some(ticket) = self.releases.open(packet_id, after) {
            self.events.push_back(Event::Release { ticket, packet_id });
        }
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

/// Whether it is a CONNECT of a version that is not served. Behind another CONNECT that is not what is
/// wrong with it, and DISCONNECT has no code for it.
fn names_a_version(error: &DecodeError) -> bool {
    matches!(
        error.rule,
        InvalidPacket::ProtocolName | InvalidPacket::ProtocolVersion { .. }
    )
}

/// MQTT 3.1 has DUP on a PUBREL, SUBSCRIBE or UNSUBSCRIBE that is sent again (2.1 there), where later
/// versions have a reserved bit. It changes nothing for the packet at the front of `src`.
fn take_dup_back(src: &mut BytesMut) {
    const DUP: u8 = 1 << 3;
    if let Some(first) = src.first_mut()
        && let Some(PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe) =
            PacketType::from_number(*first >> 4)
    {
        *first &= !DUP;
    }
}
