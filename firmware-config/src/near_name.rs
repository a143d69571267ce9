//! Finds the name that somebody meant who wrote another one.

/// Longer names are not compared: nobody means a key of this version by them, and comparing costs
/// the product of both lengths.
const LEN_MAX: usize = 64;

/// The candidate that `written` was most likely meant to be, if any is near enough: a third of
/// its characters may be wrong, at least one.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written: Vec<char> = written.to_lowercase().replace('-', "_").chars().collect();
    if written.len() > LEN_MAX {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| {
            let candidate_chars: Vec<char> = candidate.chars().collect();
            (distance(&written, &candidate_chars), candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to turn
/// one text into the other, none of them twice (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    // Rows of the usual table: each entry is the distance between two beginnings.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row_index, from_char) in from.iter().enumerate() {
        let mut row = vec![row_index + 1];
        for (column, to_char) in to.iter().enumerate() {
            let cell = |row: &[usize], column: usize| row.get(column).copied();
            let removed = cell(&last, column + 1).map(|n| n + 1);
            let inserted = cell(&row, column).map(|n| n + 1);
            let replaced = cell(&last, column).map(|n| n + usize::from(from_char != to_char));
            let is_swap = previous == Some(to_char)
                && column.checked_sub(1).and_then(|left| to.get(left)) == Some(from_char);
            let swapped = if is_swap {
                cell(&before_last, column - 1).map(|n| n + 1)
            } else {
                None
            };
            row.extend(
                [removed, inserted, replaced, swapped]
                    .into_iter()
                    .flatten()
                    .min(),
            );
        }
        before_last = std::mem::replace(&mut last, row);
        previous = Some(from_char);
    }
    last.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(from: &str, to: &str) -> usize {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        distance(&chars(from), &chars(to))
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(between("", ""), 0);
        assert_eq!(between("bind", ""), 4);
        assert_eq!(between("", "bind"), 4);
        assert_eq!(between("bind", "bind"), 0);
        assert_eq!(between("bnd", "bind"), 1);
        assert_eq!(between("bbind", "bind"), 1);
        assert_eq!(between("band", "bind"), 1);
        assert_eq!(between("bnid", "bind"), 1);
        assert_eq!(between("kitten", "sitting"), 3);
        assert_eq!(between("ca", "abc"), 3, "no character is edited twice");
    }

    #[test]
    fn nearest_is_nobody_when_all_are_far() {
        let names = ["name", "filters", "partitions", "key"];
        assert_eq!(nearest("partition", names), Some("partitions"));
        assert_eq!(nearest("Filter", names), Some("filters"));
        assert_eq!(nearest("nmae", names), Some("name"));
        assert_eq!(nearest("topics", names), None);
        assert_eq!(nearest("q", names), None);
        assert_eq!(nearest(&"partitions".repeat(9), names), None);
        assert_eq!(
            nearest("packet-bytes-max", ["packet_bytes_max"]),
            Some("packet_bytes_max")
        );
    }
}
