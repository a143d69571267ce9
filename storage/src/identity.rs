//! Who this data folder is: its incarnation, the hardware that it lives on, and its spans.
//!
//! Every replicated record is named by (gateway, incarnation, partition, offset). A card that was
//! copied must not go on under the name of the original, so a new incarnation, and with it a new
//! span, begins when the hardware is another one than before.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::ids::{Incarnation, LogPartition, Offset};

/// The folder's identity as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) incarnation: Incarnation,
    /// Of the machine on which the incarnation began; `None` if it had nothing to tell it by.
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Stored for Identity {
    const VERSION: u8 = 1;
}

/// What is written down of a span, so that offsets can be named for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The incarnation that it is of.
    pub incarnation: Incarnation,
    /// Why it began.
    pub reason: SpanReason,
    /// Where each partition stood when it began; others begin with it at 0.
    pub starts: Vec<(LogPartition, Offset)>,
}

impl Stored for Span {
    const VERSION: u8 = 1;
}

impl Span {
    /// Stands in for a span whose entry cannot be read.
    pub(crate) fn unknown() -> Self {
        Self {
            incarnation: Incarnation(0),
            reason: SpanReason::NewFolder,
            starts: Vec::new(),
        }
    }
}

/// Why a span began. The order is stored: new reasons go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanReason {
    /// The folder was made.
    NewFolder,
    /// The folder was found on other hardware.
    NewIncarnation,
    /// The end of the log could not be proven; offsets leapt.
    LostEnd,
}

impl SpanReason {
    /// The words in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewFolder => "new folder",
            Self::NewIncarnation => "other hardware",
            Self::LostEnd => "lost end of the log",
        }
    }
}

/// A number that tells a machine from others of its kind, as far as it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of this machine: the board's serial number, else the firmware's product id, else the address
    /// of a network card. Not the machine id, which is copied along with a card.
    pub fn of_machine() -> Option<Self> {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Option<Self> {
        let read = |name: &str| {
            let text = fs::read(root.join(name)).ok()?;
            let text = text.trim_ascii();
            let text = text.strip_suffix(b"\0").unwrap_or(text);
            // Boards without a serial number say so with zeros or nothing.
            let telling = text
                .iter()
                .any(|byte| byte.is_ascii_alphanumeric() && *byte != b'0');
            telling.then(|| text.to_vec())
        };
        let found = read("sys/firmware/devicetree/base/serial-number")
            .or_else(|| read("sys/class/dmi/id/product_uuid"))
            .or_else(|| {
                network_cards(root)
                    .into_iter()
                    .find_map(|card| read(&format!("{card}/address")))
            })?;
        Some(Self::of(&found))
    }

    /// Of a name that no other machine has.
    pub fn of(name: &[u8]) -> Self {
        let low = crc32c::crc32c(name);
        let high = crc32c::crc32c_append(!low, name);
        Self(u64::from(high) << 32 | u64::from(low))
    }
}

/// Network interfaces that are hardware, in the order of their names.
fn network_cards(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/net")) else {
        return Vec::new();
    };
    let mut cards: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| format!("sys/class/net/{}", entry.file_name().to_string_lossy()))
        .collect();
    cards.sort();
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn fingerprint_prefers_what_stays_with_the_board() {
        let serial = (
            "sys/firmware/devicetree/base/serial-number",
            "10000000abcdef01\0",
        );
        let card = |address| {
            [
                ("sys/class/net/eth0/address", address),
                ("sys/class/net/eth0/device/x", ""),
            ]
        };
        let [a, b] = card("b8:27:eb:00:00:01");
        let board = Fingerprint::below(machine(&[serial, a, b]).path());
        let [a, b] = card("b8:27:eb:00:00:02");
        assert_eq!(Fingerprint::below(machine(&[serial, a, b]).path()), board);
        assert_ne!(Fingerprint::below(machine(&[a, b]).path()), board);
    }

    #[test]
    fn machine_without_a_name_has_no_fingerprint() {
        let zeros = (
            "sys/firmware/devicetree/base/serial-number",
            "0000000000000000",
        );
        let software_card = ("sys/class/net/lo/address", "00:00:00:00:00:00");
        assert_eq!(
            Fingerprint::below(machine(&[zeros, software_card]).path()),
            None
        );
    }
}
