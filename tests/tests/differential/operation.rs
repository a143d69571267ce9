//! What is asked, and the generator that mixes what a well-behaved producer does with everything
//! that it must not do.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use record_batch::{Batch, BatchBuilder, BatchHeader, RecordFields};

/// One request to both sides.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    DescribeProducers,
    EpochEnd { current: Option<i32>, epoch: i32 },
    FetchAt { offset: i64, bytes_max: i32 },
    Offset { at: i64 },
    Produce(Produce),
}

/// A batch as a producer means it, and what is done to its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Produce {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) count: i32,
    pub(crate) timestamp_ms: i64,
    pub(crate) twist: Twist,
}

/// Damage, by a producer or on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Twist {
    None,
    BaseOffset,
    ControlBit,
    CountBelow,
    CountAbove,
    CrcWrong,
    DamagedRecord,
    LastOffsetDeltaNegative,
    LogAppendTimeBit,
    Magic(u8),
    MaxTimestampWrong,
    Nothing,
    TooLarge,
    TrailingBytes,
    Transactional,
    Truncated,
    TwoBatches,
}

const TWISTS: [Twist; 17] = [
    Twist::BaseOffset,
    Twist::ControlBit,
    Twist::CountBelow,
    Twist::CountAbove,
    Twist::CrcWrong,
    Twist::DamagedRecord,
    Twist::LastOffsetDeltaNegative,
    Twist::LogAppendTimeBit,
    Twist::Magic(1),
    Twist::Magic(3),
    Twist::MaxTimestampWrong,
    Twist::Nothing,
    Twist::TooLarge,
    Twist::TrailingBytes,
    Twist::Transactional,
    Twist::Truncated,
    Twist::TwoBatches,
];

impl Produce {
    pub(crate) fn bytes(&self) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        if self.producer_id >= 0 {
            builder.set_producer(self.producer_id, self.epoch, self.sequence);
        }
        for index in 0..self.count {
            let value = match self.twist {
                Twist::TooLarge => vec![7; 1_100_000],
                _ => format!("{}/{}/{index}", self.producer_id, self.sequence).into_bytes(),
            };
            let record = RecordFields {
                timestamp_ms: self.timestamp_ms + i64::from(index),
                key: (index % 2 == 0).then_some(b"key".as_slice()),
                value: Some(&value),
                headers: &[(b"h", Some(b"1")), (b"h", None)],
            };
            builder.append(&record).unwrap();
        }
        twisted(builder.finish(), self.twist)
    }
}

fn twisted(built: Bytes, twist: Twist) -> Bytes {
    let (batch, _) = Batch::parse(built.clone()).unwrap();
    let header = batch.header().clone();
    let mut raw = built.to_vec();
    let with = |header: BatchHeader| batch.with_header(&header).unwrap().as_bytes().clone();
    match twist {
        Twist::None | Twist::TooLarge => return built,
        Twist::BaseOffset => {
            return with(BatchHeader {
                base_offset: 5,
                ..header
            });
        }
        Twist::ControlBit => {
            return with(BatchHeader {
                attributes: 0x20,
                ..header
            });
        }
        Twist::LogAppendTimeBit => {
            return with(BatchHeader {
                attributes: 0x08,
                ..header
            });
        }
        Twist::Transactional => {
            return with(BatchHeader {
                attributes: 0x10,
                ..header
            });
        }
        Twist::MaxTimestampWrong => {
            let max_timestamp_ms = header.max_timestamp_ms + 5000;
            return with(BatchHeader {
                max_timestamp_ms,
                ..header
            });
        }
        Twist::CountBelow => raw[60] = raw[60].wrapping_sub(1),
        Twist::CountAbove => raw[60] += 1,
        Twist::CrcWrong => raw[20] ^= 1,
        // The length of the first record.
        Twist::DamagedRecord => raw[61] ^= 0x40,
        Twist::LastOffsetDeltaNegative => raw[23] = 0xff,
        Twist::Magic(magic) => raw[16] = magic,
        Twist::Nothing => return Bytes::new(),
        Twist::TrailingBytes => raw.extend_from_slice(&[0; 11]),
        Twist::Truncated => raw.truncate(raw.len() - 1),
        Twist::TwoBatches => raw.extend_from_slice(&built),
    }
    let crc_is_meant = matches!(
        twist,
        Twist::CountBelow
            | Twist::CountAbove
            | Twist::DamagedRecord
            | Twist::LastOffsetDeltaNegative
    );
    if crc_is_meant {
        let crc = record_batch::checksum(&raw).unwrap();
        raw[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    Bytes::from(raw)
}

/// A producer as it would like to be.
#[derive(Debug)]
struct Producer {
    id: i64,
    epoch: i16,
    next_sequence: i32,
    /// What was appended, newest last.
    sent: Vec<Produce>,
}

/// Makes up operations from what has been appended so far.
#[derive(Debug)]
pub(crate) struct Plan {
    producers: Vec<Producer>,
    now_ms: i64,
    log_end: i64,
}

impl Plan {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self {
            producers: Vec::new(),
            now_ms,
            log_end: 0,
        }
    }

    pub(crate) fn next(&mut self, random: &mut StdRng) -> Operation {
        match random.random_range(0..100) {
            0..8 => Operation::DescribeProducers,
            8..12 => Operation::EpochEnd {
                current: [None, Some(0), Some(1), Some(7)][random.random_range(0..4)],
                epoch: random.random_range(-1..3),
            },
            12..18 => Operation::FetchAt {
                offset: random.random_range(-1..self.log_end + 3),
                bytes_max: [1, 500, 1_000_000][random.random_range(0..3)],
            },
            18..26 => Operation::Offset {
                at: self.offset_at(random),
            },
            _ => Operation::Produce(self.produce(random)),
        }
    }

    /// Latest, earliest, kinds that no version knows, or a time.
    fn offset_at(&self, random: &mut StdRng) -> i64 {
        match random.random_range(0..6) {
            0 => -1,
            1 => -2,
            2 => -9,
            3 => 0,
            _ => self.now_ms + random.random_range(-200_000..200_000),
        }
    }

    fn timestamp(&self, random: &mut StdRng) -> i64 {
        const HOUR_MS: i64 = 3_600_000;
        match random.random_range(0..20) {
            0 => 0,
            1 => -1,
            2 => self.now_ms - 48 * HOUR_MS,
            3 => self.now_ms + HOUR_MS / 2,
            4 => self.now_ms + 48 * HOUR_MS,
            _ => self.now_ms + random.random_range(-100_000..0),
        }
    }

    fn produce(&mut self, random: &mut StdRng) -> Produce {
        let fresh = self.producers.is_empty()
            || (self.producers.len() < 40 && random.random_range(0..20) == 0);
        if fresh {
            self.producers.push(Producer {
                id: 1_000_000 + self.producers.len() as i64,
                epoch: random.random_range(-1..3),
                next_sequence: [0, 0, 12_345, i32::MAX - 20][random.random_range(0..4)],
                sent: Vec::new(),
            });
        }
        let recent = self.producers.len().min(4);
        let producer = &self.producers[self.producers.len() - 1 - random.random_range(0..recent)];
        let mut produce = Produce {
            producer_id: producer.id,
            epoch: producer.epoch,
            sequence: producer.next_sequence,
            count: random.random_range(1..6),
            timestamp_ms: self.timestamp(random),
            twist: Twist::None,
        };
        match random.random_range(0..100) {
            0..40 => {}
            // One of the last eight again, of which five are remembered.
            40..60 => {
                if let Some(earlier) = pick_recent(&producer.sent, 8, random) {
                    produce = earlier.clone();
                }
            }
            // The same beginning with other bounds.
            60..64 => {
                if let Some(earlier) = pick_recent(&producer.sent, 5, random) {
                    produce = Produce {
                        count: earlier.count + 1,
                        ..earlier.clone()
                    };
                }
            }
            64..68 => produce.sequence = produce.sequence.wrapping_add(1).max(0),
            68..72 => produce.epoch -= 1,
            72..75 => produce.epoch += 1,
            75..79 => (produce.epoch, produce.sequence) = (produce.epoch + 1, 0),
            79..82 => produce.sequence = -1,
            82..85 => produce.producer_id = -1,
            _ => produce.twist = TWISTS[random.random_range(0..TWISTS.len())],
        }
        if produce.twist == Twist::TooLarge {
            produce.count = 1;
        }
        produce
    }

    /// Notes what the broker has appended, by its answer; a duplicate is not appended.
    pub(crate) fn learn(&mut self, produce: &Produce, answer: &str) {
        if !answer.starts_with(&format!("appended at {},", self.log_end)) {
            return;
        }
        self.log_end += i64::from(produce.count);
        let Some(producer) = self
            .producers
            .iter_mut()
            .find(|p| p.id == produce.producer_id)
        else {
            return;
        };
        let last = i64::from(produce.sequence) + i64::from(produce.count);
        producer.epoch = produce.epoch;
        producer.next_sequence = i32::try_from(last & i64::from(i32::MAX)).unwrap();
        producer.sent.push(produce.clone());
    }
}

fn pick_recent<'a>(
    sent: &'a [Produce],
    newest: usize,
    random: &mut impl Rng,
) -> Option<&'a Produce> {
    let recent = &sent[sent.len().saturating_sub(newest)..];
    (!recent.is_empty()).then(|| &recent[random.random_range(0..recent.len())])
}
