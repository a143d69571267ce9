//! Topic filters against topic names, beside a matcher that is plain and slow.

use mqtt::{Packet, TopicFilter, TopicName};

use crate::seen::Seen;

/// Pairs that are looked at for one input.
const PAIRS_MAX: usize = 64;

/// Each filter of a stream with each name of it.
pub(crate) fn check_filters<'p>(packets: impl Iterator<Item = &'p Packet>, seen: &mut Seen) {
    let (mut filters, mut names) = (Vec::new(), Vec::new());
    for packet in packets {
        match packet {
            Packet::Subscribe(it) => filters.extend(it.subscriptions.iter().map(|one| &one.filter)),
            Packet::Unsubscribe(it) => filters.extend(&it.filters),
            Packet::Publish(it) => names.extend(&it.topic),
            Packet::Connect(it) => names.extend(it.will.as_ref().map(|will| &will.message.topic)),
            _ => {}
        }
    }
    let pairs = filters
        .iter()
        .flat_map(|filter| names.iter().map(move |name| (*filter, *name)));
    for (filter, name) in pairs.take(PAIRS_MAX) {
        let expected = matches(filter, name);
        assert_eq!(filter.matches(name), expected, "{filter:?} and {name:?}");
        seen.note(
            "match",
            (expected, filter.has_wildcard(), name.is_reserved()),
        );
    }
}

/// MQTT 5, 4.7, level by level.
fn matches(filter: &TopicFilter, name: &TopicName) -> bool {
    let text = filter.as_str();
    let text = match text.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, filter)| filter),
        None => text,
    };
    let filter: Vec<&str> = text.split('/').collect();
    let name: Vec<&str> = name.as_str().split('/').collect();
    let is_reserved = name.first().is_some_and(|level| level.starts_with('$'));
    if is_reserved && matches!(filter.first(), Some(&"+" | &"#")) {
        return false;
    }
    matches_levels(&filter, &name)
}

fn matches_levels(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) | ([], []) => true,
        ([first, filter @ ..], [level, name @ ..]) => {
            (*first == "+" || first == level) && matches_levels(filter, name)
        }
        _ => false,
    }
}
