//! Topics and filters that overlap: fifty filters in ten groups of five, of which each matches a few
//! messages of a thousand.
//!
//! Topics are `t/<a>/<b>` with 250 values of `a`, and 4 of `b`, or rarely a `b` named after a group. A
//! group `k` has the filters `t/k/#`, `t/k/+`, `+/k/+`, `t/k/0` and `t/+/s<k>`.

use super::load::Planned;
use crate::chaos::seeded::Seeded;

const GROUPS: u64 = 10;
const SECONDS: u64 = 4;
const FIRSTS: u64 = 250;
/// One message of so many has a topic named after a group.
const SPECIAL_OF: u64 = 50;
/// How many filters there are.
pub(super) const FILTERS: usize = 50;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Topic {
    first: u64,
    second: Second,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    Plain(u64),
    Special(u64),
}

impl Topic {
    /// The topic of a message of a run.
    pub(super) fn of(seed: u64, number: u32) -> Self {
        let mut random = Seeded::new(seed ^ (u64::from(number) << 20));
        let first = random.below(FIRSTS);
        let second = match random.below(SPECIAL_OF) {
            0 => Second::Special(random.below(GROUPS)),
            _ => Second::Plain(random.below(SECONDS)),
        };
        Self { first, second }
    }

    pub(super) fn name(self) -> String {
        match self.second {
            Second::Plain(second) => format!("t/{}/{second}", self.first),
            Second::Special(group) => format!("t/{}/s{group}", self.first),
        }
    }

    /// Another number for each topic.
    pub(super) fn index(self) -> u32 {
        let second = match self.second {
            Second::Plain(second) => second,
            Second::Special(group) => SECONDS + group,
        };
        u32::try_from(self.first * (SECONDS + GROUPS) + second).unwrap_or(u32::MAX)
    }

    /// Whether a filter, by its number, matches it.
    pub(super) fn matches(self, filter: usize) -> bool {
        let (group, kind) = (filter as u64 / 5, filter % 5);
        match kind {
            0..=2 => self.first == group,
            3 => self.first == group && self.second == Second::Plain(0),
            _ => self.second == Second::Special(group),
        }
    }
}

/// A filter by its number.
pub(super) fn filter(number: usize) -> String {
    let (group, kind) = (number / 5, number % 5);
    match kind {
        0 => format!("t/{group}/#"),
        1 => format!("t/{group}/+"),
        2 => format!("+/{group}/+"),
        3 => format!("t/{group}/0"),
        _ => format!("t/+/s{group}"),
    }
}

/// A message of a run. All of a topic have the same publisher.
pub(super) fn message(seed: u64, number: u32, qos_max: u8) -> Planned {
    let topic = Topic::of(seed, number);
    Planned {
        topic: topic.name(),
        qos: 1 + u8::try_from(u64::from(number) % u64::from(qos_max)).unwrap_or(0),
        bytes: 200,
        publisher: usize::try_from(topic.first).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FILTERS, Topic, filter};

    /// As the standard says (4.7).
    fn matches(filter: &str, topic: &str) -> bool {
        let (filter, topic) = (filter.split('/'), topic.split('/'));
        let topic: Vec<_> = topic.collect();
        let filter: Vec<_> = filter.collect();
        let is_whole = filter.last() == Some(&"#") || filter.len() == topic.len();
        let mut levels = filter.iter().zip(&topic);
        is_whole && levels.all(|(level, name)| ["#", "+", name].contains(level))
    }

    #[test]
    fn filters_match_what_their_text_says_and_about_three_of_a_thousand() {
        let (mut count, mut names) = (0, BTreeMap::new());
        for number in 0..20_000 {
            let topic = Topic::of(1, number);
            let name = names.entry(topic.index()).or_insert_with(|| topic.name());
            assert_eq!(*name, topic.name());
            for index in 0..FILTERS {
                let is_match = matches(&filter(index), &topic.name());
                assert_eq!(topic.matches(index), is_match, "{topic:?} {index}");
                count += usize::from(is_match);
            }
        }
        let of_a_thousand = count as f64 / 20_000.0 / FILTERS as f64 * 1_000.0;
        assert!((2.0..4.0).contains(&of_a_thousand), "{of_a_thousand}");
    }
}
