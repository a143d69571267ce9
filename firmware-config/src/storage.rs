//! `[storage]`: how the logs lie on flash.

use crate::board::{BoardDefaults, GENERIC};
use crate::found::Found;
use crate::problem::Located;
use crate::schema::{BytesKey, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::{ByteCount, BytesPerDay, Refusal};

/// How the logs lie on flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Size at which a segment is sealed and the next one begins. All logs share the segments;
    /// space comes back a segment at a time, and the active one costs about this much memory.
    pub segment_bytes: ByteCount,
    /// Free space of the file system below which publishes are refused.
    pub free_space_reserve: ByteCount,
    /// Bytes that may be written to flash in a day. Above that rate, commits wait for company, and
    /// the status says so.
    pub flash_budget: Option<BytesPerDay>,
    /// Bytes that the card's maker promises that it takes in its life (TBW); for an estimate only.
    pub card_endurance: Option<ByteCount>,
}

impl StorageConfig {
    /// What holds on a board without a word in the file.
    pub(crate) fn of(board: &BoardDefaults) -> Self {
        Self {
            segment_bytes: board.segment_bytes,
            free_space_reserve: FREE_SPACE_RESERVE.default,
            flash_budget: None,
            card_endurance: None,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self::of(&GENERIC)
    }
}

static SEGMENT_BYTES: BytesKey = BytesKey {
    name: "segment_bytes",
    min: ByteCount::mib(1),
    max: ByteCount::mib(256),
    default: GENERIC.segment_bytes,
};
static FREE_SPACE_RESERVE: BytesKey = BytesKey {
    name: "free_space_reserve",
    min: ByteCount::mib(1),
    max: ByteCount::tib(1024),
    default: ByteCount::mib(64),
};

static FLASH_BUDGET: TextKey = TextKey {
    name: "flash_budget",
    allowed: r#"a size a day such as "2GB/day", from "10MiB/day" to "1024TiB/day""#,
    default: "no budget",
};
static CARD_ENDURANCE: TextKey = TextKey {
    name: "card_endurance",
    allowed: r#"a size such as "30TB", at least "1GB""#,
    default: "not known",
};

pub(crate) static STORAGE: TableKey = TableKey {
    name: "storage",
    shape: Shape::One,
    schema: &Schema {
        keys: &[
            &SEGMENT_BYTES,
            &FREE_SPACE_RESERVE,
            &FLASH_BUDGET,
            &CARD_ENDURANCE,
        ],
        tables: &[],
        later: &[],
    },
};

/// Reads `[storage]`.
pub(crate) fn read_storage(file: &Section<'_>, board: &BoardDefaults) -> StorageRead {
    let section = match file.table(&STORAGE) {
        Found::Absent => {
            let storage = StorageConfig::of(board);
            let segment_bytes = Some(storage.segment_bytes);
            return StorageRead {
                storage: Some(storage),
                segment_bytes,
            };
        }
        Found::Refused => {
            return StorageRead {
                storage: None,
                segment_bytes: None,
            };
        }
        Found::Value(section) => section,
    };
    let segment_bytes = section.bytes_or(&SEGMENT_BYTES, board.segment_bytes);
    let free_space_reserve = section.bytes(&FREE_SPACE_RESERVE);
    let budget = |text: &str| text.parse::<BytesPerDay>().map(Some);
    let flash_budget = section.text(&FLASH_BUDGET, budget);
    let flash_budget = flash_budget.or(|| Located::nowhere(None));
    let card_endurance = section.text(&CARD_ENDURANCE, parse_endurance);
    let card_endurance = card_endurance.or(|| Located::nowhere(None));
    let storage = || {
        Some(StorageConfig {
            segment_bytes: segment_bytes?,
            free_space_reserve: free_space_reserve?,
            flash_budget: flash_budget?.value,
            card_endurance: card_endurance?.value,
        })
    };
    StorageRead {
        storage: storage(),
        segment_bytes,
    }
}

fn parse_endurance(text: &str) -> Result<Option<ByteCount>, Refusal> {
    let endurance: ByteCount = text.parse()?;
    if endurance < ByteCount::new(1_000_000_000) {
        return Err(Refusal::new("is less than any card takes"));
    }
    Ok(Some(endurance))
}

/// What came out of `[storage]`; the size of a segment on its own, because other tables are
/// judged by it even when something else here is wrong.
pub(crate) struct StorageRead {
    pub(crate) storage: Option<StorageConfig>,
    pub(crate) segment_bytes: Option<ByteCount>,
}
