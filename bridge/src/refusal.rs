//! What a refusal by the cluster means for a stream.

use kafka::ErrorCode;

use crate::stream::Refusal;

/// How a refused batch is to be taken, but for what depends on the batch itself.
pub(crate) fn of_batch(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Refusal::OutOfOrder,
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::UNKNOWN_PRODUCER_ID => {
            Refusal::ProducerInvalid
        }
        code if is_about_leadership(code) => Refusal::NotLeader,
        // It is there, but on all replicas? The answer does not wait for them.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::UNKNOWN_SERVER_ERROR => Refusal::Doubtful,
        _ => Refusal::Definite,
    }
}

/// Whether the metadata is out of date.
pub(crate) fn is_about_leadership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::OFFSET_NOT_AVAILABLE
    )
}

/// Whether the same records may be taken in smaller batches.
pub(crate) fn is_too_large(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_leave_it_open_are_doubtful() {
        // Storage errors come after the append as well as before it.
        for code in [7, 20, 46, 56, -1] {
            assert_eq!(of_batch(ErrorCode(code)), Refusal::Doubtful, "{code}");
        }
        for code in [5, 6, 74, 75, 3] {
            assert_eq!(of_batch(ErrorCode(code)), Refusal::NotLeader, "{code}");
        }
        for code in [10, 19, 29, 32, 87, 2] {
            assert_eq!(of_batch(ErrorCode(code)), Refusal::Definite, "{code}");
        }
    }
}
