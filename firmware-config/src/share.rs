//! `share_policy` and `[[share]]`: how messages are spread over shared subscribers.
//!
//! Invariant: no group is named twice.

use std::fmt;

use crate::found::Found;
use crate::problem::Located;
use crate::schema::{ChoiceKey, Describe, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::ShareName;

/// Most `[[share]]` in one file.
const SHARES_MAX: usize = 256;

/// Which member of a group of shared subscribers gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharePolicy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest messages in flight.
    LeastInflight,
    /// The one that has been connected for longest.
    Sticky,
    /// One for each topic.
    HashTopic,
}

const CHOICES: &[(&str, SharePolicy)] = &[
    ("round-robin", SharePolicy::RoundRobin),
    ("least-inflight", SharePolicy::LeastInflight),
    ("sticky", SharePolicy::Sticky),
    ("hash-topic", SharePolicy::HashTopic),
];

impl fmt::Display for SharePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = CHOICES.iter().find(|(_, policy)| policy == self);
        f.write_str(known.map_or("", |(word, _)| word))
    }
}

/// The policy of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// The name between `$share/` and the filter.
    pub group: Located<ShareName>,
    /// How its messages are spread.
    pub policy: SharePolicy,
}

pub(crate) static SHARE_POLICY: ChoiceKey<SharePolicy> = ChoiceKey {
    name: "share_policy",
    choices: CHOICES,
    later: &[],
};
static GROUP: TextKey = TextKey {
    name: "group",
    allowed: "1 to 256 bytes of text without /, + and #, unique among the groups",
    default: "required",
};
static POLICY: ChoiceKey<SharePolicy> = ChoiceKey {
    name: "policy",
    choices: CHOICES,
    later: &[],
};

pub(crate) static SHARE: TableKey = TableKey {
    name: "share",
    shape: Shape::List,
    schema: &Schema {
        keys: &[&GROUP, &POLICY],
        tables: &[],
        later: &[],
    },
};

/// Reads all `[[share]]` of the file.
pub(crate) fn read_shares(file: &Section<'_>) -> Option<Vec<ShareConfig>> {
    let sections = match file.tables(&SHARE, SHARES_MAX) {
        Found::Absent => return Some(Vec::new()),
        Found::Refused => return None,
        Found::Value(sections) => sections,
    };
    let mut earlier = Vec::new();
    let shares: Vec<_> = sections
        .iter()
        .map(|section| read_share(section, &mut earlier))
        .collect();
    shares.into_iter().collect()
}

fn read_share(
    section: &Section<'_>,
    earlier: &mut Vec<(String, Located<ShareName>)>,
) -> Option<ShareConfig> {
    let group = section.text(&GROUP, str::parse::<ShareName>);
    let group = group.required(section, &GROUP);
    let policy = section.choice(&POLICY);
    if let Some(group) = &group {
        if let Some((path, other)) = earlier.iter().find(|(_, other)| other == group) {
            let place = other.place();
            let message = format!(
                "found \"{group}\", which {path} is already ({place}); allowed: {}",
                GROUP.allowed()
            );
            section.conflict(GROUP.name, message);
        }
        earlier.push((section.path_of(GROUP.name), group.clone()));
    }
    Some(ShareConfig {
        group: group?,
        policy: policy?,
    })
}
