//! What a configuration may take of memory: the sum of its bounds, and of what was measured beside them.
//! The measurements are from an x86-64 virtual machine (docs/bench.md); **none is from a real board**.

use firmware_config::{ByteCount, Config};

use crate::wiring;

/// The most memory that was measured with the default configuration under load (docs/bench.md, `memory
/// at most before`), without what other parts stand for: 60 MiB and four segments were measured.
const PROGRAM_BYTES: u64 = 54 << 20;
/// What the database of the metadata may keep (`storage`, `database.rs`).
const METADATA_CACHE_BYTES: u64 = 2 << 20;
/// Names of topics and their numbers, with what the maps need (`storage`, `topics/dictionary.rs`).
const TOPIC_NAMES_BYTES: u64 = 12 << 20;
/// Segments whose databases are open, as far as they are kept: the one that is written, the one made
/// ahead, and two that are read.
const SEGMENTS_IN_MEMORY: u64 = 4;
/// Wills of kept sessions (`broker`, `kept_wills.rs`).
const KEPT_WILLS_BYTES: u64 = 16 << 20;
/// Identifiers of QoS 2 that clients did not release (`broker`, `received.rs`).
const UNRELEASED_BYTES: u64 = 4 << 20;
/// What a retained message costs beside its bytes: an estimate, as the broker's for wills.
const RETAINED_EACH_BYTES: u64 = 256;
/// One more session that is away, with one subscription (docs/bench.md, "Sessions").
const SESSION_BYTES: u64 = 1_279;
/// One more connection on which nothing happens: 57.9 MiB were measured for 10,000 (docs/bench.md,
/// "Sessions").
const CONNECTION_BYTES: u64 = 6_072;
/// Largest packets that one connection may have beyond the bounds: one that comes in, one message that
/// waits, and one that its socket has not taken.
pub(super) const PACKETS_BEYOND: u64 = 3;

/// Something that takes memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) what: &'static str,
    pub(crate) bytes: u64,
    /// The key that says how much; `None` where none does.
    pub(crate) key: Option<Key>,
}

/// A key that bounds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) path: &'static str,
    /// What it says: bytes, or a number of things.
    pub(super) value: u64,
    /// Whether it says bytes.
    pub(super) is_size: bool,
}

/// What a configuration may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryNeed {
    pub(crate) parts: Vec<Part>,
    /// What all connections may have beyond the bounds if each of them is in the worst place at one
    /// time; no part of the sum.
    pub(crate) beyond_bytes: u64,
}

impl MemoryNeed {
    /// All parts together.
    pub(crate) fn total_bytes(&self) -> u64 {
        let bytes = self.parts.iter().map(|part| part.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Those that no key changes.
    pub(super) fn fixed_bytes(&self) -> u64 {
        let fixed = self.parts.iter().filter(|part| part.key.is_none());
        fixed.map(|part| part.bytes).fold(0, u64::saturating_add)
    }

    /// Those that keys change, the largest first.
    pub(super) fn by_keys(&self) -> Vec<(&Part, Key)> {
        let keyed = self.parts.iter();
        let mut keyed: Vec<_> = keyed.filter_map(|part| Some((part, part.key?))).collect();
        keyed.sort_by_key(|(part, _)| std::cmp::Reverse(part.bytes));
        keyed
    }
}

impl Part {
    /// Whatever the keys say.
    fn fixed(what: &'static str, bytes: u64) -> Self {
        Self {
            what,
            bytes,
            key: None,
        }
    }

    /// This many times the bytes that a key says.
    fn sized(what: &'static str, times: u64, path: &'static str, bytes: ByteCount) -> Self {
        let value = bytes.get();
        Self {
            what,
            bytes: value.saturating_mul(times),
            key: Some(Key {
                path,
                value,
                is_size: true,
            }),
        }
    }

    /// `each` for each of the things of which a key says how many there may be.
    fn counted(what: &'static str, each: u64, path: &'static str, value: u64) -> Self {
        Self {
            what,
            bytes: value.saturating_mul(each),
            key: Some(Key {
                path,
                value,
                is_size: false,
            }),
        }
    }
}

/// Databases, threads, and what is there whoever is connected.
fn of_store(config: &Config) -> [Part; 6] {
    let ring_bytes = wiring::store_options(config).ring_bytes_max as u64;
    [
        Part::fixed("the program, its threads and allocator", PROGRAM_BYTES),
        Part::fixed("cache of the metadata", METADATA_CACHE_BYTES),
        Part::fixed("names of topics in the logs", TOPIC_NAMES_BYTES),
        Part::fixed("newest commits, for readers", ring_bytes),
        Part::sized(
            "open segments, four",
            SEGMENTS_IN_MEMORY,
            "storage.segment_bytes",
            config.storage.segment_bytes,
        ),
        // Those that wait for their own commit, and those that wait for the commit of others.
        Part::sized(
            "messages on their way to flash, twice",
            2,
            "limits.commit_queue_bytes_max",
            config.limits.commit_queue_bytes_max,
        ),
    ]
}

/// What is held for clients.
fn of_clients(config: &Config, connections: u64) -> [Part; 7] {
    let limits = &config.limits;
    [
        Part::sized(
            "what waits for subscribers",
            1,
            "limits.all_mailboxes_bytes_max",
            limits.all_mailboxes_bytes_max,
        ),
        Part::sized(
            "retained messages",
            1,
            "limits.retained_bytes_max",
            limits.retained_bytes_max,
        ),
        Part::counted(
            "and 256 B for each",
            RETAINED_EACH_BYTES,
            "limits.retained_count_max",
            u64::from(limits.retained_count_max),
        ),
        Part::counted(
            "sessions, 1,279 B each",
            SESSION_BYTES,
            "limits.sessions_max",
            u64::from(limits.sessions_max),
        ),
        Part::counted(
            "connections, 6,072 B each",
            CONNECTION_BYTES,
            "listener[].connections_max",
            connections,
        ),
        Part::fixed("wills of kept sessions", KEPT_WILLS_BYTES),
        Part::fixed("QoS 2 that was not released", UNRELEASED_BYTES),
    ]
}

impl MemoryNeed {
    /// Of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let connections = config.listeners.iter().fold(0, |sum: u64, listener| {
            sum.saturating_add(u64::from(listener.connections_max))
        });
        let parts = of_store(config).into_iter();
        let mut parts: Vec<_> = parts.chain(of_clients(config, connections)).collect();
        if config.bridge.is_some() {
            let bytes = wiring::link_bytes(config) as u64;
            parts.push(Part::fixed("batches on their way to Kafka", bytes));
        }
        let packets = config.limits.packet_bytes_max.get();
        let beyond = packets.saturating_mul(PACKETS_BEYOND);
        Self {
            parts,
            beyond_bytes: beyond.saturating_mul(connections),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::config;
    use super::*;

    fn need(config: &Config) -> MemoryNeed {
        MemoryNeed::of(config)
    }

    /// With one key at a value.
    fn with(path: &str, value: &str) -> Config {
        let text = match path.rsplit_once('.') {
            Some(("listener[]", name)) => {
                format!("[[listener]]\nbind = \"127.0.0.1:1\"\n{name} = {value}\n")
            }
            Some((table, name)) => format!("[{table}]\n{name} = {value}\n"),
            None => format!("{path} = {value}\n"),
        };
        config(&text)
    }

    #[test]
    fn every_key_that_is_named_makes_the_sum_smaller() {
        let default = need(&Config::default());
        let keyed = default.by_keys();
        assert_eq!(keyed.len(), 7);
        for (part, key) in keyed {
            let lower = (key.value / 2).to_string();
            let lowered = need(&with(key.path, &lower)).total_bytes();
            let saved = default.total_bytes() - lowered;
            assert_eq!(saved, part.bytes / 2, "{}", key.path);
        }
    }

    #[test]
    fn boards_and_bridges_change_what_no_key_says() {
        let of = |text: &str| need(&config(text)).fixed_bytes();
        let bridge = "gateway_id = \"g\"\n[bridge]\nbootstrap = [\"k:1\"]\n[[bridge.route]]\n\
                      name = \"r\"\nlog = \"default\"\ntopic = \"t\"\n";
        let small = "board = \"pi-zero-2w\"\n";
        assert_eq!(of(bridge) - of(""), 8 << 20);
        assert_eq!(of(&format!("{small}{bridge}")) - of(small), 2 << 20);
        assert_eq!(of("") - of(small), 2 << 20, "the newest commits");
    }
}
