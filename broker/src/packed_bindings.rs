//! Deliveries of QoS 2 of one session in few bytes: most lie near the one before them, in the log and in
//! packet identifiers. With a full window the list is written again and again, so that each byte counts.
//!
//! ```text
//! flags u8 | packet id? | commit | log, partition? | offset          for each delivery
//!
//! flags   bit 0     the client has said that it has the message
//!         bit 1     it is in a log: commit and what follows are there
//!         bits 2-4  packet id - (the one before + 1), 7: packet id is there
//!         bits 5-7  which of the partitions that have come in the list, 7: log and partition are there
//! commit            difference to the one before
//! offset            difference to the one before of the same partition
//! ```
//!
//! Numbers are LEB128, differences with their sign in the lowest bit. A list begins behind packet
//! identifier, commit and offsets 0. The first seven partitions are remembered.
//!
//! Invariant: as many deliveries as bytes at most, whatever the bytes are.

use storage::{CommitNumber, LogId, LogPartition, Offset, PartitionId};

use crate::place::Place;

const IS_RELEASED: u8 = 1;
const HAS_PLACE: u8 = 1 << 1;
const ID_SHIFT: u8 = 2;
const PARTITION_SHIFT: u8 = 5;
/// Stands for what is not said in the flags; also the number of partitions that are remembered.
const EXPLICIT: u8 = 7;

/// A delivery: packet identifier, whether the client has said that it has the message, the place, if it
/// is in a log.
pub(crate) type Binding = (u16, bool, Option<Place>);

/// What the next delivery is compared with.
#[derive(Default)]
struct Before {
    packet_id: u16,
    commit: u64,
    /// The newest offset of each partition that has come.
    offsets: Vec<(LogPartition, u64)>,
}

impl Before {
    fn index(&self, partition: LogPartition) -> Option<u8> {
        let mut known = self.offsets.iter();
        let index = known.position(|(other, _)| *other == partition)?;
        u8::try_from(index).ok()
    }

    fn remember(&mut self, partition: LogPartition, index: Option<u8>, offset: u64) {
        let is_full = self.offsets.len() >= usize::from(EXPLICIT);
        let known = index.and_then(|index| self.offsets.get_mut(usize::from(index)));
        match known {
            Some((_, newest)) => *newest = offset,
            None if is_full => {}
            None => self.offsets.push((partition, offset)),
        }
    }
}

/// The bytes of a list.
pub(crate) fn pack(bindings: impl Iterator<Item = Binding>) -> Vec<u8> {
    let (mut bytes, mut before) = (Vec::new(), Before::default());
    for (packet_id, is_released, place) in bindings {
        let step = packet_id.wrapping_sub(before.packet_id).wrapping_sub(1);
        let step = u8::try_from(step).ok().filter(|step| *step < EXPLICIT);
        before.packet_id = packet_id;
        let index = place.and_then(|place| before.index(place.partition));
        let mut flags = step.unwrap_or(EXPLICIT) << ID_SHIFT;
        flags |= if is_released { IS_RELEASED } else { 0 };
        if place.is_some() {
            flags |= HAS_PLACE | index.unwrap_or(EXPLICIT) << PARTITION_SHIFT;
        }
        bytes.push(flags);
        if step.is_none() {
            push(&mut bytes, packet_id.into());
        }
        let Some(place) = place else { continue };
        push(&mut bytes, difference(before.commit, place.commit.0));
        before.commit = place.commit.0;
        let LogPartition { log, partition } = place.partition;
        if index.is_none() {
            push(&mut bytes, log.0.into());
            push(&mut bytes, partition.0.into());
        }
        let newest = index.and_then(|index| before.offsets.get(usize::from(index)));
        let newest = newest.map_or(0, |(_, offset)| *offset);
        push(&mut bytes, difference(newest, place.offset.0));
        before.remember(place.partition, index, place.offset.0);
    }
    bytes
}

/// The list; `None` if it is none.
pub(crate) fn unpack(mut bytes: &[u8]) -> Option<Vec<Binding>> {
    let (mut bindings, mut before) = (Vec::new(), Before::default());
    while let Some((flags, rest)) = bytes.split_first() {
        bytes = rest;
        let packet_id = match flags >> ID_SHIFT & EXPLICIT {
            EXPLICIT => u16::try_from(pull(&mut bytes)?).ok()?,
            step => before.packet_id.wrapping_add(1 + u16::from(step)),
        };
        before.packet_id = packet_id;
        let place = match flags & HAS_PLACE {
            0 => None,
            _ => Some(unpack_place(
                &mut bytes,
                flags >> PARTITION_SHIFT,
                &mut before,
            )?),
        };
        bindings.push((packet_id, flags & IS_RELEASED != 0, place));
    }
    Some(bindings)
}

fn unpack_place(bytes: &mut &[u8], index: u8, before: &mut Before) -> Option<Place> {
    let commit = apart(before.commit, pull(bytes)?);
    before.commit = commit;
    let index = (index < EXPLICIT).then_some(index);
    let (partition, newest) = match index {
        Some(index) => *before.offsets.get(usize::from(index))?,
        None => {
            let log = LogId(u16::try_from(pull(bytes)?).ok()?);
            let partition = PartitionId(u16::try_from(pull(bytes)?).ok()?);
            (LogPartition { log, partition }, 0)
        }
    };
    let offset = apart(newest, pull(bytes)?);
    before.remember(partition, index, offset);
    Some(Place {
        commit: CommitNumber(commit),
        partition,
        offset: Offset(offset),
    })
}

/// How far it is from one number to another, small for both directions.
const fn difference(from: u64, to: u64) -> u64 {
    let step = to.wrapping_sub(from).cast_signed();
    (step << 1 ^ step >> 63).cast_unsigned()
}

/// The number that is so far from another.
const fn apart(from: u64, difference: u64) -> u64 {
    let step = (difference >> 1) ^ (difference & 1).wrapping_neg();
    from.wrapping_add(step)
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while let low = number.to_le_bytes()[0] & 0x7f
        && number >= 0x80
    {
        bytes.push(low | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place((commit, log, partition, offset): (u64, u16, u16, u64)) -> Place {
        Place {
            commit: CommitNumber(commit),
            partition: LogPartition {
                log: LogId(log),
                partition: PartitionId(partition),
            },
            offset: Offset(offset),
        }
    }

    /// It stands in the files of every gateway.
    #[test]
    fn stored_form_does_not_change() {
        let bindings = [
            (7, true, None),
            (9, false, Some(place((300, 2, 3, 40)))),
            (8, false, Some(place((301, 2, 3, 39)))),
            (9, true, Some(place((301, 2, 4, 39)))),
            (10, false, Some(place((301, 2, 3, 104)))),
        ];
        let bytes = pack(bindings.into_iter());
        let expected = [
            &[0b0001_1001][..],
            &[0b1110_0110, 0xd8, 0x04, 2, 3, 80],
            &[0b0001_1110, 8, 2, 1],
            &[0b1110_0011, 0, 2, 4, 78],
            &[0b0000_0010, 0, 0x82, 0x01],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(unpack(&bytes).unwrap(), bindings);
    }

    /// A window of a session that takes every hundredth message of a log with four partitions, and
    /// every other of these with QoS 2.
    #[test]
    fn delivery_takes_five_bytes_where_it_took_twelve() {
        let bindings = (0..64_u64).map(|n| {
            let partition = u16::try_from(n * 7 % 4).unwrap();
            let offset = 250_000 + n * 25;
            let place = place((1_000_000 + n * 2, 1, partition, offset));
            (u16::try_from(30_000 + 2 * n).unwrap(), n < 20, Some(place))
        });
        let bytes = pack(bindings).len();
        assert!(bytes <= 64 * 5 + 20, "{bytes} bytes");
    }

    #[test]
    fn list_that_is_cut_off_or_names_what_did_not_come_is_none() {
        let bytes = pack([(1, false, Some(place((5, 1, 0, 9))))].into_iter());
        for end in 1..bytes.len() {
            assert_eq!(unpack(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(unpack(&[HAS_PLACE, 1, 1]), None, "no partition has come");
        let no_id = [EXPLICIT << ID_SHIFT, 0xff, 0xff, 0x7f];
        assert_eq!(unpack(&no_id), None, "no packet identifier");
        assert_eq!(
            unpack(&[&no_id[..1], &[0xff; 10]].concat()),
            None,
            "no number"
        );
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            near in any::<bool>(),
            bindings in proptest::collection::vec(
                (any::<u16>(), any::<bool>(), proptest::option::of(any::<(u64, u16, u16, u64)>())),
                0..40,
            ),
        ) {
            let bindings = bindings.into_iter().map(|(packet_id, is_released, at)| match near {
                true => {
                    let at = at.map(|(c, l, p, o)| place((c % 9, l % 3, p % 4, o % 300)));
                    (packet_id % 20, is_released, at)
                }
                false => (packet_id, is_released, at.map(place)),
            });
            let bindings: Vec<_> = bindings.collect();
            let bytes = pack(bindings.iter().copied());
            prop_assert_eq!(unpack(&bytes), Some(bindings));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(bindings) = unpack(&bytes) {
                prop_assert!(bindings.len() <= bytes.len());
            }
        }
    }
}
