//! The topics of a segment, run by run: commits that begin in one chunk.
//!
//! Runs are of commits, not of chunks, so that they are right whatever a segment looks like inside:
//! that they follow its chunks only saves reading.
//!
//! Invariant: what is kept is bounded: where it would be too much, neighbours become one run.

use super::TopicSet;
use crate::ids::CommitNumber;

/// Numbers in all runs of a segment above which neighbours are put together: 256 KiB.
const NUMBERS_MAX: usize = 64 * 1024;

/// Neighbouring commits and their topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: CommitNumber,
    pub(crate) last: CommitNumber,
    /// Settled.
    pub(crate) topics: TopicSet,
}

/// Collects the runs of a segment that is written.
#[derive(Debug, Default)]
pub(crate) struct RunsBuilder {
    runs: Vec<Run>,
    /// Where the last commit begins.
    chunk: usize,
    numbers: usize,
}

impl RunsBuilder {
    /// Adds a commit with these settled `topics` that begins in the chunk of this number.
    pub(crate) fn add(&mut self, commit: CommitNumber, chunk: usize, topics: &TopicSet) {
        let is_new = chunk != self.chunk;
        self.chunk = chunk;
        match self.runs.last_mut().filter(|_| !is_new) {
            Some(run) => {
                let before = run.topics.numbers.len();
                run.last = commit;
                run.topics.extend(topics);
                run.topics = std::mem::take(&mut run.topics).settled();
                self.numbers += run.topics.numbers.len() - before;
            }
            None => {
                self.numbers += topics.numbers.len();
                self.runs.push(Run {
                    first: commit,
                    last: commit,
                    topics: topics.clone(),
                });
            }
        }
        while self.numbers > NUMBERS_MAX && self.runs.len() > 1 {
            self.runs = coarser(&self.runs);
            self.numbers = self.runs.iter().map(|run| run.topics.numbers.len()).sum();
        }
    }

    pub(crate) fn into_runs(self) -> Vec<Run> {
        self.runs
    }
}

/// The same runs, each with its neighbour.
pub(super) fn coarser(runs: &[Run]) -> Vec<Run> {
    let merged = runs.chunks(2).filter_map(|pair| {
        let (first, others) = pair.split_first()?;
        let mut run = first.clone();
        for other in others {
            run.last = other.last;
            run.topics.extend(&other.topics);
        }
        run.topics = run.topics.settled();
        Some(run)
    });
    merged.collect()
}

/// All topics of these.
pub(super) fn union(runs: &[Run]) -> TopicSet {
    let mut topics = TopicSet::default();
    for run in runs {
        topics.extend(&run.topics);
    }
    topics.settled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::TopicNumber;

    fn set(numbers: &[u32]) -> TopicSet {
        TopicSet {
            any: false,
            numbers: numbers.iter().copied().map(TopicNumber).collect(),
        }
    }

    #[test]
    fn commits_that_begin_in_one_chunk_are_one_run() {
        let mut builder = RunsBuilder::default();
        for (commit, chunk, topics) in [
            (5, 1, set(&[3])),
            (6, 1, set(&[1, 3])),
            (7, 2, set(&[2])),
            (9, 2, TopicSet::any()),
            (10, 4, set(&[])),
        ] {
            builder.add(CommitNumber(commit), chunk, &topics);
        }
        let run = |first, last, topics| Run {
            first: CommitNumber(first),
            last: CommitNumber(last),
            topics,
        };
        let second = TopicSet {
            any: true,
            ..set(&[2])
        };
        let runs = builder.into_runs();
        let expected = [
            run(5, 6, set(&[1, 3])),
            run(7, 9, second.clone()),
            run(10, 10, set(&[])),
        ];
        assert_eq!(runs, expected);
        let coarse = TopicSet {
            any: true,
            ..set(&[1, 2, 3])
        };
        assert_eq!(
            coarser(&runs),
            [run(5, 9, coarse.clone()), run(10, 10, set(&[]))]
        );
        assert_eq!(union(&runs), coarse);
    }

    #[test]
    fn many_topics_make_runs_coarser_and_none_is_left_out() {
        let mut builder = RunsBuilder::default();
        let numbers = |commit: u64| {
            let first = u32::try_from(commit).unwrap() * 700;
            set(&(first..first + 1000).collect::<Vec<_>>())
        };
        for commit in 1..=150 {
            builder.add(
                CommitNumber(commit),
                usize::try_from(commit).unwrap(),
                &numbers(commit),
            );
            assert!(builder.numbers <= NUMBERS_MAX || builder.runs.len() == 1);
        }
        let runs = builder.into_runs();
        assert_eq!(runs.first().unwrap().first, CommitNumber(1));
        assert_eq!(runs.last().unwrap().last, CommitNumber(150));
        for commit in 1..=150 {
            let number = CommitNumber(commit);
            let run = runs
                .iter()
                .find(|run| (run.first..=run.last).contains(&number))
                .unwrap();
            let has = |topic| run.topics.numbers.binary_search(topic).is_ok();
            assert!(numbers(commit).numbers.iter().all(has), "commit {commit}");
        }
    }
}
