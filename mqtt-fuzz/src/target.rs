//! The targets by their names.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::notation::{self, Seed};
use crate::{Seen, connection, decode};

/// What can be fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Target {
    /// Bytes to the codec.
    #[value(name = "mqtt_decode")]
    Decode,
    /// Operations on the server's state machine.
    #[value(name = "mqtt_server")]
    Server,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Decode, Self::Server];

    /// The name of its program in `fuzz/`, and of its folder of seeds.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "mqtt_decode",
            Self::Server => "mqtt_server",
        }
    }

    /// Runs one input. Panics when something does not hold.
    pub fn run(self, input: &[u8], seen: &mut Seen) {
        match self {
            Self::Decode => decode::run(input, seen),
            Self::Server => connection::run(input, seen),
        }
    }

    /// The seeds that the project has written, in the order of their files.
    ///
    /// # Errors
    /// A file cannot be read, or a line of it is no part of a seed.
    pub fn seeds(self) -> Result<Vec<Seed>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name());
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.sort();
        let mut seeds = Vec::new();
        for file in files {
            let subject = || format!("read {}", file.display());
            let text = fs::read_to_string(&file).with_context(subject)?;
            seeds.extend(notation::parse(self, &text).with_context(subject)?);
        }
        Ok(seeds)
    }
}
