//! The brokers in a Metadata response: found, and put under other addresses.
//!
//! Only the list of brokers is understood; all that follows it is copied. It stands where it has
//! stood since version 3:
//!
//! ```text
//!             versions 3 to 8   versions 9 to 12
//! header      correlation id 4  correlation id 4, tags
//! throttle    4                 4
//! brokers     count 4           count + 1, varint
//!   node id   4                 4
//!   host      length 2, text    length + 1 varint, text
//!   port      4                 4
//!   rack      length 2 (-1 for  length + 1 (0 for none), text
//!             none), text
//!                               tags
//! ```
//!
//! Reference: <https://kafka.apache.org/protocol#The_Messages_Metadata>

use std::net::SocketAddr;
use std::ops::Range;

const VERSION_MIN: i16 = 3;
const VERSION_MAX: i16 = 12;
const FLEXIBLE_FROM: i16 = 9;

/// The list of brokers in a response.
#[derive(Debug)]
pub(super) struct Brokers {
    pub(super) brokers: Vec<Broker>,
    is_flexible: bool,
}

/// A broker.
#[derive(Debug)]
pub(super) struct Broker {
    host: String,
    port: u32,
    /// Host and port in the frame.
    place: Range<usize>,
}

impl Broker {
    /// `host:port`, as sockets take it.
    pub(super) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The brokers that a response (without its length) names; `None` if it is not one of `version`.
pub(super) fn brokers(frame: &[u8], version: i16) -> Option<Brokers> {
    if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
        return None;
    }
    let is_flexible = version >= FLEXIBLE_FROM;
    let mut walk = Walk {
        frame,
        at: 0,
        is_flexible,
    };
    walk.skip(4)?;
    walk.tags()?;
    walk.skip(4)?;
    let count = if is_flexible {
        walk.varint()?.checked_sub(1)?
    } else {
        walk.u32()?
    };
    let mut brokers = Vec::new();
    for _ in 0..count {
        walk.skip(4)?;
        let from = walk.at;
        let host = String::from_utf8(walk.text()?.to_vec()).ok()?;
        let port = walk.u32()?;
        let place = from..walk.at;
        walk.text()?;
        walk.tags()?;
        brokers.push(Broker { host, port, place });
    }
    Some(Brokers {
        brokers,
        is_flexible,
    })
}

impl Brokers {
    /// The response with these addresses instead, broker by broker.
    pub(super) fn with_addresses(&self, frame: &[u8], addresses: &[SocketAddr]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(frame.len() + 16 * addresses.len());
        let mut copied = 0;
        for (broker, address) in self.brokers.iter().zip(addresses) {
            out.extend_from_slice(frame.get(copied..broker.place.start)?);
            let host = address.ip().to_string();
            // An address is shorter than the 127 bytes from which on a varint has two bytes.
            let length = u8::try_from(host.len())
                .ok()
                .filter(|length| *length < 127)?;
            if self.is_flexible {
                out.push(length + 1);
            } else {
                out.extend_from_slice(&u16::from(length).to_be_bytes());
            }
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(&u32::from(address.port()).to_be_bytes());
            copied = broker.place.end;
        }
        out.extend_from_slice(frame.get(copied..)?);
        Some(out)
    }
}

/// Reads a frame from the front.
struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    is_flexible: bool,
}

impl<'a> Walk<'a> {
    fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(bytes)?;
        let skipped = self.frame.get(self.at..end)?;
        self.at = end;
        Some(skipped)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.skip(4)?.first_chunk()?))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21] {
            let byte = *self.skip(1)?.first()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A text, none if its length says null.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = if self.is_flexible {
            self.varint()?.saturating_sub(1)
        } else {
            let length = i16::from_be_bytes(*self.skip(2)?.first_chunk()?);
            u32::try_from(length).unwrap_or(0)
        };
        self.skip(usize::try_from(length).ok()?)
    }

    fn tags(&mut self) -> Option<()> {
        if self.is_flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.skip(usize::try_from(length).ok()?)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::brokers;

    /// Two brokers, the first one with a rack, and something behind them.
    fn response(version: i16, addresses: [(&str, u32); 2]) -> Vec<u8> {
        let is_flexible = version >= 9;
        let text = |out: &mut Vec<u8>, text: Option<&str>| match (is_flexible, text) {
            (true, None) => out.push(0),
            (false, None) => out.extend((-1_i16).to_be_bytes()),
            (true, Some(text)) => {
                out.push(u8::try_from(text.len() + 1).unwrap());
                out.extend(text.as_bytes());
            }
            (false, Some(text)) => {
                out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                out.extend(text.as_bytes());
            }
        };
        let mut out = Vec::from(7_i32.to_be_bytes());
        if is_flexible {
            out.push(0);
        }
        out.extend(0_i32.to_be_bytes());
        if is_flexible {
            out.push(3);
        } else {
            out.extend(2_i32.to_be_bytes());
        }
        for ((host, port), rack) in addresses.into_iter().zip([Some("r1"), None]) {
            out.extend(1_i32.to_be_bytes());
            text(&mut out, Some(host));
            out.extend(port.to_be_bytes());
            text(&mut out, rack);
            if is_flexible {
                // One tag, number 9, of two bytes.
                out.extend([1, 9, 2, 0xaa, 0xbb]);
            }
        }
        out.extend(b"cluster, controller, topics");
        out
    }

    #[test]
    fn addresses_are_replaced_and_all_else_stays() {
        let ours: [SocketAddr; 2] = [
            "127.0.0.1:40001".parse().unwrap(),
            "127.0.0.1:40002".parse().unwrap(),
        ];
        for version in [3, 7, 8, 9, 12] {
            let theirs = response(version, [("kafka-1.example", 9092), ("::1", 9093)]);
            let found = brokers(&theirs, version).unwrap();
            let addresses: Vec<_> = found.brokers.iter().map(super::Broker::address).collect();
            assert_eq!(addresses, ["kafka-1.example:9092", "[::1]:9093"]);
            let expected = response(version, [("127.0.0.1", 40001), ("127.0.0.1", 40002)]);
            assert_eq!(found.with_addresses(&theirs, &ours).unwrap(), expected);
        }
    }

    #[test]
    fn frame_is_refused_when_it_ends_early_or_is_of_another_version() {
        let whole = response(12, [("a", 1), ("b", 2)]);
        let list_end = whole.len() - b"cluster, controller, topics".len();
        for length in 0..list_end {
            assert!(brokers(&whole[..length], 12).is_none(), "{length} bytes");
        }
        assert!(brokers(&whole[..list_end], 12).is_some());
        assert!(brokers(&whole, 13).is_none());
        // A length of 4 GiB.
        let mut hostile = whole.clone();
        hostile[9..13].fill(0xff);
        assert!(brokers(&hostile, 12).is_none());
    }
}
