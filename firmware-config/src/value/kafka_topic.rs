//! The name of a topic in a Kafka cluster.
//!
//! The rules are the broker's: characters and length as in Kafka's documentation of topic
//! names, and neither `.` nor `..`, which would be directory names in the broker's log folder.

use super::Refusal;
use super::name::{check_characters, impl_name, is_kafka_character};

/// A Kafka topic name: one to 249 of `A-Z a-z 0-9 . _ -`, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaTopic(String);

impl KafkaTopic {
    fn check(text: &str) -> Result<(), Refusal> {
        if text.contains(['{', '}']) {
            return Err(Refusal::new("a template is not available in this version"));
        }
        if matches!(text, "." | "..") {
            return Err(Refusal::new("is a directory name"));
        }
        check_characters(text, 249, is_kafka_character)
    }
}

impl_name!(KafkaTopic);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<KafkaTopic>().unwrap_err().to_string()
    }

    #[test]
    fn kafka_topic_is_refused_when_a_broker_would_refuse_it() {
        assert_eq!(
            "plant7.telemetry_A-1"
                .parse::<KafkaTopic>()
                .unwrap()
                .as_str()
                .len(),
            20
        );
        assert!("...".parse::<KafkaTopic>().is_ok());
        assert_eq!(refusal("."), "is a directory name");
        assert_eq!(refusal(".."), "is a directory name");
        assert_eq!(refusal(""), "is empty");
        assert_eq!(refusal("a/b"), "'/' is not allowed in it");
        assert!("x".repeat(249).parse::<KafkaTopic>().is_ok());
        assert_eq!(refusal(&"x".repeat(250)), "has 250 characters");
    }

    #[test]
    fn kafka_topic_template_is_named_as_later_work() {
        assert_eq!(
            refusal("telemetry.{site}"),
            "a template is not available in this version"
        );
    }
}
