//! Reading what can still be read of a damaged segment: every whole commit, whatever is missing
//! between them.
//!
//! Readers of the log stop at the first damage, since they promise order without holes. This is for
//! those who would rather have the rest: `export` of what is in quarantine, and `repair`.

use std::io;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use crate::commit::{Assembler, Commit, PieceKey};
use crate::database::DatabaseError;
use crate::ids::CommitNumber;
use crate::segment;
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
    /// Its database cannot be opened, not even in part.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The folder cannot be read.
    #[error("read {path}")]
    Io {
        /// The folder.
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
        let database = self.open_aside(&path.join(name))?;
        Ok(salvage(&database, visit))
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

/// Hands every whole commit of an open segment to `visit`, ascending.
pub(crate) fn salvage(
    database: &sled::Db,
    mut visit: impl FnMut(&Commit) -> ControlFlow<()>,
) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let mut assembler = Assembler::default();
    let mut skipping = None;
    let mut stopped = false;
    for chunk in segment::chunks(database) {
        // sled panics on some damage instead of returning an error.
        let read = panic::catch_unwind(AssertUnwindSafe(|| {
            let place = (&mut assembler, &mut skipping);
            read_chunk(database, chunk, place, &mut |commit| {
                salvaged.commits += 1;
                let flow = visit(commit);
                stopped = flow.is_break();
                flow
            })
        }));
        match read {
            Ok(Ok(places)) => salvaged.damaged_places += places,
            Ok(Err(_)) | Err(_) => {
                assembler = Assembler::default();
                salvaged.damaged_places += 1;
            }
        }
        if stopped {
            break;
        }
    }
    salvaged
}

/// Reads a chunk, `skipping` the rest of a commit that is not whole; in how many places something is
/// missing. An error ends it: pages are larger than
/// most chunks, so little is lost behind it.
fn read_chunk(
    database: &sled::Db,
    chunk: PieceKey,
    (assembler, skipping): (&mut Assembler, &mut Option<CommitNumber>),
    visit: &mut dyn FnMut(&Commit) -> ControlFlow<()>,
) -> Result<u64, sled::Error> {
    let mut places = 0;
    for piece in database.open_tree(chunk.to_bytes())?.iter() {
        let (key, value) = piece?;
        let Some(key) = PieceKey::from_bytes(&key) else {
            places += 1;
            continue;
        };
        if *skipping == Some(key.commit) {
            continue;
        }
        let mut pushed = assembler.push(key, &value);
        if pushed.is_err() {
            places += 1;
            *assembler = Assembler::default();
            if key.piece == 0 {
                // It may only have come behind a commit that was not whole.
                pushed = assembler.push(key, &value);
            }
        }
        match pushed {
            Ok(None) => {}
            Ok(Some(commit)) => {
                if visit(&commit).is_break() {
                    break;
                }
            }
            Err(_) => {
                *assembler = Assembler::default();
                // The other pieces of this commit are of no use.
                *skipping = Some(key.commit);
            }
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::BodyBuilder;
    use crate::ids::{CommitNumber, EraId, LogId, LogPartition, PartitionId, SegmentId};
    use crate::segment::SegmentWriter;

    /// A commit with a journal of `size` bytes.
    fn commit(number: u64, size: usize) -> Commit {
        let mut body = BodyBuilder::new(EraId(1));
        let journal = LogPartition {
            log: LogId::JOURNAL,
            partition: PartitionId(0),
        };
        body.entry(journal, |out| out.resize(out.len() + size, 7));
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    /// Every commit but those of which a piece is damaged or missing.
    #[test]
    fn whole_commits_are_read_around_damaged_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::create(folder.path(), SegmentId(1)).unwrap();
        for number in 1..=40 {
            let size = if number % 10 == 0 { 200_000 } else { 100 };
            writer.write_unflushed(&commit(number, size)).unwrap();
        }
        let key = |commit, piece| PieceKey {
            commit: CommitNumber(commit),
            piece,
        };
        for chunk in segment::chunks(writer.database()) {
            let tree = writer.database().open_tree(chunk.to_bytes()).unwrap();
            for damaged in [key(3, 0), key(10, 2)] {
                if let Some(value) = tree.get(damaged.to_bytes()).unwrap() {
                    let mut value = value.to_vec();
                    *value.last_mut().unwrap() ^= 1;
                    tree.insert(damaged.to_bytes(), value).unwrap();
                }
            }
            // A commit whose end is missing, one without a beginning, and a key that is none.
            for missing in [key(20, 3), key(30, 0)] {
                tree.remove(missing.to_bytes()).unwrap();
            }
            if chunk.commit == CommitNumber(1) {
                tree.insert(b"zzz", b"").unwrap();
            }
        }
        let mut found = Vec::new();
        let salvaged = salvage(writer.database(), |commit| {
            found.push(commit.number().0);
            ControlFlow::Continue(())
        });
        let lost = [3, 10, 20, 30];
        let expected: Vec<_> = (1..=40).filter(|number| !lost.contains(number)).collect();
        assert_eq!(found, expected);
        assert_eq!(salvaged.commits, 36);
        assert_eq!(salvaged.damaged_places, 5);
        let mut seen = 0;
        salvage(writer.database(), |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(seen, 1, "it stops when it is told to");
    }
}
