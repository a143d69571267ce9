//! What the client says about deliveries to it.
//!
//! | packet | identifier | what happens |
//! |---|---|---|
//! | PUBACK | QoS 1 | the delivery is over |
//! | | QoS 2 | protocol error |
//! | PUBREC | QoS 1 | protocol error |
//! | | QoS 2, first PUBREC | the driver is told, and releases; the delivery is over when it failed |
//! | | QoS 2, before PUBREL | nothing: the first one counts |
//! | | QoS 2, after PUBREL | PUBREL again; nothing when its code is a failure |
//! | | unknown | PUBREL 0x92 (3.1.1: PUBREL); nothing when its code is a failure (4.3.3) |
//! | PUBCOMP | QoS 2, after PUBREL | the delivery is over |
//! | | QoS 1; QoS 2, before PUBREL | protocol error |
//! | PUBACK, PUBCOMP | unknown | nothing |
//!
//! A reserved identifier counts as unknown until its PUBLISH is sent. One that was handed over and
//! not yet resent is known: a client may still send what it owed the earlier connection.

use super::client::Client;
use super::inflight::Pubrec;
use super::{Connection, Event, Misbehaviour};
use crate::packet::{Acknowledgement, Packet, PacketId};
use crate::reason_code::ReasonCode;

impl Connection {
    pub(super) fn handle_puback(&mut self, puback: &Acknowledgement) -> Result<(), Misbehaviour> {
        if self.inflight.handle_puback(puback.packet_id)? {
            self.report_acknowledged(puback);
        }
        Ok(())
    }

    pub(super) fn handle_pubrec(
        &mut self,
        client: Client,
        pubrec: &Acknowledgement,
    ) -> Result<(), Misbehaviour> {
        let &Acknowledgement {
            packet_id,
            reason_code,
            ..
        } = pubrec;
        let is_error = reason_code.is_error();
        match self.inflight.handle_pubrec(packet_id, is_error)? {
            Pubrec::Known => {}
            Pubrec::Over => self.report_acknowledged(pubrec),
            Pubrec::Received => self.events.push_back(Event::Received {
                packet_id,
                reason_code,
            }),
            Pubrec::Released => self.send_pubrel(client, packet_id, ReasonCode::Success),
            Pubrec::Unknown if is_error => {}
            Pubrec::Unknown => {
                let reason_code = ReasonCode::PacketIdentifierNotFound;
                self.send_pubrel(client, packet_id, reason_code);
            }
        }
        Ok(())
    }

    pub(super) fn handle_pubcomp(&mut self, pubcomp: &Acknowledgement) -> Result<(), Misbehaviour> {
        if self.inflight.handle_pubcomp(pubcomp.packet_id)? {
            self.report_acknowledged(pubcomp);
        }
        Ok(())
    }

    pub(super) fn send_pubrel(&mut self, client: Client, id: PacketId, code: ReasonCode) {
        self.answer(client, Packet::Pubrel(Acknowledgement::new(id, code)));
    }

    fn report_acknowledged(&mut self, acknowledgement: &Acknowledgement) {
        self.events.push_back(Event::Acknowledged {
            packet_id: acknowledgement.packet_id,
            reason_code: acknowledgement.reason_code,
        });
    }
}
