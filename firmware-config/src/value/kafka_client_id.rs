//! The name under which a Kafka cluster knows us.

use super::Refusal;
use super::gateway_id::GatewayId;
use super::name::{check_characters, impl_name, is_kafka_character};

/// Kafka's `client.id`: brokers write it into their logs and count quotas by it. One to 249 of
/// `A-Z a-z 0-9 . _ -`, the characters that need no escaping in Kafka's metric names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaClientId(String);

impl KafkaClientId {
    fn check(text: &str) -> Result<(), Refusal> {
        check_characters(text, 249, is_kafka_character)
    }
}

impl_name!(KafkaClientId);

impl From<&GatewayId> for KafkaClientId {
    /// Every gateway id is a valid client id: same characters, shorter.
    fn from(id: &GatewayId) -> Self {
        Self(id.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_client_id_is_refused_when_a_metric_name_would_need_escaping() {
        assert!("tidegate.7_A-b".parse::<KafkaClientId>().is_ok());
        assert_eq!(
            "a=b".parse::<KafkaClientId>(),
            Err(Refusal::new("'=' is not allowed in it"))
        );
        assert_eq!("".parse::<KafkaClientId>(), Err(Refusal::new("is empty")));
        let long = "x".repeat(250);
        assert_eq!(
            long.parse::<KafkaClientId>(),
            Err(Refusal::new("has 250 characters"))
        );
    }
}
