//! Variable-length integers as Kafka records use them: zigzag, then seven bits a byte, least
//! significant first (the encoding of Protocol Buffers' `sint32` and `sint64`).
//!
//! Reading is strict: only the shortest encoding of a number is accepted, so that equal records
//! have equal bytes.

/// Longest encoding of a 64-bit number.
const VARLONG_BYTES_MAX: usize = 10;

/// How a read failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VarintError {
    /// The input ends inside the number.
    Truncated,
    /// Longer than needed, or too large for the type.
    Overlong,
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

/// Bytes that [`write`] produces for `value`. A 32-bit number has the same encoding whether it is
/// written as one or as 64 bits.
pub(crate) const fn len(value: i64) -> usize {
    // One byte for each started group of seven bits; zero takes one as well.
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value` to `out`.
pub(crate) fn write(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    out.push(raw.to_le_bytes()[0]);
}

/// Reads a 64-bit number from the start of `input`; returns it and its length.
pub(crate) fn read_i64(input: &[u8]) -> Result<(i64, usize), VarintError> {
    let mut raw = 0_u64;
    for (index, &byte) in input.iter().take(VARLONG_BYTES_MAX).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // A zero last byte adds nothing, and the tenth byte has room for one bit only.
            let padded = index > 0 && byte == 0;
            let overflows = index == VARLONG_BYTES_MAX - 1 && byte > 1;
            if padded || overflows {
                return Err(VarintError::Overlong);
            }
            return Ok((unzigzag(raw), index + 1));
        }
    }
    if input.len() < VARLONG_BYTES_MAX {
        Err(VarintError::Truncated)
    } else {
        Err(VarintError::Overlong)
    }
}

/// Reads a 32-bit number from the start of `input`; returns it and its length.
pub(crate) fn read_i32(input: &[u8]) -> Result<(i32, usize), VarintError> {
    let (value, len) = read_i64(input)?;
    let value = i32::try_from(value).map_err(|_| VarintError::Overlong)?;
    Ok((value, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn known_encodings_are_written() {
        // The table in the Protocol Buffers encoding guide, and the two ends of the range.
        assert_eq!(written(0), [0]);
        assert_eq!(written(-1), [1]);
        assert_eq!(written(1), [2]);
        assert_eq!(written(0x7fff_ffff), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(written(-0x8000_0000), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(
            written(i64::MAX),
            [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
        assert_eq!(
            written(i64::MIN),
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
    }

    #[test]
    fn number_is_refused_when_longer_than_needed_or_cut() {
        assert_eq!(read_i64(&[0x80, 0x00]), Err(VarintError::Overlong));
        assert_eq!(read_i64(&[0x82, 0x80, 0x00]), Err(VarintError::Overlong));
        assert_eq!(read_i64(&[0xff; 10]), Err(VarintError::Overlong));
        let mut tenth_too_large = [0xff; 10];
        tenth_too_large[9] = 2;
        assert_eq!(read_i64(&tenth_too_large), Err(VarintError::Overlong));
        assert_eq!(read_i64(&[]), Err(VarintError::Truncated));
        assert_eq!(read_i64(&[0x80]), Err(VarintError::Truncated));
        // 2^31 fits 64 bits but not 32.
        assert_eq!(
            read_i32(&[0x80, 0x80, 0x80, 0x80, 0x10]),
            Err(VarintError::Overlong)
        );
    }

    proptest! {
        #[test]
        fn number_comes_back_and_len_is_exact(value: i64) {
            let bytes = written(value);
            prop_assert_eq!(bytes.len(), len(value));
            prop_assert_eq!(read_i64(&bytes), Ok((value, bytes.len())));
        }

        #[test]
        fn what_reads_is_the_shortest_form(input in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok((value, len)) = read_i64(&input) {
                prop_assert_eq!(&input[..len], &written(value)[..]);
            }
        }
    }
}
