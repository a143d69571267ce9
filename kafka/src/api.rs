//! The request types ("APIs") that this crate speaks, by key and name.

use std::fmt;

/// A request type.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Api {
    /// Key 0.
    Produce,
    /// Key 1.
    Fetch,
    /// Key 2.
    ListOffsets,
    /// Key 3.
    Metadata,
    /// Key 18.
    ApiVersions,
    /// Key 19.
    CreateTopics,
    /// Key 22.
    InitProducerId,
    /// Key 23.
    OffsetForLeaderEpoch,
    /// Key 61.
    DescribeProducers,
}

impl Api {
    /// All of them, ascending by key.
    pub const ALL: [Self; 9] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::ApiVersions,
        Self::CreateTopics,
        Self::InitProducerId,
        Self::OffsetForLeaderEpoch,
        Self::DescribeProducers,
    ];

    /// The number on the wire.
    pub const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Fetch => 1,
            Self::ListOffsets => 2,
            Self::Metadata => 3,
            Self::ApiVersions => 18,
            Self::CreateTopics => 19,
            Self::InitProducerId => 22,
            Self::OffsetForLeaderEpoch => 23,
            Self::DescribeProducers => 61,
        }
    }

    /// The request type with this number on the wire.
    pub fn from_key(key: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.key() == key)
    }

    /// The name in Kafka's protocol guide.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Fetch => "Fetch",
            Self::ListOffsets => "ListOffsets",
            Self::Metadata => "Metadata",
            Self::ApiVersions => "ApiVersions",
            Self::CreateTopics => "CreateTopics",
            Self::InitProducerId => "InitProducerId",
            Self::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
            Self::DescribeProducers => "DescribeProducers",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The versions of a request type that a side supports, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionRange {
    /// Lowest version.
    pub min: i16,
    /// Highest version.
    pub max: i16,
}

impl VersionRange {
    /// The highest version that both sides support.
    pub fn highest_common(self, other: Self) -> Option<i16> {
        let version = self.max.min(other.max);
        (version >= self.min && version >= other.min).then_some(version)
    }

    /// Whether `version` is one of them.
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_its_api_and_only_that() {
        for api in Api::ALL {
            assert_eq!(Api::from_key(api.key()), Some(api));
            let theirs = kafka_protocol::messages::ApiKey::try_from(api.key()).unwrap();
            assert_eq!(format!("{theirs:?}"), api.name());
        }
        assert_eq!(Api::from_key(4), None);
    }

    #[test]
    fn highest_common_version_is_chosen() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(7, 9).highest_common(range(3, 13)), Some(9));
        assert_eq!(range(7, 9).highest_common(range(3, 8)), Some(8));
        assert_eq!(range(7, 9).highest_common(range(3, 6)), None);
        assert_eq!(range(7, 9).highest_common(range(10, 13)), None);
    }
}
