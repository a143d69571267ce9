//! The topics of a sealed segment as the metadata has them.
//!
//! ```text
//! of the segment   version 1, identity, any?, [difference to the number before]
//! of its runs      version 1, identity, [(difference to the last commit before, commits - 1, any?,
//!                  members)]
//! identity         last segment id, generation, first and last commit, bytes of the commits
//! members          0: [difference to the index before], or 1: a bit for each index, lowest first;
//!                  an index is a place among the numbers of the segment
//! ```
//!
//! All postcard. The identity is that of the segment's record: what is stored for another content,
//! such as that before an evacuation, is not taken for this one's.

use serde::{Deserialize, Serialize};

use super::runs::{coarser, union};
use super::{Run, TopicNumber, TopicSet};
use crate::encoding::Stored;
use crate::ids::{CommitNumber, SegmentId};
use crate::metadata::SegmentRecord;

/// Bytes of the runs of a segment above which neighbours become one run: half a thousandth of a
/// segment of 16 MiB, and 5 MiB for a log of 10 GiB, which are read once when it is opened.
const RUNS_BYTES_MAX: usize = 8 * 1024;

/// What tells one content of a segment's place in the index from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentIdentity {
    last: SegmentId,
    generation: u32,
    first_commit: CommitNumber,
    last_commit: CommitNumber,
    bytes: u64,
}

impl SegmentIdentity {
    pub(crate) fn of(id: SegmentId, record: &SegmentRecord) -> Self {
        let name = record.name(id);
        Self {
            last: name.last,
            generation: name.generation,
            first_commit: record.first_commit,
            last_commit: record.last_commit,
            bytes: record.bytes,
        }
    }
}

/// All topics of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicsOfSegment {
    pub(crate) identity: SegmentIdentity,
    any: bool,
    differences: Vec<u32>,
}

impl Stored for TopicsOfSegment {
    const VERSION: u8 = 1;
}

/// The topics of its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunsOfSegment {
    pub(crate) identity: SegmentIdentity,
    runs: Vec<StoredRun>,
}

impl Stored for RunsOfSegment {
    const VERSION: u8 = 1;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredRun {
    skipped: u64,
    more: u64,
    any: bool,
    members: Members,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Members {
    Differences(Vec<u32>),
    Bits(Vec<u8>),
}

impl TopicsOfSegment {
    /// What is stored of a segment with these runs: all topics, and the runs, as coarse as need be.
    pub(crate) fn of_runs(identity: SegmentIdentity, mut runs: Vec<Run>) -> (Self, RunsOfSegment) {
        let all = union(&runs);
        let topics = Self {
            identity,
            any: all.any,
            differences: differences(all.numbers.iter().map(|number| number.0)),
        };
        loop {
            let encoded = encode_runs(identity, &runs, &all);
            if runs.len() <= 1 || encoded.to_stored().len() <= RUNS_BYTES_MAX {
                return (topics, encoded);
            }
            runs = coarser(&runs);
        }
    }

    /// Its set; `None` if it is none.
    pub(crate) fn set(&self) -> Option<TopicSet> {
        let numbers: Option<Vec<_>> = ascending(&self.differences).collect();
        Some(TopicSet {
            any: self.any,
            numbers: numbers?.into_iter().map(TopicNumber).collect(),
        })
    }
}

fn encode_runs(identity: SegmentIdentity, runs: &[Run], all: &TopicSet) -> RunsOfSegment {
    let mut before = CommitNumber(0);
    let encoded = runs.iter().map(|run| {
        let skipped = run.first.0.saturating_sub(before.0);
        before = run.last;
        StoredRun {
            skipped,
            more: run.last.0.saturating_sub(run.first.0),
            any: run.topics.any,
            members: Members::of(&run.topics, all),
        }
    });
    RunsOfSegment {
        identity,
        runs: encoded.collect(),
    }
}

impl Members {
    fn of(topics: &TopicSet, all: &TopicSet) -> Self {
        let index = |number| all.numbers.binary_search(number).ok();
        let indexes: Vec<u32> = topics
            .numbers
            .iter()
            .filter_map(index)
            .filter_map(|index| u32::try_from(index).ok())
            .collect();
        // A difference takes a byte or more.
        if indexes.len() < all.numbers.len() / 8 {
            return Self::Differences(differences(indexes.into_iter()));
        }
        let mut bits = vec![0_u8; all.numbers.len().div_ceil(8)];
        for index in indexes {
            if let Some(byte) = bits.get_mut(index as usize / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        Self::Bits(bits)
    }

    /// Whether `is` holds for the index of one of them, or they are none.
    fn any(&self, mut is: impl FnMut(usize) -> bool) -> bool {
        match self {
            Self::Differences(differences) => {
                ascending(differences).any(|index| index.is_none_or(|index| is(index as usize)))
            }
            Self::Bits(bits) => bits.iter().enumerate().any(|(place, byte)| {
                let mut set = (0..8).filter(|bit| byte >> bit & 1 == 1);
                set.any(|bit| is(place * 8 + bit))
            }),
        }
    }
}

impl RunsOfSegment {
    /// The runs that may hold a wanted topic, neighbours put together, and how many runs that is and
    /// how many there are. `wanted`: for each of the segment's numbers. `None` if what is stored makes
    /// no sense.
    pub(crate) fn wanted(&self, wanted: &[bool]) -> Option<WantedRuns> {
        let mut found = WantedRuns::default();
        let mut before = CommitNumber(0);
        let mut was_wanted = false;
        for run in &self.runs {
            let first = CommitNumber(before.0.checked_add(run.skipped)?);
            let last = CommitNumber(first.0.checked_add(run.more)?);
            // What the numbers of the segment do not have is damage: then it is read.
            let is = |index: usize| wanted.get(index).copied().unwrap_or(true);
            let is_wanted = run.any || run.members.any(is);
            if is_wanted {
                found.wanted += 1;
                match found.commits.last_mut().filter(|_| was_wanted) {
                    Some((_, end)) => *end = last,
                    None => found.commits.push((first, last)),
                }
            }
            (before, was_wanted) = (last, is_wanted);
            found.runs += 1;
        }
        let is_whole = self.runs.first().map(|run| run.skipped)
            == Some(self.identity.first_commit.0)
            && before == self.identity.last_commit;
        is_whole.then_some(found)
    }

    /// The runs themselves; `None` if what is stored makes no sense.
    pub(crate) fn runs(&self, all: &TopicSet) -> Option<Vec<Run>> {
        let mut before = CommitNumber(0);
        let mut runs = Vec::new();
        for run in &self.runs {
            let first = CommitNumber(before.0.checked_add(run.skipped)?);
            let last = CommitNumber(first.0.checked_add(run.more)?);
            let mut topics = TopicSet {
                any: run.any,
                numbers: Vec::new(),
            };
            run.members.any(|index| {
                match all.numbers.get(index) {
                    Some(number) => topics.numbers.push(*number),
                    None => topics.any = true,
                }
                false
            });
            runs.push(Run {
                first,
                last,
                topics,
            });
            before = last;
        }
        Some(runs)
    }
}

/// What is to be read of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedRuns {
    /// First and last commit of each range, ascending.
    pub(crate) commits: Vec<(CommitNumber, CommitNumber)>,
    /// How many runs that is, of how many.
    pub(crate) wanted: u64,
    pub(crate) runs: u64,
}

fn differences(ascending: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut before = 0;
    ascending
        .map(|number| number.saturating_sub(std::mem::replace(&mut before, number)))
        .collect()
}

/// The numbers of which these are the differences; `None` where there can be none.
fn ascending(differences: &[u32]) -> impl Iterator<Item = Option<u32>> {
    let sums = differences.iter().scan(Some(0_u32), |sum, difference| {
        *sum = sum.and_then(|sum| sum.checked_add(*difference));
        Some(*sum)
    });
    sums.fuse()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(runs: &[Run]) -> SegmentIdentity {
        SegmentIdentity {
            last: SegmentId(1),
            generation: 0,
            first_commit: runs.first().map_or(CommitNumber(0), |run| run.first),
            last_commit: runs.last().map_or(CommitNumber(0), |run| run.last),
            bytes: 1000,
        }
    }

    fn runs_strategy() -> impl Strategy<Value = Vec<Run>> {
        let topics = proptest::collection::btree_set(1_u32..400, 0..60);
        let run = (1_u64..4, 0_u64..5, topics, prop::bool::weighted(0.05));
        proptest::collection::vec(run, 1..120).prop_map(|runs| {
            let mut before = 0;
            let run =
                |(skipped, more, numbers, any): (u64, u64, std::collections::BTreeSet<u32>, _)| {
                    let first = before + skipped;
                    before = first + more;
                    let numbers = numbers.into_iter().map(TopicNumber).collect();
                    Run {
                        first: CommitNumber(first),
                        last: CommitNumber(before),
                        topics: TopicSet { any, numbers },
                    }
                };
            runs.into_iter().map(run).collect()
        })
    }

    /// Of 16 MiB in chunks of 128 KiB; the limits are what was measured, and a little.
    #[test]
    fn topics_of_a_segment_take_a_thousandth_of_it() {
        for (of_a_run, of_all, topics_max, runs_max) in [
            (128, 1000, 1050, 4300),
            (690, 1000, 1050, 4300),
            (128, 60_000, 15_000, 7400),
        ] {
            let mut random = 1_u64;
            let mut number = || {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                TopicNumber(u32::try_from((random >> 33) % of_all).unwrap() + 1)
            };
            let run = |commit| Run {
                first: CommitNumber(commit),
                last: CommitNumber(commit),
                topics: TopicSet {
                    any: false,
                    numbers: (0..of_a_run).map(|_| number()).collect(),
                }
                .settled(),
            };
            let runs: Vec<Run> = (1..=128).map(run).collect();
            let (topics, stored) = TopicsOfSegment::of_runs(identity(&runs), runs);
            let bytes = (topics.to_stored().len(), stored.to_stored().len());
            println!(
                "{of_a_run} of {of_all}: {bytes:?}, {} runs",
                stored.runs.len()
            );
            assert!(bytes.0 <= topics_max && bytes.1 <= runs_max, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_run_with_a_wanted_topic_is_left_out(
            runs in runs_strategy(),
            wanted in proptest::collection::btree_set(1_u32..400, 0..4),
        ) {
            let (topics, stored) = TopicsOfSegment::of_runs(identity(&runs), runs.clone());
            let bytes = stored.to_stored();
            prop_assert!(bytes.len() <= RUNS_BYTES_MAX);
            let stored = RunsOfSegment::from_stored(&bytes).unwrap();
            let set = TopicsOfSegment::from_stored(&topics.to_stored()).unwrap().set().unwrap();
            let is_wanted = |number: &TopicNumber| wanted.contains(&number.0);
            let flags: Vec<bool> = set.numbers.iter().map(is_wanted).collect();
            let found = stored.wanted(&flags).unwrap();
            for run in &runs {
                let is = run.topics.any || run.topics.numbers.iter().any(is_wanted);
                prop_assert!(!is || set.any || set.numbers.iter().any(is_wanted));
                let inside = found.commits.iter()
                    .any(|(first, last)| *first <= run.first && run.last <= *last);
                prop_assert!(inside || !is, "{run:?} in {found:?}");
            }
            if found.runs == runs.len() as u64 {
                prop_assert_eq!(stored.runs(&set).unwrap(), runs);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let stored = [&[1], bytes.as_slice()].concat();
            if let Ok(topics) = TopicsOfSegment::from_stored(&stored) {
                let _ = topics.set();
            }
            if let Ok(runs) = RunsOfSegment::from_stored(&stored) {
                let _ = (runs.wanted(&[true, false]), runs.runs(&TopicSet::any()));
            }
        }
    }
}
