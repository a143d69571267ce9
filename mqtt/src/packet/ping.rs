//! PINGREQ and PINGRESP (MQTT 5, 3.12 and 3.13): a fixed header and nothing else.

use bytes::BytesMut;

use super::PacketType;
use crate::codec::{EncodeError, Writer};

pub(super) fn encode(packet: PacketType, out: &mut BytesMut) -> Result<(), EncodeError> {
    Writer::packet(out, packet, 0, 0, |_| ()).map(|_| ())
}
