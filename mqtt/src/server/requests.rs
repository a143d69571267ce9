//! SUBSCRIBE and UNSUBSCRIBE packets that wait for the driver's answer.

use super::CompleteError;
use crate::packet::{PacketId, PacketType};

/// Stands for a SUBSCRIBE until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscribeTicket(u64);

/// Stands for an UNSUBSCRIBE until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnsubscribeTicket(u64);

/// The unanswered ones. The connection stops reading before there are many.
#[derive(Debug, Default)]
pub(super) struct Requests {
    next: u64,
    open: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    /// SUBACK or UNSUBACK.
    answer: PacketType,
    packet_id: PacketId,
    filter_count: usize,
}

impl Requests {
    pub(super) fn open_subscribe(&mut self, id: PacketId, filter_count: usize) -> SubscribeTicket {
        SubscribeTicket(self.open(PacketType::Suback, id, filter_count))
    }

    pub(super) fn open_unsubscribe(
        &mut self,
        id: PacketId,
        filter_count: usize,
    ) -> UnsubscribeTicket {
        UnsubscribeTicket(self.open(PacketType::Unsuback, id, filter_count))
    }

    pub(super) fn complete_subscribe(
        &mut self,
        ticket: SubscribeTicket,
        codes: usize,
    ) -> Result<PacketId, CompleteError> {
        self.complete(PacketType::Suback, ticket.0, codes)
    }

    pub(super) fn complete_unsubscribe(
        &mut self,
        ticket: UnsubscribeTicket,
        codes: usize,
    ) -> Result<PacketId, CompleteError> {
        self.complete(PacketType::Unsuback, ticket.0, codes)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn clear(&mut self) {
        self.open = Vec::new();
    }

    fn open(&mut self, answer: PacketType, packet_id: PacketId, filter_count: usize) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.open.push(Request {
            ticket,
            answer,
            packet_id,
            filter_count,
        });
        ticket
    }

    /// Forgets the request when it gets as many reason codes as it has filters.
    fn complete(
        &mut self,
        answer: PacketType,
        ticket: u64,
        codes: usize,
    ) -> Result<PacketId, CompleteError> {
        let index = self
            .open
            .iter()
            .position(|request| request.ticket == ticket && request.answer == answer)
            .ok_or(CompleteError::UnknownTicket { packet: answer })?;
        let filters = self
            .open
            .get(index)
            .map_or(0, |request| request.filter_count);
        if filters != codes {
            return Err(CompleteError::Count {
                packet: answer,
                codes,
                filters,
            });
        }
        Ok(self.open.swap_remove(index).packet_id)
    }
}
