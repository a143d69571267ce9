//! Reading the file of a database as sled 0.34 writes it, without sled, which changes what it opens.
//!
//! sled appends messages to a log that it cuts into segments of equal size, each somewhere in the
//! file. Here they are read in the order in which they were written, whatever is damaged between
//! them. Only what our databases have is known: no compression, no blobs.
//!
//! ```text
//! segment   checksum u32 | LSN i64 | LSN that was stable i64 | messages, the last may be a cap
//!           checksum: CRC-32 over the two LSN, inverted; of an LSN all bits but the highest are
//!           inverted; all little endian
//! ```
//!
//! A position in the log (LSN) is that of its segment plus the place in it; a message carries the
//! number of its segment, so one whose header is damaged is known by what is in it.
//!
//! Invariants: the file is only read; whatever is in it, nothing panics, and no more than a segment
//! is held in memory.
//!
//! Behind damage a message is searched at every byte, inside of payloads too. What is found there has
//! sled's checksum and, if it is a piece of a commit, our own, but neither is proof against somebody
//! who publishes what looks like it.

mod message;
mod pieces;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod written_again;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use message::{CHECKSUM_BYTES, HEADER_BYTES_MAX, Header};

pub(crate) use message::RawMessage;
pub(crate) use pieces::RawPieces;

const SEGMENT_HEADER_BYTES: usize = 20;
const LSN_MASK: i64 = i64::MAX;
/// What a card that cannot be read well is read in, one by one.
const BLOCK_BYTES: usize = 4096;
/// Zeros that are passed over at once where messages are searched: a segment that is not full ends with
/// many.
const ZEROS: [u8; 1024] = [0; 1024];
/// How many times the bytes of a segment may be checked while messages are searched in it: bytes can
/// be such that there seems to be one everywhere.
const SEARCH_MAX: usize = 32;

/// A file of a database.
#[derive(Debug)]
pub(crate) struct RawLog {
    file: File,
    segment_bytes: usize,
    /// Ascending.
    segments: Vec<Segment>,
    stable_lsn: i64,
    /// Whether there are segments in the file of which nothing can be read.
    has_unreadable: bool,
    /// Whether there are some that are nothing but zeros: sled has freed them, or they were lost.
    has_zeros: bool,
    bytes_read: Cell<u64>,
    /// Whether zeros stand for a block that could not be read.
    has_lost_block: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    lsn: i64,
    at: u64,
    has_header: bool,
}

/// What stands at a place of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// A message.
    Message {
        /// Where it begins in the file.
        at: u64,
        /// It.
        message: RawMessage<'a>,
    },
    /// No message, although the log was not at its end, unless nothing follows; or a segment without
    /// its header.
    Nothing {
        /// Where in the log.
        lsn: i64,
    },
    /// No segment, although there are later ones, and one that cannot be read.
    NoSegment {
        /// Where in the log.
        lsn: i64,
    },
}

impl RawLog {
    /// Opens the file, whose segments have `segment_bytes` each, and looks at their headers.
    ///
    /// # Errors
    /// If the file cannot be opened. Blocks that cannot be read are taken as zeros.
    pub(crate) fn open(path: &Path, segment_bytes: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut log = Self {
            file,
            segment_bytes,
            segments: Vec::new(),
            stable_lsn: 0,
            has_unreadable: false,
            has_zeros: false,
            bytes_read: Cell::new(0),
            has_lost_block: Cell::new(false),
        };
        let mut headless = Vec::new();
        for at in (0..bytes).step_by(segment_bytes) {
            let mut header = [0; SEGMENT_HEADER_BYTES];
            log.read_at(&mut header, at)?;
            match parse_header(&header) {
                Some((lsn, stable_lsn)) if log.number(lsn).is_some() => {
                    log.segments.push(Segment {
                        lsn,
                        at,
                        has_header: true,
                    });
                    log.stable_lsn = log.stable_lsn.max(stable_lsn);
                }
                _ => headless.push(at),
            }
        }
        let known: BTreeSet<_> = log.segments.iter().map(|segment| segment.lsn).collect();
        let mut buffer = Vec::new();
        for at in headless {
            log.has_lost_block.set(false);
            log.read_segment(at, &mut buffer)?;
            if !log.has_lost_block.get() && buffer.iter().all(|byte| *byte == 0) {
                log.has_zeros = true;
                continue;
            }
            let lsn = first_number(&buffer, segment_bytes)
                .and_then(|number| i64::try_from(number).ok())
                .and_then(|number| number.checked_mul(i64::try_from(segment_bytes).ok()?))
                .filter(|lsn| !known.contains(lsn));
            match lsn {
                Some(lsn) => log.segments.push(Segment {
                    lsn,
                    at,
                    has_header: false,
                }),
                None => log.has_unreadable = true,
            }
        }
        log.segments.sort_unstable();
        Ok(log)
    }

    /// Up to where the log was on the flash, according to the segments' headers.
    pub(crate) fn stable_lsn(&self) -> i64 {
        self.stable_lsn
    }

    /// Bytes that were read of the file so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Hands what the segments from that of `from` on hold to `visit`, in the order of the log.
    ///
    /// # Errors
    /// If the file cannot be read, for another reason than its blocks.
    pub(crate) fn walk(
        &self,
        from: i64,
        mut visit: impl FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let size = self.size();
        let mut buffer = Vec::new();
        let mut next = None;
        for segment in self.segments_from(from) {
            if let Some(lsn) = next.filter(|next| *next < segment.lsn && self.is_lost(*next))
                && visit(Found::NoSegment { lsn }).is_break()
            {
                return Ok(());
            }
            let headless = Found::Nothing { lsn: segment.lsn };
            if !segment.has_header && visit(headless).is_break() {
                return Ok(());
            }
            next = segment.lsn.checked_add(size);
            self.read_segment(segment.at, &mut buffer)?;
            let Some(number) = self.number(segment.lsn) else {
                continue;
            };
            let walked = walk_segment(&buffer, number, self.segment_bytes, |place, message| {
                visit(match message {
                    Some(message) => Found::Message {
                        at: segment.at + place as u64,
                        message,
                    },
                    None => Found::Nothing {
                        lsn: segment.lsn.saturating_add_unsigned(place as u64),
                    },
                })
            });
            if walked.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether a segment that is missing at `lsn` may have been lost. sled writes some again, elsewhere,
    /// and fills what it has freed with zeros, but only what was stable.
    fn is_lost(&self, lsn: i64) -> bool {
        self.has_unreadable || self.has_zeros && lsn >= self.stable_lsn
    }

    fn size(&self) -> i64 {
        i64::try_from(self.segment_bytes).unwrap_or(i64::MAX)
    }

    fn segments_from(&self, lsn: i64) -> impl Iterator<Item = &Segment> {
        let size = self.size();
        let is_before = move |segment: &&Segment| segment.lsn.saturating_add(size) <= lsn;
        self.segments.iter().skip_while(is_before)
    }

    /// The most that [`Self::copy_from`] writes.
    fn bytes_from(&self, lsn: i64) -> u64 {
        let segments = self.segments_from(lsn).count() as u64;
        segments.saturating_mul(self.segment_bytes as u64)
    }

    /// The bytes of the file up to the end of the segment of `lsn`, if there are later ones and no place
    /// was written again: else what comes before depends on what comes after.
    fn bytes_up_to(&self, lsn: i64) -> Option<u64> {
        let in_place = |segment: &Segment| u64::try_from(segment.lsn) == Ok(segment.at);
        let once = !self.has_unreadable && !self.has_zeros && self.segments.iter().all(in_place);
        let mut segments = self.segments_from(lsn).filter(|_| once);
        let end = segments
            .next()?
            .at
            .saturating_add(self.segment_bytes as u64);
        segments.next().map(|_| end)
    }

    /// Writes the segments from that of `lsn` on to a new file. They say themselves where in the log
    /// they belong.
    fn copy_from(&self, lsn: i64, to: &File) -> io::Result<()> {
        let (mut buffer, mut at) = (Vec::new(), 0);
        for segment in self.segments_from(lsn) {
            self.read_segment(segment.at, &mut buffer)?;
            to.write_all_at(&buffer, at)?;
            at += self.segment_bytes as u64;
        }
        Ok(())
    }

    /// Number of the segment at `lsn`, if one can be there.
    fn number(&self, lsn: i64) -> Option<u64> {
        let (lsn, size) = (u64::try_from(lsn).ok()?, self.segment_bytes as u64);
        lsn.is_multiple_of(size).then_some(lsn / size)
    }

    fn read_segment(&self, at: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.resize(self.segment_bytes, 0);
        let read = self.read_at(buffer, at)?;
        buffer.truncate(read);
        Ok(())
    }

    /// Fills `place`, up to the end of the file.
    fn read_at(&self, place: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = place.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    let block = rest.len().min(BLOCK_BYTES);
                    let (block, _) = rest.split_at_mut(block);
                    if self.file.read_exact_at(block, at + done as u64).is_err() {
                        block.fill(0);
                        self.has_lost_block.set(true);
                    }
                    done += block.len();
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes_read.set(self.bytes_read.get() + done as u64);
        Ok(done)
    }

    /// Reads a value whose place was found before into `value`, in the place of what is in it.
    pub(crate) fn value(&self, at: u64, bytes: usize, value: &mut Vec<u8>) -> io::Result<()> {
        value.resize(bytes, 0);
        // What is behind the end of the file must not be what was there before.
        let read = self.read_at(value, at)?;
        value.truncate(read);
        Ok(())
    }
}

/// LSN, and LSN that was stable, of a segment whose header is whole.
fn parse_header(header: &[u8; SEGMENT_HEADER_BYTES]) -> Option<(i64, i64)> {
    let (checksum, rest) = header.split_first_chunk::<4>()?;
    let (lsn, stable) = rest.split_first_chunk::<8>()?;
    let stable = <[u8; 8]>::try_from(stable).ok()?;
    let decode = |bytes| i64::from_le_bytes(bytes) ^ LSN_MASK;
    let is_whole = !crc32fast::hash(rest) == u32::from_le_bytes(*checksum);
    is_whole.then(|| (decode(*lsn), decode(stable)))
}

/// The number in the first message of a segment whose header is damaged.
fn first_number(bytes: &[u8], segment_bytes: usize) -> Option<u64> {
    let mut search = Search::new(segment_bytes, None);
    let at = search.next(bytes, 0)?;
    let header = Header::parse(bytes.get(at..)?)?;
    Some(header.segment_number)
}

/// Hands the messages of a segment to `visit`, and `None` where there is none although there was
/// room for one.
fn walk_segment<'a>(
    bytes: &'a [u8],
    number: u64,
    segment_bytes: usize,
    mut visit: impl FnMut(usize, Option<RawMessage<'a>>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut search = Search::new(segment_bytes, Some(number));
    let mut at = SEGMENT_HEADER_BYTES;
    while at + HEADER_BYTES_MAX <= segment_bytes {
        let rest = bytes.get(at..).unwrap_or_default();
        let header = Header::parse(rest).filter(|header| header.segment_number == number);
        let message = header.and_then(|header| Some((header, RawMessage::read(rest, &header)?)));
        if let Some((header, message)) = message {
            visit(at, Some(message))?;
            if header.is_cap() {
                break;
            }
            at += header.bytes();
            continue;
        }
        // With that much left sled goes on in the next segment, whether or not it said so by a cap.
        if at + HEADER_BYTES_MAX < segment_bytes {
            visit(at, None)?;
        }
        // If only its body is damaged it says where the next one is.
        let following = header.map(|header| at + header.bytes());
        let following = following.filter(|at| search.is_message(bytes, *at));
        match following.or_else(|| search.next(bytes, at + 1)) {
            Some(next) => at = next,
            None => break,
        }
    }
    ControlFlow::Continue(())
}

/// Looks for messages in a segment, with a limit to what that may cost.
struct Search {
    number: Option<u64>,
    message_bytes_max: usize,
    left: usize,
}

impl Search {
    fn new(segment_bytes: usize, number: Option<u64>) -> Self {
        Self {
            number,
            message_bytes_max: segment_bytes / 4,
            left: segment_bytes.saturating_mul(SEARCH_MAX),
        }
    }

    /// Where the first message at or behind `from` begins.
    fn next(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(&ZEROS) {
                // Behind the checksum of a message stands its kind, which is not 0.
                at += ZEROS.len() - CHECKSUM_BYTES;
                continue;
            }
            if self.is_message(bytes, at) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    fn is_message(&mut self, bytes: &[u8], at: usize) -> bool {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(header) = Header::parse(rest) else {
            return false;
        };
        let is_other = self.number.is_some_and(|n| n != header.segment_number);
        let is_large = header.bytes() > self.message_bytes_max && !header.is_cap();
        if is_other || is_large || header.bytes() > self.left {
            return false;
        }
        self.left -= header.bytes();
        RawMessage::read(rest, &header).is_some()
    }
}
