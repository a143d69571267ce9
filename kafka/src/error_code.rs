//! Kafka's error codes: name, whether repeating the request can help, and what an operator can do.
//!
//! The codes are part of the protocol and never change their meaning. A code that is not in the
//! table is from a newer broker; it prints as a number and is not retriable, as in Kafka's own
//! clients.
//!
//! References: <https://kafka.apache.org/protocol#protocol_error_codes>.

use std::fmt;

/// An error code as a broker sends it. 0 is no error.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Code -1.
    pub const UNKNOWN_SERVER_ERROR: Self = Self(-1);
    /// No error.
    pub const NONE: Self = Self(0);
    /// Code 1.
    pub const OFFSET_OUT_OF_RANGE: Self = Self(1);
    /// Code 2.
    pub const CORRUPT_MESSAGE: Self = Self(2);
    /// Code 3.
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    /// Code 5.
    pub const LEADER_NOT_AVAILABLE: Self = Self(5);
    /// Code 6.
    pub const NOT_LEADER_OR_FOLLOWER: Self = Self(6);
    /// Code 7.
    pub const REQUEST_TIMED_OUT: Self = Self(7);
    /// Code 10.
    pub const MESSAGE_TOO_LARGE: Self = Self(10);
    /// Code 17.
    pub const INVALID_TOPIC_EXCEPTION: Self = Self(17);
    /// Code 18.
    pub const RECORD_LIST_TOO_LARGE: Self = Self(18);
    /// Code 19.
    pub const NOT_ENOUGH_REPLICAS: Self = Self(19);
    /// Code 20.
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: Self = Self(20);
    /// Code 21.
    pub const INVALID_REQUIRED_ACKS: Self = Self(21);
    /// Code 29.
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    /// Code 32.
    pub const INVALID_TIMESTAMP: Self = Self(32);
    /// Code 35.
    pub const UNSUPPORTED_VERSION: Self = Self(35);
    /// Code 36.
    pub const TOPIC_ALREADY_EXISTS: Self = Self(36);
    /// Code 37.
    pub const INVALID_PARTITIONS: Self = Self(37);
    /// Code 38.
    pub const INVALID_REPLICATION_FACTOR: Self = Self(38);
    /// Code 42.
    pub const INVALID_REQUEST: Self = Self(42);
    /// Code 44.
    pub const POLICY_VIOLATION: Self = Self(44);
    /// Code 45.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self(45);
    /// Code 46.
    pub const DUPLICATE_SEQUENCE_NUMBER: Self = Self(46);
    /// Code 47.
    pub const INVALID_PRODUCER_EPOCH: Self = Self(47);
    /// Code 48.
    pub const INVALID_TXN_STATE: Self = Self(48);
    /// Code 53.
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    /// Code 56.
    pub const KAFKA_STORAGE_ERROR: Self = Self(56);
    /// Code 59.
    pub const UNKNOWN_PRODUCER_ID: Self = Self(59);
    /// Code 70.
    pub const FETCH_SESSION_ID_NOT_FOUND: Self = Self(70);
    /// Code 74.
    pub const FENCED_LEADER_EPOCH: Self = Self(74);
    /// Code 75.
    pub const UNKNOWN_LEADER_EPOCH: Self = Self(75);
    /// Code 76.
    pub const UNSUPPORTED_COMPRESSION_TYPE: Self = Self(76);
    /// Code 78.
    pub const OFFSET_NOT_AVAILABLE: Self = Self(78);
    /// Code 87.
    pub const INVALID_RECORD: Self = Self(87);
    /// Code 89.
    pub const THROTTLING_QUOTA_EXCEEDED: Self = Self(89);
    /// Code 100.
    pub const UNKNOWN_TOPIC_ID: Self = Self(100);

    /// No error as success, any other code as the error.
    ///
    /// # Errors
    /// The code itself, unless it is 0.
    pub const fn ok(self) -> Result<(), Self> {
        if self.0 == 0 { Ok(()) } else { Err(self) }
    }

    /// The name in Kafka's documentation, or `None` for a code that this client does not know.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.1)
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retriable(self) -> bool {
        self.row().is_some_and(|row| row.2)
    }

    /// What an operator can do about it, where there is something.
    pub fn remedy(self) -> Option<&'static str> {
        let index = REMEDIES.binary_search_by_key(&self.0, |row| row.0).ok()?;
        REMEDIES.get(index).map(|row| row.1)
    }

    fn row(self) -> Option<&'static (i16, &'static str, bool)> {
        let index = CODES.binary_search_by_key(&self.0, |row| row.0).ok()?;
        CODES.get(index)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl std::error::Error for ErrorCode {}

/// Code, name, retriable; ascending by code.
#[rustfmt::skip]
const CODES: &[(i16, &str, bool)] = &[
    (-1, "UNKNOWN_SERVER_ERROR", false),
    (0, "NONE", false),
    (1, "OFFSET_OUT_OF_RANGE", false),
    (2, "CORRUPT_MESSAGE", true),
    (3, "UNKNOWN_TOPIC_OR_PARTITION", true),
    (4, "INVALID_FETCH_SIZE", false),
    (5, "LEADER_NOT_AVAILABLE", true),
    (6, "NOT_LEADER_OR_FOLLOWER", true),
    (7, "REQUEST_TIMED_OUT", true),
    (8, "BROKER_NOT_AVAILABLE", false),
    (9, "REPLICA_NOT_AVAILABLE", true),
    (10, "MESSAGE_TOO_LARGE", false),
    (11, "STALE_CONTROLLER_EPOCH", false),
    (12, "OFFSET_METADATA_TOO_LARGE", false),
    (13, "NETWORK_EXCEPTION", true),
    (14, "COORDINATOR_LOAD_IN_PROGRESS", true),
    (15, "COORDINATOR_NOT_AVAILABLE", true),
    (16, "NOT_COORDINATOR", true),
    (17, "INVALID_TOPIC_EXCEPTION", false),
    (18, "RECORD_LIST_TOO_LARGE", false),
    (19, "NOT_ENOUGH_REPLICAS", true),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true),
    (21, "INVALID_REQUIRED_ACKS", false),
    (22, "ILLEGAL_GENERATION", false),
    (23, "INCONSISTENT_GROUP_PROTOCOL", false),
    (24, "INVALID_GROUP_ID", false),
    (25, "UNKNOWN_MEMBER_ID", false),
    (26, "INVALID_SESSION_TIMEOUT", false),
    (27, "REBALANCE_IN_PROGRESS", false),
    (28, "INVALID_COMMIT_OFFSET_SIZE", false),
    (29, "TOPIC_AUTHORIZATION_FAILED", false),
    (30, "GROUP_AUTHORIZATION_FAILED", false),
    (31, "CLUSTER_AUTHORIZATION_FAILED", false),
    (32, "INVALID_TIMESTAMP", false),
    (33, "UNSUPPORTED_SASL_MECHANISM", false),
    (34, "ILLEGAL_SASL_STATE", false),
    (35, "UNSUPPORTED_VERSION", false),
    (36, "TOPIC_ALREADY_EXISTS", false),
    (37, "INVALID_PARTITIONS", false),
    (38, "INVALID_REPLICATION_FACTOR", false),
    (39, "INVALID_REPLICA_ASSIGNMENT", false),
    (40, "INVALID_CONFIG", false),
    (41, "NOT_CONTROLLER", true),
    (42, "INVALID_REQUEST", false),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false),
    (44, "POLICY_VIOLATION", false),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false),
    (46, "DUPLICATE_SEQUENCE_NUMBER", false),
    (47, "INVALID_PRODUCER_EPOCH", false),
    (48, "INVALID_TXN_STATE", false),
    (49, "INVALID_PRODUCER_ID_MAPPING", false),
    (50, "INVALID_TRANSACTION_TIMEOUT", false),
    (51, "CONCURRENT_TRANSACTIONS", false),
    (52, "TRANSACTION_COORDINATOR_FENCED", false),
    (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false),
    (54, "SECURITY_DISABLED", false),
    (55, "OPERATION_NOT_ATTEMPTED", false),
    (56, "KAFKA_STORAGE_ERROR", true),
    (57, "LOG_DIR_NOT_FOUND", false),
    (58, "SASL_AUTHENTICATION_FAILED", false),
    (59, "UNKNOWN_PRODUCER_ID", false),
    (60, "REASSIGNMENT_IN_PROGRESS", false),
    (61, "DELEGATION_TOKEN_AUTH_DISABLED", false),
    (62, "DELEGATION_TOKEN_NOT_FOUND", false),
    (63, "DELEGATION_TOKEN_OWNER_MISMATCH", false),
    (64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false),
    (65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false),
    (66, "DELEGATION_TOKEN_EXPIRED", false),
    (67, "INVALID_PRINCIPAL_TYPE", false),
    (68, "NON_EMPTY_GROUP", false),
    (69, "GROUP_ID_NOT_FOUND", false),
    (70, "FETCH_SESSION_ID_NOT_FOUND", true),
    (71, "INVALID_FETCH_SESSION_EPOCH", true),
    (72, "LISTENER_NOT_FOUND", true),
    (73, "TOPIC_DELETION_DISABLED", false),
    (74, "FENCED_LEADER_EPOCH", true),
    (75, "UNKNOWN_LEADER_EPOCH", true),
    (76, "UNSUPPORTED_COMPRESSION_TYPE", false),
    (77, "STALE_BROKER_EPOCH", false),
    (78, "OFFSET_NOT_AVAILABLE", true),
    (79, "MEMBER_ID_REQUIRED", false),
    (80, "PREFERRED_LEADER_NOT_AVAILABLE", true),
    (81, "GROUP_MAX_SIZE_REACHED", false),
    (82, "FENCED_INSTANCE_ID", false),
    (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true),
    (84, "ELECTION_NOT_NEEDED", true),
    (85, "NO_REASSIGNMENT_IN_PROGRESS", false),
    (86, "GROUP_SUBSCRIBED_TO_TOPIC", false),
    (87, "INVALID_RECORD", false),
    (88, "UNSTABLE_OFFSET_COMMIT", true),
    (89, "THROTTLING_QUOTA_EXCEEDED", true),
    (90, "PRODUCER_FENCED", false),
    (91, "RESOURCE_NOT_FOUND", false),
    (92, "DUPLICATE_RESOURCE", false),
    (93, "UNACCEPTABLE_CREDENTIAL", false),
    (94, "INCONSISTENT_VOTER_SET", false),
    (95, "INVALID_UPDATE_VERSION", false),
    (96, "FEATURE_UPDATE_FAILED", false),
    (97, "PRINCIPAL_DESERIALIZATION_FAILURE", false),
    (98, "SNAPSHOT_NOT_FOUND", false),
    (99, "POSITION_OUT_OF_RANGE", false),
    (100, "UNKNOWN_TOPIC_ID", true),
    (101, "DUPLICATE_BROKER_REGISTRATION", false),
    (102, "BROKER_ID_NOT_REGISTERED", false),
    (103, "INCONSISTENT_TOPIC_ID", true),
    (104, "INCONSISTENT_CLUSTER_ID", false),
    (105, "TRANSACTIONAL_ID_NOT_FOUND", false),
    (106, "FETCH_SESSION_TOPIC_ID_ERROR", true),
    (107, "INELIGIBLE_REPLICA", false),
    (108, "NEW_LEADER_ELECTED", false),
    (109, "OFFSET_MOVED_TO_TIERED_STORAGE", false),
    (110, "FENCED_MEMBER_EPOCH", false),
    (111, "UNRELEASED_INSTANCE_ID", false),
    (112, "UNSUPPORTED_ASSIGNOR", false),
    (113, "STALE_MEMBER_EPOCH", false),
    (114, "MISMATCHED_ENDPOINT_TYPE", false),
    (115, "UNSUPPORTED_ENDPOINT_TYPE", false),
    (116, "UNKNOWN_CONTROLLER_ID", false),
    (117, "UNKNOWN_SUBSCRIPTION_ID", false),
    (118, "TELEMETRY_TOO_LARGE", false),
    (119, "INVALID_REGISTRATION", false),
    (120, "TRANSACTION_ABORTABLE", false),
    (121, "INVALID_RECORD_STATE", false),
    (122, "SHARE_SESSION_NOT_FOUND", true),
    (123, "INVALID_SHARE_SESSION_EPOCH", true),
    (124, "FENCED_STATE_EPOCH", false),
    (125, "INVALID_VOTER_KEY", false),
    (126, "DUPLICATE_VOTER", false),
    (127, "VOTER_NOT_FOUND", false),
    (128, "INVALID_REGULAR_EXPRESSION", false),
    (129, "REBOOTSTRAP_REQUIRED", false),
    (130, "STREAMS_INVALID_TOPOLOGY", false),
    (131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false),
    (132, "STREAMS_TOPOLOGY_FENCED", false),
    (133, "SHARE_SESSION_LIMIT_REACHED", true),
];

/// Code and remedy; ascending by code.
const REMEDIES: &[(i16, &str)] = &[
    (
        1,
        "the offset is not (or no longer) in the partition: retention or a truncated log \
         removed it",
    ),
    (
        2,
        "the batch was damaged on the way: if it repeats, check memory and network of both \
         machines",
    ),
    (
        3,
        "create the topic, or check its name and partition count in the route; right after \
         creation it passes by itself",
    ),
    (
        5,
        "the partition has no leader: check that the brokers holding its replicas are up",
    ),
    (
        6,
        "leadership moved: metadata is refreshed and the request repeated; if it stays, check \
         the cluster's controller",
    ),
    (
        7,
        "the broker could not replicate in time: check the followers and the request timeout",
    ),
    (
        10,
        "raise max.message.bytes of the topic (and message.max.bytes of the brokers) above \
         the size of the largest record",
    ),
    (14, "the coordinator is starting: it passes by itself"),
    (15, "the coordinator is not up yet: it passes by itself"),
    (
        17,
        "the topic name is not allowed: letters, digits, '.', '_' and '-', at most 249",
    ),
    (
        18,
        "the batch exceeds segment.bytes of the topic: raise it, or lower the batch size of \
         the route",
    ),
    (
        19,
        "too few replicas are in sync (min.insync.replicas): bring the missing brokers back",
    ),
    (
        20,
        "too few replicas were in sync after the append, which may stand: bring the missing \
         brokers back",
    ),
    (
        29,
        "grant this client Write, Describe and Read on the topic",
    ),
    (
        31,
        "grant this client IdempotentWrite on the cluster (brokers before 2.8) or the \
         operation that was refused",
    ),
    (
        32,
        "the clock of this gateway or the topic's message.timestamp.before.max.ms / \
         after.max.ms is wrong: check the clock first",
    ),
    (
        33,
        "enable the configured SASL mechanism on the broker's listener",
    ),
    (
        35,
        "the broker is too old for this client, or something between them answers for it",
    ),
    (37, "ask for at least one partition"),
    (
        38,
        "ask for a replication factor between 1 and the number of brokers",
    ),
    (40, "check the topic settings that were asked for"),
    (
        42,
        "the broker found the request malformed: its log says why",
    ),
    (
        44,
        "the cluster's create-topic policy forbids this topic: ask its administrator",
    ),
    (
        45,
        "the broker misses records of this producer or has others: the stream is resolved \
         anew before it goes on",
    ),
    (
        47,
        "a newer epoch of this producer id wrote: make sure that no copy of this gateway is \
         running",
    ),
    (
        48,
        "the producer id is in an open transaction of someone else: make sure that no copy of \
         this gateway is running",
    ),
    (53, "grant this client Write on the transactional id"),
    (56, "the broker's disk failed: check its log directories"),
    (
        58,
        "check user name, password or token, and that the broker knows them",
    ),
    (
        72,
        "the leader has no listener of the name that this client used to connect: check the \
         brokers' listeners",
    ),
    (
        74,
        "the metadata is older than the broker's: it is refreshed and the request repeated",
    ),
    (
        75,
        "the broker's metadata is older than ours: it passes by itself",
    ),
    (
        76,
        "the topic does not allow this compression: change the route's or the topic's \
         compression.type",
    ),
    (
        87,
        "the broker's validation refused the batch: its log says why; compacted topics need a \
         key on every record",
    ),
    (
        89,
        "the client's quota is used up: it passes by itself, or raise the quota",
    ),
];

#[cfg(test)]
mod tests {
    use kafka_protocol::error::ResponseError;

    use super::*;

    #[test]
    fn tables_ascend_so_that_they_can_be_searched() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(REMEDIES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, _) in REMEDIES {
            assert!(
                ErrorCode(*code).name().is_some(),
                "remedy for unknown code {code}"
            );
        }
    }

    /// The independent table of `kafka-protocol`: same names, same retriable codes.
    #[test]
    fn names_and_retriable_agree_with_the_peer_table() {
        for code in (-1..=200).filter(|code| *code != 0) {
            let theirs = ResponseError::try_from_code(code).unwrap();
            let ours = ErrorCode(code);
            if let ResponseError::Unknown(_) = theirs {
                assert_eq!(ours.name(), None, "{code}");
            } else {
                let name = ours.name().unwrap().replace('_', "").to_lowercase();
                assert_eq!(name, theirs.to_string().to_lowercase());
            }
            assert_eq!(ours.is_retriable(), theirs.is_retriable(), "{ours}");
        }
    }

    #[test]
    fn code_prints_name_and_number() {
        assert_eq!(ErrorCode(19).to_string(), "NOT_ENOUGH_REPLICAS (19)");
        assert_eq!(ErrorCode(9999).to_string(), "error code 9999");
        assert!(!ErrorCode(9999).is_retriable());
        assert_eq!(ErrorCode::NONE.ok(), Ok(()));
        assert_eq!(
            ErrorCode(45).ok(),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
    }

    #[test]
    fn remedy_stands_for_what_an_operator_must_settle() {
        for code in [3, 6, 10, 19, 20, 29, 32, 45, 87] {
            assert!(ErrorCode(code).remedy().is_some(), "{code}");
        }
        assert_eq!(ErrorCode::NONE.remedy(), None);
    }
}
