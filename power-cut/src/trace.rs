//! What happened to a data folder, in order: the material of which crash images are made.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::expectation::{Acknowledgement, Expectation};
use crate::gateway::player::Did;
use crate::gateway::step::Step;

/// A file or directory of the folder, by the order in which it appeared; 0 is the folder itself.
pub(crate) type NodeId = usize;

/// The folder.
pub(crate) const ROOT: NodeId = 0;

/// A place in [`Trace::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// What was there at the beginning, durably.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BaseNode {
    pub(crate) parent: NodeId,
    pub(crate) name: String,
    /// `None` for a directory.
    pub(crate) content: Option<Extent>,
}

/// One change, one sync or one promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A file or directory with a new entry.
    Create {
        parent: NodeId,
        name: String,
        node: NodeId,
        directory: bool,
    },
    Write {
        node: NodeId,
        offset: u64,
        data: Extent,
    },
    Resize {
        node: NodeId,
        bytes: u64,
    },
    Rename {
        from: (NodeId, String),
        to: (NodeId, String),
        node: NodeId,
    },
    Remove {
        parent: NodeId,
        name: String,
    },
    /// A sync has returned. It covers the events of its file or directory before event `covers`,
    /// which is how many there were when it began.
    Sync {
        node: NodeId,
        covers: usize,
    },
    /// The store has said so.
    Acknowledged(Box<Acknowledgement>),
    /// A client of the broker, by number, does or sees something.
    Client(usize, Did),
    /// The broker says that it does something.
    Broker(Step),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create {
                parent, name, node, ..
            } => write!(f, "create {node}, `{name}` in {parent}"),
            Self::Write { node, offset, data } => {
                write!(f, "write {} bytes at {offset} of {node}", data.length)
            }
            Self::Resize { node, bytes } => write!(f, "resize {node} to {bytes}"),
            Self::Rename { from, to, node } => write!(
                f,
                "rename {node}, `{}` in {} to `{}` in {}",
                from.1, from.0, to.1, to.0
            ),
            Self::Remove { parent, name } => write!(f, "remove `{name}` from {parent}"),
            Self::Sync { node, covers } => write!(f, "sync {node}, all before {covers}"),
            Self::Acknowledged(promise) => write!(
                f,
                "promise {} records, {} entries, {} log starts",
                promise.records.len(),
                promise.entries.len(),
                promise.log_starts.len()
            ),
            Self::Client(client, did) => write!(f, "client {client}: {did:?}"),
            Self::Broker(step) => write!(f, "broker: {}", step.name()),
        }
    }
}

impl Event {
    /// The step of a delivery, a session or a checkpoint that it is.
    pub(crate) fn step(&self) -> Option<Step> {
        match self {
            Self::Client(_, did) => did.step(),
            Self::Broker(step) => Some(*step),
            _ => None,
        }
    }

    /// Whether it changes directories.
    pub(crate) fn is_of_entries(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::Rename { .. } | Self::Remove { .. }
        )
    }
}

/// See the module's documentation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// Of which images are made, each with its number.
    pub(crate) seed: u64,
    /// Nodes 1, 2, …: a parent comes before what is in it.
    pub(crate) base: Vec<BaseNode>,
    /// What had been promised before.
    pub(crate) before: Expectation,
    pub(crate) events: Vec<Event>,
    /// When each of them was, in microseconds since the beginning.
    pub(crate) times_us: Vec<u64>,
    /// The contents of files; kept apart in the file, since serde is slow with bytes.
    #[serde(skip)]
    pub(crate) data: Vec<u8>,
}

impl Trace {
    pub(crate) fn bytes(&self, at: Extent) -> &[u8] {
        let end = at.start.saturating_add(at.length);
        self.data.get(at.start..end).unwrap_or_default()
    }

    /// Writes an event down.
    pub(crate) fn push(&mut self, event: Event, at: Duration) {
        self.events.push(event);
        self.times_us
            .push(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes content in.
    pub(crate) fn keep(&mut self, content: &[u8]) -> Extent {
        let start = self.data.len();
        self.data.extend_from_slice(content);
        Extent {
            start,
            length: content.len(),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let head = postcard::to_stdvec(self).context("encode the trace")?;
        let length = u64::try_from(head.len())?.to_be_bytes();
        let all = [length.as_slice(), &head, &self.data].concat();
        fs::write(path, all).with_context(|| format!("write {}", path.display()))
    }

    pub(crate) fn load(path: &Path) -> Result<Self> {
        let all = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let short = || format!("{} is no trace", path.display());
        let (length, rest) = all.split_first_chunk().with_context(short)?;
        let length = usize::try_from(u64::from_be_bytes(*length))?;
        let (head, data) = rest.split_at_checked(length).with_context(short)?;
        let trace: Self = postcard::from_bytes(head).with_context(short)?;
        Ok(Self {
            data: data.to_vec(),
            ..trace
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_trace_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let mut trace = Trace {
            seed: 5,
            ..Trace::default()
        };
        let data = trace.keep(b"abc");
        let event = Event::Write {
            node: 1,
            offset: 9,
            data,
        };
        trace.push(event, Duration::from_millis(3));
        trace.save(&path).unwrap();
        let loaded = Trace::load(&path).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{trace:?}"));
        fs::write(&path, b"abc").unwrap();
        assert!(Trace::load(&path).is_err());
    }
}
