//! The boards that this program knows, and the defaults that go with each.
//!
//! One table, [`PROFILES`]: a board is added there and nowhere else. What holds on a machine that is
//! not known is [`GENERIC`]; the reference prints its values as the defaults.
//!
//! Invariant: a file that is right on a generic board is right on all of them. So no board has larger
//! segments than [`GENERIC`], which retention has to hold two of, and [`BoardDefaults::for_packets`] gives
//! way to what the file says of packets.
//!
//! **No figure here was tried on a real board.** They are sums of bounds and of what was measured on an
//! x86-64 virtual machine (docs/decisions/0027).

use std::fmt;
use std::str::FromStr;

use crate::value::{ByteCount, Refusal};

/// A kind of board that has defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Board {
    /// Any other board with a 64-bit ARM processor.
    GenericArm64,
    /// Any other board with a 32-bit ARM processor, or a 32-bit program on one.
    GenericArmv7,
    /// Raspberry Pi 3 and what has its processor and 1 GB.
    Pi3,
    /// Raspberry Pi 4, 400 and Compute Module 4.
    Pi4,
    /// Raspberry Pi 5, 500 and Compute Module 5.
    Pi5,
    /// Raspberry Pi Zero 2 W, and the Pi 3 A+, which has its processor and its 512 MB.
    PiZero2W,
    /// Any machine with an x86-64 processor.
    X86_64,
}

/// What is known of a board.
#[derive(Debug)]
pub struct BoardProfile {
    /// Which one.
    pub board: Board,
    /// How the file and the command line call it.
    pub name: &'static str,
    /// What a kernel leaves of the least memory that it is sold with; `None` where that can be
    /// anything.
    pub memory: Option<ByteCount>,
    /// Processors; `None` where there can be any number.
    pub cores: Option<u16>,
    /// What holds there where the file says nothing.
    pub defaults: BoardDefaults,
}

/// The defaults that depend on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardDefaults {
    /// `storage.segment_bytes`
    pub segment_bytes: ByteCount,
    /// `listener[].connections_max`
    pub connections_max: u32,
    /// `limits.mailbox_bytes_max`
    pub mailbox_bytes_max: ByteCount,
    /// `limits.all_mailboxes_bytes_max`
    pub all_mailboxes_bytes_max: ByteCount,
    /// `limits.commit_queue_bytes_max`
    pub commit_queue_bytes_max: ByteCount,
    /// `limits.retained_bytes_max`
    pub retained_bytes_max: ByteCount,
    /// `limits.retained_count_max`
    pub retained_count_max: u32,
    /// `limits.accept_rate_max`
    pub accept_rate_max: u32,
    /// `limits.sessions_max`
    pub sessions_max: u32,
    /// Newest commits that are kept in memory for readers; no key.
    pub ring_bytes: ByteCount,
    /// Batches on their way to Kafka, all routes together; no key.
    pub link_bytes: ByteCount,
}

/// What holds on a machine that is not known, and what the reference prints.
pub(crate) const GENERIC: BoardDefaults = BoardDefaults {
    segment_bytes: ByteCount::mib(16),
    connections_max: 1_000,
    mailbox_bytes_max: ByteCount::mib(1),
    all_mailboxes_bytes_max: ByteCount::mib(32),
    commit_queue_bytes_max: ByteCount::mib(8),
    retained_bytes_max: ByteCount::mib(16),
    retained_count_max: 10_000,
    accept_rate_max: 500,
    sessions_max: 10_000,
    ring_bytes: ByteCount::mib(4),
    link_bytes: ByteCount::mib(8),
};

/// 512 MB, of which the firmware keeps 64 for graphics unless told otherwise, and the kernel some 32:
/// as little of it as still serves a machine or two, so that half of the rest is not used up.
const SMALL: BoardDefaults = BoardDefaults {
    // Four of them are in memory. Smaller ones would take more of the card: each has about 1 MiB
    // that is not its records, and costs as much to open.
    segment_bytes: ByteCount::mib(8),
    connections_max: 300,
    mailbox_bytes_max: ByteCount::kib(512),
    // Sixteen mailboxes: who waits alone has a whole one.
    all_mailboxes_bytes_max: ByteCount::mib(8),
    commit_queue_bytes_max: ByteCount::mib(4),
    retained_bytes_max: ByteCount::mib(4),
    retained_count_max: 2_000,
    // All 300 are back within two seconds, as 1,000 are elsewhere.
    accept_rate_max: 150,
    sessions_max: 2_000,
    ring_bytes: ByteCount::mib(2),
    link_bytes: ByteCount::mib(2),
};

/// The least that they are sold with is 1 GB, and their processors are those that more clients can be
/// expected of than of the boards before.
const LARGE: BoardDefaults = BoardDefaults {
    connections_max: 2_000,
    all_mailboxes_bytes_max: ByteCount::mib(64),
    retained_bytes_max: ByteCount::mib(32),
    accept_rate_max: 1_000,
    ..GENERIC
};

/// Every board, by name.
pub(crate) static PROFILES: [BoardProfile; 7] = [
    BoardProfile {
        board: Board::GenericArm64,
        name: "generic-arm64",
        memory: None,
        cores: None,
        defaults: GENERIC,
    },
    BoardProfile {
        board: Board::GenericArmv7,
        name: "generic-armv7",
        memory: None,
        cores: None,
        defaults: GENERIC,
    },
    BoardProfile {
        board: Board::Pi3,
        name: "pi-3",
        memory: Some(ByteCount::mib(896)),
        cores: Some(4),
        // Half of its memory is twice what the defaults may take; more of them would not make its
        // processor faster.
        defaults: GENERIC,
    },
    BoardProfile {
        board: Board::Pi4,
        name: "pi-4",
        memory: Some(ByteCount::mib(896)),
        cores: Some(4),
        defaults: LARGE,
    },
    BoardProfile {
        board: Board::Pi5,
        name: "pi-5",
        memory: Some(ByteCount::mib(896)),
        cores: Some(4),
        defaults: LARGE,
    },
    BoardProfile {
        board: Board::PiZero2W,
        name: "pi-zero-2w",
        memory: Some(ByteCount::mib(416)),
        cores: Some(4),
        defaults: SMALL,
    },
    BoardProfile {
        board: Board::X86_64,
        name: "x86-64",
        memory: None,
        cores: None,
        defaults: GENERIC,
    },
];

impl Board {
    /// What is known of it.
    #[must_use]
    pub fn profile(self) -> &'static BoardProfile {
        let [first, ..] = &PROFILES;
        let own = PROFILES.iter().find(|profile| profile.board == self);
        // Each has a row, which a test holds us to.
        own.unwrap_or(first)
    }

    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        PROFILES.iter().map(|profile| profile.board)
    }

    /// What holds there where the file says nothing, as the reference prints it: the path of each key,
    /// and a TOML value.
    #[must_use]
    pub fn printed_defaults(self) -> Vec<(&'static str, String)> {
        let defaults = &self.profile().defaults;
        let size = |bytes: ByteCount| format!("\"{bytes}\"");
        vec![
            ("storage.segment_bytes", size(defaults.segment_bytes)),
            (
                "listener[].connections_max",
                defaults.connections_max.to_string(),
            ),
            ("limits.mailbox_bytes_max", size(defaults.mailbox_bytes_max)),
            (
                "limits.all_mailboxes_bytes_max",
                size(defaults.all_mailboxes_bytes_max),
            ),
            (
                "limits.commit_queue_bytes_max",
                size(defaults.commit_queue_bytes_max),
            ),
            (
                "limits.retained_bytes_max",
                size(defaults.retained_bytes_max),
            ),
            (
                "limits.retained_count_max",
                defaults.retained_count_max.to_string(),
            ),
            (
                "limits.accept_rate_max",
                defaults.accept_rate_max.to_string(),
            ),
            ("limits.sessions_max", defaults.sessions_max.to_string()),
        ]
    }
}

impl BoardDefaults {
    /// The same where packets of this size have to pass: a default that is too small for them gives
    /// way to that of [`GENERIC`].
    pub(crate) fn for_packets(self, packet_bytes_max: Option<ByteCount>) -> Self {
        let Some(packet) = packet_bytes_max else {
            return self;
        };
        let at_least = |own: ByteCount, least: ByteCount, other: ByteCount| {
            if own < least { own.max(other) } else { own }
        };
        let two = ByteCount::new(packet.get().saturating_mul(2));
        Self {
            segment_bytes: at_least(self.segment_bytes, two, GENERIC.segment_bytes),
            mailbox_bytes_max: at_least(self.mailbox_bytes_max, packet, GENERIC.mailbox_bytes_max),
            all_mailboxes_bytes_max: at_least(
                self.all_mailboxes_bytes_max,
                packet,
                GENERIC.all_mailboxes_bytes_max,
            ),
            commit_queue_bytes_max: at_least(
                self.commit_queue_bytes_max,
                packet,
                GENERIC.commit_queue_bytes_max,
            ),
            ..self
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.profile().name)
    }
}

impl FromStr for Board {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let known = PROFILES.iter().find(|profile| profile.name == text);
        known.map(|profile| profile.board).ok_or_else(|| {
            let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
            Refusal::new(format!(
                "is no board that this version knows; allowed: {}",
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_has_one_row_and_reads_back() {
        for profile in &PROFILES {
            assert_eq!(profile.board.profile().name, profile.name);
            assert_eq!(profile.name.parse(), Ok(profile.board));
            assert_eq!(profile.board.to_string(), profile.name);
        }
        let error = "pi-2".parse::<Board>().unwrap_err().to_string();
        for profile in &PROFILES {
            assert!(error.contains(profile.name), "{error}");
        }
    }

    #[test]
    fn segments_of_no_board_are_larger_than_the_default() {
        for profile in &PROFILES {
            let defaults = &profile.defaults;
            assert!(
                defaults.segment_bytes <= GENERIC.segment_bytes,
                "{}",
                profile.name
            );
        }
    }

    #[test]
    fn default_gives_way_to_larger_packets_only_where_it_must() {
        let mib = |mib| Some(ByteCount::mib(mib));
        assert_eq!(SMALL.for_packets(None), SMALL);
        assert_eq!(SMALL.for_packets(Some(ByteCount::kib(512))), SMALL);
        let one = SMALL.for_packets(mib(1));
        let mailbox_bytes_max = GENERIC.mailbox_bytes_max;
        assert_eq!(
            one,
            BoardDefaults {
                mailbox_bytes_max,
                ..SMALL
            }
        );
        let eight = SMALL.for_packets(mib(8));
        assert_eq!(eight.segment_bytes, GENERIC.segment_bytes);
        assert_eq!(eight.all_mailboxes_bytes_max, SMALL.all_mailboxes_bytes_max);
        assert_eq!(eight.commit_queue_bytes_max, GENERIC.commit_queue_bytes_max);
        // Never below its own.
        assert_eq!(
            LARGE.for_packets(mib(64)).all_mailboxes_bytes_max,
            LARGE.all_mailboxes_bytes_max
        );
    }
}
