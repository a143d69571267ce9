//! A short fuzz loop for every run of the tests: valid packets, damaged in the ways that damage
//! happens. The long form is in the fuzz workspace.

use bytes::BytesMut;
use mqtt::codec::{Limits, decode};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::raw::{VERSIONS, encoded, try_decode};
use crate::strategies::packet;

const ROUNDS: usize = 3_000;

/// A small generator of our own, so that a failing round is the same everywhere.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Xorshift) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0x00, 0x01, 0x7f, 0x80, 0xff][random.below(5)],
        2 => bytes.truncate(at.max(1)),
        3 => bytes.insert(at, random.byte()),
        4 => {
            bytes.remove(at);
            bytes.push(0);
        }
        _ => {
            let tail = bytes[at..].to_vec();
            bytes.extend(tail);
        }
    }
}

#[test]
fn damaged_packets_are_decoded_or_refused_within_the_limits() {
    let limits = Limits {
        packet_bytes_max: 1_000,
        ..Limits::default()
    };
    let mut runner = TestRunner::deterministic();
    let mut random = Xorshift(0x7469_6465_6761_7465);
    let (mut decoded, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let version = VERSIONS[round % 2];
        let valid = packet(version).new_tree(&mut runner).unwrap().current();
        let mut bytes = encoded(version, &valid);
        for _ in 0..=random.below(3) {
            mutate(&mut bytes, &mut random);
        }
        let mut src = BytesMut::from(&bytes[..]);
        while let Some(result) = decode(&mut src, Some(version), &limits).transpose() {
            match result {
                Ok(packet) => {
                    decoded += 1;
                    let again = encoded(version, &packet);
                    assert!(again.len() <= 1_000, "{bytes:02x?}");
                    assert_eq!(try_decode(version, &again), Ok(packet), "{bytes:02x?}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.reason_code().is_error(), "{bytes:02x?}");
                    break;
                }
            }
        }
    }
    // The loop is worth its time only while it finds both.
    assert!(
        decoded > ROUNDS / 10 && refused > ROUNDS / 10,
        "{decoded} decoded, {refused} refused"
    );
}
