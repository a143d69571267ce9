//! Which topics are where in the log, so that whoever is behind need not read what it cannot use.
//!
//! Each topic name has a number in the [`TopicDictionary`]. For each sealed segment the metadata has
//! the set of numbers of the topics in it, and one set for each run of commits that begin in the same
//! chunk. What a reader wants is worked out once for each name ([`TopicMatch`]); a segment or a run of
//! which every topic is known and not wanted is left out.
//!
//! Not for: what a filter is. Names are bytes; whoever reads says which are wanted.
//!
//! Invariants: a set may name topics that are not there, but never lacks one that is; a number that
//! a reader does not know, a set that is missing and one that cannot be read all mean "any topic";
//! a number is never given to another name while a set may name it.

mod dictionary;
mod matching;
mod runs;
mod set;
mod stored;

pub(crate) use dictionary::{TopicDictionary, TopicNumber};
pub use matching::TopicMatch;
pub(crate) use runs::{Run, RunsBuilder};
pub(crate) use set::TopicSet;
pub(crate) use stored::{RunsOfSegment, SegmentIdentity, TopicsOfSegment, WantedRuns};
