//! What the bridge keeps in the journal: a route's mapping and the state of its streams.

use serde::{Deserialize, Serialize};
use storage::{JournalKey, JournalKind, Log, Offset, Store};

use crate::stream::StreamState;

/// Version byte in front of both.
const VERSION: u8 = 1;

/// What a route's records are mapped by; durable before the first of them is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RouteState {
    /// Grows with every change below; producer ids are of one version.
    pub(crate) mapping_version: u32,
    /// Identity of the cluster, from clusters that have one.
    pub(crate) cluster_id: Option<String>,
    pub(crate) topic: String,
    /// Identity of the topic, from clusters that know topic ids.
    pub(crate) topic_id: Option<[u8; 16]>,
    /// Partitions of the topic that are sent to; local partition p goes to p mod this.
    pub(crate) partition_count: u16,
}

/// A journal entry of the bridge that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// Written by a later version.
    #[error("the bridge's journal entry has version {found}; this version reads up to {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Not what the version promises.
    #[error("the bridge's journal entry is damaged")]
    Content(#[source] postcard::Error),
}

pub(crate) fn route_key(route: &str) -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, route.as_bytes())
}

pub(crate) fn stream_key(route: &str, partition: u16) -> JournalKey {
    // No route name holds a zero byte.
    let rest = [route.as_bytes(), &[0], &partition.to_be_bytes()].concat();
    JournalKey::new(JournalKind::BridgeStream, &rest)
}

pub(crate) fn route(store: &Store, name: &str) -> Result<Option<RouteState>, CheckpointError> {
    store
        .journal_entry(&route_key(name))
        .map(|value| decode(&value))
        .transpose()
}

pub(crate) fn stream(
    store: &Store,
    route: &str,
    partition: u16,
) -> Result<Option<StreamState>, CheckpointError> {
    store
        .journal_entry(&stream_key(route, partition))
        .map(|value| decode(&value))
        .transpose()
}

/// Tells the store up to where a route has everything, as far as that is durable. What it has of a
/// partition that it never saw, or whose entry cannot be read, is not known: all of it stays.
pub(crate) fn set_pins(store: &Store, route: &str, log: &Log) {
    let pin = store.pin(route);
    for partition in log.partitions() {
        if let Ok(Some(state)) = stream(store, route, partition.partition.0) {
            pin.set(partition, Offset(state.acknowledged));
        }
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Encoding plain numbers and text into a vector cannot fail.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

fn decode<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Result<T, CheckpointError> {
    match value.split_first() {
        Some((&VERSION, content)) => {
            postcard::from_bytes(content).map_err(CheckpointError::Content)
        }
        other => Err(CheckpointError::Version {
            found: other.map_or(0, |(version, _)| *version),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Producer;

    #[test]
    fn state_comes_back_and_a_later_version_is_refused() {
        let producer = Producer {
            id: 9,
            epoch: 1,
            start: 10,
            remote_next: 400,
        };
        let state = StreamState {
            acknowledged: 15,
            producer: Some(producer),
            mapping_version: 2,
            replicated: 5,
            lost: 1,
        };
        assert_eq!(decode::<StreamState>(&encode(&state)).unwrap(), state);
        let error = decode::<StreamState>(&[7, 0]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the bridge's journal entry has version 7; this version reads up to 1"
        );
    }

    /// The layout stands in the files of every gateway.
    #[test]
    fn stored_form_does_not_change() {
        let state = StreamState {
            acknowledged: 300,
            producer: Some(Producer {
                id: 9,
                epoch: 1,
                start: 10,
                remote_next: 40,
            }),
            mapping_version: 2,
            replicated: 5,
            lost: 1,
        };
        assert_eq!(encode(&state), [1, 0xac, 2, 1, 18, 2, 10, 80, 2, 5, 1]);
        let route = RouteState {
            mapping_version: 1,
            cluster_id: Some("c".to_owned()),
            topic: "t".to_owned(),
            topic_id: None,
            partition_count: 3,
        };
        assert_eq!(encode(&route), [1, 1, 1, 1, b'c', 1, b't', 0, 3]);
    }
}
