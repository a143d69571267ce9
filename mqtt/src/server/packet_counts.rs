//! How many packets came and went, of all types.

use super::Connection;

/// Packets since they were taken last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Packets of the client that were decoded.
    pub received: u32,
    /// Packets that were put into the transmit buffer.
    pub sent: u32,
}

impl Connection {
    /// Takes the counts, which begin at 0 again.
    pub fn take_packet_counts(&mut self) -> PacketCounts {
        std::mem::take(&mut self.packet_counts)
    }
}
