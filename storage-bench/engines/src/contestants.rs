//! Who takes part besides Tidegate, and how each keeps a record: under its partition and number.
//!
//! Each is durable when `commit` comes back, by its own strictest setting, and gets the memory that a
//! small gateway would give it: 16 MiB.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::TableDefinition;

use crate::raw::RawLog;

/// Also the size of a segment and of a bare file.
pub(crate) const MEMORY_BYTES: u64 = 16 << 20;
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// In the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    Tidegate,
    Files,
    Fjall,
    Redb,
}

impl Contestant {
    pub(crate) const ALL: [Self; 4] = [Self::Tidegate, Self::Files, Self::Fjall, Self::Redb];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Files => "files",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
        }
    }
}

/// A record as it is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Partition and number, so that they lie in the order in which they came.
    pub(crate) key: [u8; 10],
    pub(crate) value: Vec<u8>,
}

/// An open engine.
pub(crate) enum Engine {
    Files(RawLog),
    Fjall(Database, Keyspace),
    Redb(redb::Database),
}

impl Engine {
    pub(crate) fn open(contestant: Contestant, folder: &Path) -> anyhow::Result<Self> {
        Ok(match contestant {
            Contestant::Tidegate => anyhow::bail!("it has its own run"),
            Contestant::Files => Self::Files(RawLog::create(folder, MEMORY_BYTES, None)?),
            Contestant::Fjall => {
                let database = Database::builder(folder.join("fjall"))
                    .cache_size(MEMORY_BYTES)
                    .open()
                    .context("open fjall")?;
                let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMORY_BYTES);
                let keyspace = database.keyspace("records", options)?;
                Self::Fjall(database, keyspace)
            }
            Contestant::Redb => {
                let cache = usize::try_from(MEMORY_BYTES)?;
                let mut builder = redb::Database::builder();
                let database = builder.set_cache_size(cache).create(folder.join("redb"));
                let database = database.context("open redb")?;
                let transaction = database.begin_write()?;
                drop(transaction.open_table(RECORDS)?);
                transaction.commit()?;
                Self::Redb(database)
            }
        })
    }

    /// Keeps the entries for good.
    pub(crate) fn commit(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        match self {
            Self::Files(log) => log.commit(|buffer| {
                for entry in entries {
                    buffer.extend_from_slice(&entry.key);
                    buffer.extend_from_slice(&entry.value);
                }
            }),
            Self::Fjall(database, keyspace) => {
                let mut batch = database.batch().durability(Some(PersistMode::SyncData));
                for entry in entries {
                    batch.insert(keyspace, entry.key, entry.value.as_slice());
                }
                batch.commit().context("commit to fjall")
            }
            Self::Redb(database) => {
                // Durability::Immediate is what it begins with.
                let transaction = database.begin_write()?;
                {
                    let mut table = transaction.open_table(RECORDS)?;
                    for entry in entries {
                        table.insert(entry.key.as_slice(), entry.value.as_slice())?;
                    }
                }
                transaction.commit().context("commit to redb")
            }
        }
    }
}
