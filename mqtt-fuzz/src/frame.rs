//! Where packets end, by the fixed header alone (MQTT 5, 2.1): beside the codec, to check it, and for
//! mutations that know packets.

/// Bytes of packet type and remaining length, as far as the length goes on; at most five.
pub(crate) fn header_bytes(packet: &[u8]) -> usize {
    let length = packet.iter().skip(1).take(4);
    let more = length.take_while(|byte| **byte & 0x80 != 0).count();
    (2 + more).min(5)
}

/// Bytes of the packet at the front with its header. A header that is not there as a whole counts as
/// if zeros followed.
pub(crate) fn packet_bytes(stream: &[u8]) -> usize {
    let header = header_bytes(stream);
    let length = stream.iter().take(header).skip(1).rev();
    header + length.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f))
}

/// Whether a whole packet is at the front.
pub(crate) fn has_packet(stream: &[u8]) -> bool {
    stream.len() >= packet_bytes(stream)
}

/// A remaining length.
pub(crate) fn remaining_length(mut bytes: usize) -> Vec<u8> {
    let mut length = Vec::new();
    loop {
        let low = u8::try_from(bytes & 0x7f).unwrap_or_default();
        bytes >>= 7;
        length.push(if bytes > 0 { low | 0x80 } else { low });
        if bytes == 0 {
            return length;
        }
    }
}
