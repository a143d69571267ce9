//! Which mapping is in force for the topic that the cluster describes. Pure decisions.
//!
//! Invariant: a mapping is given up only where the topic is certainly another one. What the cluster
//! merely does not say (a broker of an older version names no ids) or does not know yet (one that
//! has just started may be behind with its metadata) changes nothing: records that are in doubt
//! would be sent a second time under the new producer ids.

use crate::checkpoint::RouteState;
use crate::link::Topic;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Go by this; it is to be durable first.
    Use(RouteState),
    /// This is another cluster.
    OtherCluster,
    /// It is the topic that was mapped, but some of its partitions are not known here yet.
    FewerPartitions,
}

/// The mapping of a route to the topic called `name`, which is now `topic` and was mapped as `stored`.
pub(super) fn mapping(name: &str, topic: &Topic, stored: Option<&RouteState>) -> Mapping {
    let fresh = |mapping_version| {
        Mapping::Use(RouteState {
            mapping_version,
            cluster_id: topic.cluster_id.clone(),
            topic: name.to_owned(),
            topic_id: topic.topic_id,
            partition_count: u16::try_from(topic.partition_count).unwrap_or(u16::MAX),
        })
    };
    let Some(stored) = stored else {
        return fresh(1);
    };
    let before = Topic {
        cluster_id: stored.cluster_id.clone(),
        topic_id: stored.topic_id,
        partition_count: usize::from(stored.partition_count),
    };
    let is_same_name = stored.topic == name;
    if is_same_name && before.is_of_another_cluster_than(topic) {
        return Mapping::OtherCluster;
    }
    if !is_same_name || before.is_another_than(topic) {
        return fresh(stored.mapping_version + 1);
    }
    if before.partition_count > topic.partition_count {
        // No topic ever shrinks: without ids it was made anew, with them the broker is behind.
        return match topic.topic_id {
            Some(_) if before.topic_id.is_some() => Mapping::FewerPartitions,
            _ => fresh(stored.mapping_version + 1),
        };
    }
    Mapping::Use(RouteState {
        cluster_id: before.cluster_id.or_else(|| topic.cluster_id.clone()),
        topic_id: before.topic_id.or(topic.topic_id),
        ..stored.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(topic_id: Option<u8>, partition_count: usize) -> Topic {
        Topic {
            cluster_id: Some("c".to_owned()),
            topic_id: topic_id.map(|byte| [byte; 16]),
            partition_count,
        }
    }

    fn stored(topic_id: Option<u8>, partition_count: u16) -> RouteState {
        RouteState {
            mapping_version: 4,
            cluster_id: Some("c".to_owned()),
            topic: "t".to_owned(),
            topic_id: topic_id.map(|byte| [byte; 16]),
            partition_count,
        }
    }

    #[test]
    fn mapping_stays_while_the_topic_may_be_the_same() {
        let now = |topic: Topic, before: RouteState| mapping("t", &topic, Some(&before));
        let same = Mapping::Use(stored(Some(1), 3));
        assert_eq!(now(topic(Some(1), 3), stored(Some(1), 3)), same);
        assert_eq!(now(topic(Some(1), 6), stored(Some(1), 3)), same, "it grew");
        assert_eq!(
            now(topic(None, 3), stored(Some(1), 3)),
            same,
            "an older broker"
        );
        assert_eq!(
            now(topic(Some(1), 3), stored(None, 3)),
            same,
            "a newer broker"
        );
        assert_eq!(
            now(topic(Some(1), 2), stored(Some(1), 3)),
            Mapping::FewerPartitions,
            "a broker that is behind"
        );
    }

    #[test]
    fn mapping_changes_with_the_topic() {
        let version = |mapping: Mapping| match mapping {
            Mapping::Use(state) => Some((state.mapping_version, state.partition_count)),
            _ => None,
        };
        let now = |topic: Topic, before: RouteState| version(mapping("t", &topic, Some(&before)));
        assert_eq!(
            version(mapping("t", &topic(Some(1), 3), None)),
            Some((1, 3))
        );
        assert_eq!(now(topic(Some(2), 2), stored(Some(1), 3)), Some((5, 2)));
        assert_eq!(now(topic(None, 2), stored(None, 3)), Some((5, 2)));
        let other_name = mapping("other", &topic(Some(1), 3), Some(&stored(Some(1), 3)));
        assert_eq!(version(other_name), Some((5, 3)));
        let other_cluster = Topic {
            cluster_id: Some("d".to_owned()),
            ..topic(Some(1), 3)
        };
        assert_eq!(
            mapping("t", &other_cluster, Some(&stored(Some(1), 3))),
            Mapping::OtherCluster
        );
    }
}
