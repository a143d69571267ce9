//! What is wrong with a configuration, and where.
//!
//! Invariants: problems are sorted by position; every text fits one line, whatever stands in the
//! file, because what is quoted from it is escaped and cut.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;

/// A place in a file. Both numbers count from 1; the column counts characters, as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value together with where it stands in the file, for whoever finds fault with it later.
///
/// Two located values are equal when their values are: where something was written is no part of
/// what was configured.
#[derive(Clone, Copy, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands; `None` for a default, which stands nowhere.
    pub position: Option<Position>,
}

impl<T> Located<T> {
    /// A value that stands in no file.
    pub const fn nowhere(value: T) -> Self {
        Self {
            value,
            position: None,
        }
    }

    /// Where it stands, in words.
    pub(crate) fn place(&self) -> String {
        self.position.map_or_else(
            || "the default".to_owned(),
            |at| format!("line {}", at.line),
        )
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was found.
    pub position: Position,
    /// The key's path, such as `log[1].retention.bytes`; empty for a syntax error. Elements of a
    /// list are counted from 0.
    pub key: String,
    /// What was found, why it is refused, and what is allowed.
    pub message: String,
}

/// Everything that is wrong with one configuration, at least one problem. Prints one line each:
/// `file:line:column: key: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    problems: Vec<Problem>,
}

impl Problems {
    /// Sorts the problems of a file by position. `file` is the name that is printed.
    #[must_use]
    pub fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.position.cmp(&b.position).then_with(|| a.key.cmp(&b.key)));
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    /// The name of the file, as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems by line.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Position { line, column } = problem.position;
            write!(f, "{}:{line}:{column}: ", self.file)?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why no configuration came out of a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file was read and is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}
