//! Whether a session got what it must get.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

/// Compares what came with what must come: everything, nothing else, in order per topic; twice only what
/// may. Messages are numbered in the order in which those of a topic were published.
///
/// # Errors
/// What is wrong, with the first message of it.
pub(super) fn check(
    expected: &[u32],
    received: &[u32],
    topic_of: impl Fn(u32) -> u32,
    may_repeat: impl Fn(u32) -> bool,
) -> Result<u64> {
    let wanted: BTreeSet<u32> = expected.iter().copied().collect();
    let (mut seen, mut last, mut repeats) = (BTreeSet::new(), BTreeMap::new(), 0);
    for number in received {
        ensure!(
            wanted.contains(number),
            "message {number} is none of its own"
        );
        if !seen.insert(*number) {
            ensure!(may_repeat(*number), "message {number} came twice");
            repeats += 1;
            continue;
        }
        let before = last.insert(topic_of(*number), *number);
        ensure!(
            before.is_none_or(|before| before < *number),
            "message {number} came behind {before:?} of the same topic"
        );
    }
    let missing = wanted.difference(&seen);
    let (count, first) = (wanted.len() - seen.len(), missing.into_iter().next());
    ensure!(
        first.is_none(),
        "{count} of {} messages are missing, the first is {first:?}",
        expected.len()
    );
    Ok(repeats)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn told(received: &[u32], may_repeat: bool) -> String {
        let verdict = check(&[1, 2, 3, 4], received, |n| n % 2, |_| may_repeat);
        verdict.map_or_else(|error| error.to_string(), |n| n.to_string())
    }

    #[test]
    fn missing_foreign_repeated_and_disordered_messages_are_told() {
        assert_eq!(told(&[2, 1, 4, 3], false), "0");
        assert_eq!(told(&[1, 2, 1, 2, 3, 4], true), "2");
        assert_eq!(told(&[1, 2, 1, 3, 4], false), "message 1 came twice");
        assert_eq!(told(&[1, 9], false), "message 9 is none of its own");
        assert_eq!(
            told(&[3, 1, 2, 4], false),
            "message 1 came behind Some(3) of the same topic"
        );
        assert_eq!(
            told(&[1, 3], false),
            "2 of 4 messages are missing, the first is Some(2)"
        );
    }
}
