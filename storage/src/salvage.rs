//! Reading what can still be read of a damaged segment: every whole commit, whatever is missing
//! between them, without sled, which would stop at the damage and destroy what follows.
//!
//! Readers of the log stop at the first damage, since they promise order without holes. This is for
//! those who would rather have the rest: `export` of what is in quarantine, and `repair`.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::commit::Commit;
use crate::raw::RawPieces;
use crate::view::View;

/// What was read of a damaged segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Commits that are whole.
    pub commits: u64,
    /// Places at which something cannot be read; how much that was is not known.
    pub damaged_places: u64,
}

/// Something in quarantine that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// There is nothing of that name.
    #[error("there is no `{name}` in {path}; there is: {found}")]
    Missing {
        /// What was asked for.
        name: String,
        /// The folder.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// It cannot be read, not even in part.
    #[error("read {path}")]
    Io {
        /// The folder, or what is in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl View {
    /// Hands every whole commit of the segment that stands in quarantine as `name` to `visit`,
    /// ascending, until that breaks off.
    ///
    /// # Errors
    /// See [`QuarantineError`].
    pub fn read_quarantined(
        &self,
        name: &str,
        visit: impl FnMut(&Commit) -> ControlFlow<()>,
    ) -> Result<Salvaged, QuarantineError> {
        let path = self.path().join("quarantine");
        let names = names_in(&path).map_err(|source| QuarantineError::Io {
            path: path.clone(),
            source,
        })?;
        if !names.iter().any(|found| found == name) {
            let found = match names.is_empty() {
                true => "nothing".to_owned(),
                false => names.join(", "),
            };
            let name = name.to_owned();
            return Err(QuarantineError::Missing { name, path, found });
        }
        let path = path.join(name);
        let read = RawPieces::read(&path).and_then(|pieces| pieces.commits(visit));
        read.map_err(|source| QuarantineError::Io { path, source })
    }
}

fn names_in(path: &std::path::Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
