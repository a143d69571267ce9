//! Random damage: any file of the folder, any place. `PROPTEST_CASES` sets how many cases there are
//! (default 24); a failing case prints what was done, and the seed to do it again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::Config;
use support::template::{Copy, template};

/// What is done to a file. Places are in millionths of its length.
#[derive(Clone, Debug)]
enum Random {
    Bits { places: Vec<(u64, u8)> },
    Zeros { from: u64, bytes: usize },
    Noise { from: u64, bytes: usize, seed: u8 },
    Cut { at: u64 },
}

fn damage() -> impl Strategy<Value = Random> {
    let place = || 0..1_000_000_u64;
    prop_oneof![
        3 => prop::collection::vec((place(), 0..8_u8), 1..4).prop_map(|places| Random::Bits { places }),
        2 => (place(), 1..20_000_usize).prop_map(|(from, bytes)| Random::Zeros { from, bytes }),
        2 => (place(), 1..20_000_usize, any::<u8>())
            .prop_map(|(from, bytes, seed)| Random::Noise { from, bytes, seed }),
        1 => place().prop_map(|at| Random::Cut { at }),
    ]
}

impl Random {
    fn apply(&self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let length = bytes.len() as u64;
        let at = |place: u64| usize::try_from(length * place / 1_000_000).unwrap();
        match self {
            Self::Bits { places } => {
                for (place, bit) in places {
                    if let Some(byte) = bytes.get_mut(at(*place)) {
                        *byte ^= 1 << bit;
                    }
                }
            }
            Self::Zeros { from, bytes: count } => {
                for byte in bytes.iter_mut().skip(at(*from)).take(*count) {
                    *byte = 0;
                }
            }
            Self::Noise {
                from,
                bytes: count,
                seed,
            } => {
                let mut state = u32::from(*seed) + 1;
                for byte in bytes.iter_mut().skip(at(*from)).take(*count) {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = state.to_be_bytes()[0];
                }
            }
            Self::Cut { at: place } => bytes.truncate(at(*place)),
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Files of the folder but FORMAT, which is not guessed; largest parts of the folder come most often.
fn files(copy: &Copy) -> Vec<PathBuf> {
    let mut files = vec![copy.path().join("MARK"), copy.path().join("LOCK")];
    let segments = (0..template().segments.len()).map(|number| copy.segment(number));
    for database in segments.chain([copy.metadata()]) {
        for entry in fs::read_dir(&database).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.push(database.join("db"));
        files.push(database.join("db"));
    }
    files.sort();
    files
}

fn config() -> Config {
    Config {
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(24),
        failure_persistence: None,
        max_shrink_iters: 10,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_damage_never_shows_wrong_data_and_never_loses_silently(
        which in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        damage in damage(),
    ) {
        let copy = template().copy();
        let files = files(&copy);
        let mut damaged = Vec::new();
        let mut hits_state = 0;
        for index in which {
            let file = index.get(&files);
            damage.apply(file);
            let folder = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let segment = template().segments.iter().position(|segment| segment.name == folder);
            damaged.extend(segment);
            hits_state += u32::from(folder == "meta" || segment.is_some());
        }
        copy.check(&damaged, hits_state > 1);
    }
}
