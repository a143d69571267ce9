//! Several batches one after another, as a Fetch response returns them: the broker cuts its log at
//! a number of bytes, so that the last batch may be incomplete.

use bytes::Bytes;

use crate::batch::Batch;
use crate::error::BatchError;

/// The batches in `bytes`; see [`Batches`].
pub fn batches(bytes: Bytes) -> Batches {
    Batches {
        rest: bytes,
        ended: false,
    }
}

/// Iterates over batches as a broker returns them (holes by compaction allowed). A batch that is
/// cut short ends the iteration without an error, any other damage with one.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    ended: bool,
}

impl Batches {
    /// What has not been read: after the end, the batch that was cut short or damaged, if any.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match Batch::parse_stored(self.rest.clone()) {
            Ok((batch, consumed)) => {
                self.rest = self.rest.slice(consumed..);
                Some(Ok(batch))
            }
            Err(error) => {
                self.ended = true;
                (!matches!(error, BatchError::Truncated { .. })).then_some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches {}
