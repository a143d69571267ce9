//! UNSUBSCRIBE (MQTT 5, 3.10; MQTT 3.1.1, 3.10).
//!
//! ```text
//! | packet identifier, 2 | properties | topic filter | topic filter | …
//! ```
//! The properties exist in MQTT 5 only.

use bytes::BytesMut;

use super::{PacketId, PacketType, ProtocolVersion};
use crate::UserProperty;
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::property::{Bearer, PropertyId, Value};
use crate::topic::TopicFilter;

const UNSUBSCRIBE: PacketType = PacketType::Unsubscribe;

/// Asks for no more messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// What UNSUBACK answers.
    pub packet_id: PacketId,
    /// Filters of earlier subscriptions, character by character; at least one.
    pub filters: Vec<TopicFilter>,
    /// Pairs in the client's order.
    pub user_properties: Vec<UserProperty>,
}

impl Unsubscribe {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let packet_id = reader.packet_id()?;
        let mut user_properties = Vec::new();
        let mut section = reader.properties(version, Bearer::Packet(UNSUBSCRIBE))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::UserProperty, Value::Pair(pair)) => user_properties.push(pair),
                (id, _) => return Err(section.misplaced(id)),
            }
        }
        let max = reader.limits().filters_max;
        let mut filters = Vec::new();
        while !reader.is_empty() {
            if filters.len() == usize::from(max) {
                return Err(InvalidPacket::TooManyFilters { max });
            }
            filters.push(reader.topic_filter(version)?);
        }
        if filters.is_empty() {
            return Err(InvalidPacket::Empty {
                field: "topic filter",
            });
        }
        Ok(Self {
            packet_id,
            filters,
            user_properties,
        })
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Empty {
                packet: UNSUBSCRIBE,
                field: "topic filter",
            });
        }
        let flags = UNSUBSCRIBE.fixed_flags().unwrap_or_default();
        Writer::packet(out, UNSUBSCRIBE, flags, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        self.packet_id.encode(out);
        out.section(version, |out| {
            out.properties(PropertyId::UserProperty, &self.user_properties);
        });
        for filter in &self.filters {
            filter.encode(out);
        }
    }
}
