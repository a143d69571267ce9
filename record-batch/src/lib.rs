//! Kafka's record batch, format version 2 ("magic 2", in use since Kafka 0.11): the unit in which
//! records are stored, checked, sent to Kafka and handed to Kafka clients.
//!
//! For: building a batch record by record into one buffer ([`BatchBuilder`]), and reading one back
//! with every length checked ([`Batch`], [`batches`]). Not for: I/O, compression (a compressed
//! batch parses as a header, its records do not), format versions 0 and 1.
//!
//! ```text
//! offset size field                      covered by the checksum
//!      0    8 base offset                no
//!      8    4 batch length               no   bytes after this field
//!     12    4 partition leader epoch     no
//!     16    1 magic (2)                  no
//!     17    4 CRC-32C                    -    of everything that follows
//!     21    2 attributes                 yes  bits 0-2 codec, 3 timestamp type, 4 transactional,
//!                                             5 control
//!     23    4 last offset delta          yes
//!     27    8 base timestamp (ms)        yes
//!     35    8 max timestamp (ms)         yes
//!     43    8 producer id (-1: none)     yes
//!     51    2 producer epoch             yes
//!     53    4 base sequence              yes
//!     57    4 record count               yes
//!     61      records                    yes  see the `record` module
//! ```
//!
//! Invariants:
//! - What [`BatchBuilder`] writes, [`Batch::parse`] accepts, and the records come back unchanged:
//!   order of headers, repeated header names, null and empty values included.
//! - No input makes this crate panic, and no length field in it makes this crate allocate: reading
//!   slices the given buffer.
//! - Base offset and partition leader epoch lie outside the checksum: whoever stores a batch must
//!   be able to assign them without touching the rest. A flipped bit there is not found here.
//!
//! References: <https://kafka.apache.org/documentation/#recordbatch>, [KIP-98] (the format,
//! producer ids), [KIP-82] (record headers).
//!
//! [KIP-82]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-82+-+Add+Record+Headers
//! [KIP-98]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging

mod batch;
mod batches;
mod builder;
mod error;
mod header;
mod record;
mod varint;

pub use batch::{Batch, Records};
pub use batches::{Batches, batches};
pub use builder::{BatchBuilder, RecordFields};
pub use error::{AppendError, BatchError, RecordProblem};
pub use header::{BatchHeader, Compression, HEADER_BYTES, checksum};
pub use record::{Record, RecordHeaders};
