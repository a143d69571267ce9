//! What groups have handed to this session.

use mqtt::PacketId;
use mqtt::server::InflightEntry;

use super::Outbound;
use crate::group::GroupId;
use crate::place::Place;

impl Outbound {
    /// The group and place of a delivery of QoS 1 that a group has handed to this session.
    pub(crate) fn of_group(&self, packet_id: PacketId) -> Option<(GroupId, Place)> {
        let mut in_flight = self.in_flight.iter().filter(|sent| !sent.is_qos2());
        let sent = in_flight.find(|sent| sent.packet_id == packet_id)?;
        Some((sent.group?, sent.place?))
    }

    /// Whether the message at this place, which this group has handed to this session, is not over.
    pub(crate) fn has_of_group(&self, group: GroupId, place: Place) -> bool {
        let mut in_flight = self.in_flight.iter().rev();
        in_flight.any(|sent| sent.group == Some(group) && sent.place == Some(place))
    }

    /// The client is about to be gone: takes out the deliveries of QoS 1 that go back to their groups,
    /// of those that its connection has `left`.
    pub(crate) fn give_back(&mut self, left: &mut Vec<InflightEntry>) -> Vec<(GroupId, Place)> {
        let mut given_back = Vec::new();
        left.retain(|entry| match self.of_group(entry.packet_id) {
            Some(of_group) => {
                given_back.push(of_group);
                false
            }
            None => true,
        });
        given_back
    }

    /// Whether nothing of its own waits that its client could be sent.
    pub(crate) fn gives_way(&self) -> bool {
        self.may_replay() && self.front().is_none()
    }

    /// Whether what is sent again next was handed to this session by a group.
    pub(crate) fn again_is_of_group(&self) -> bool {
        let next = self.again.front().map(|(_, packet_id)| *packet_id);
        let mut in_flight = self.in_flight.iter();
        in_flight.any(|sent| Some(sent.packet_id) == next && sent.group.is_some())
    }
}
