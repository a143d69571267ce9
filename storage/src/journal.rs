//! The journal: the hot state that must agree with the log to the record, kept in the log itself.
//!
//! It is a small map from [`JournalKey`] to bytes. Changes ride in the commits that they belong to
//! and become durable with them by the same flush; each segment begins with the whole map, so that
//! recovery reads the last segment and nothing older. What the bytes mean is the owner's business
//! (the bridge's checkpoints, eras, spans …); each value begins with a version byte.
//!
//! Not for: what changes rarely and is large (retained messages, the segment index), see
//! `crate::metadata`.
//!
//! Invariant: the state after commit N is the snapshot at the start of N's segment plus all
//! operations up to N, and nothing else.

mod key;
mod operation;
mod state;

pub use key::{JournalKey, JournalKind};
pub use operation::JournalError;
pub(crate) use operation::{Operation, PartitionState, decode, encode};
pub(crate) use state::JournalState;
