//! `[storage]`: how the logs lie on flash.

use crate::found::Found;
use crate::schema::{BytesKey, Schema, Shape, TableKey};
use crate::section::Section;
use crate::value::ByteCount;

/// How the logs lie on flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Size at which a segment is sealed and the next one begins. All logs share the segments;
    /// space comes back a segment at a time, and the active one costs about this much memory.
    pub segment_bytes: ByteCount,
    /// Free space of the file system below which publishes are refused.
    pub free_space_reserve: ByteCount,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES.default,
            free_space_reserve: FREE_SPACE_RESERVE.default,
        }
    }
}

static SEGMENT_BYTES: BytesKey = BytesKey {
    name: "segment_bytes",
    min: ByteCount::mib(1),
    max: ByteCount::mib(256),
    default: ByteCount::mib(16),
};
static FREE_SPACE_RESERVE: BytesKey = BytesKey {
    name: "free_space_reserve",
    min: ByteCount::mib(1),
    max: ByteCount::tib(1024),
    default: ByteCount::mib(64),
};

pub(crate) static STORAGE: TableKey = TableKey {
    name: "storage",
    shape: Shape::One,
    schema: &Schema {
        keys: &[&SEGMENT_BYTES, &FREE_SPACE_RESERVE],
        tables: &[],
        later: &["flash_budget"],
    },
};

/// Reads `[storage]`.
pub(crate) fn read_storage(file: &Section<'_>) -> StorageRead {
    let section = match file.table(&STORAGE) {
        Found::Absent => {
            let storage = StorageConfig::default();
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
    let segment_bytes = section.bytes(&SEGMENT_BYTES);
    let free_space_reserve = section.bytes(&FREE_SPACE_RESERVE);
    let storage =
        segment_bytes
            .zip(free_space_reserve)
            .map(|(segment_bytes, free_space_reserve)| StorageConfig {
                segment_bytes,
                free_space_reserve,
            });
    StorageRead {
        storage,
        segment_bytes,
    }
}

/// What came out of `[storage]`; the size of a segment on its own, because other tables are
/// judged by it even when something else here is wrong.
pub(crate) struct StorageRead {
    pub(crate) storage: Option<StorageConfig>,
    pub(crate) segment_bytes: Option<ByteCount>,
}
