//! Topic names and topic filters (MQTT 5, 4.7; MQTT 3.1.1, 4.7): two types, so that a filter is
//! never published to and a name never subscribed with its wildcards taken literally.
//!
//! ```
//! use mqtt::{TopicFilter, TopicName};
//!
//! let filter: TopicFilter = "plant/+/temperature".parse()?;
//! let name: TopicName = "plant/7/temperature".parse()?;
//! assert!(filter.matches(&name));
//!
//! let error = "plant/#/temperature".parse::<TopicFilter>().unwrap_err();
//! assert_eq!(error.to_string(), "topic filter has '#' at byte 6, it may only be the last level");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod filter;
mod name;

pub use filter::{TopicFilter, TopicFilterError};
pub use name::{TopicName, TopicNameError};

/// Most levels of a topic name or filter, counting empty ones. The standard sets no bound; this
/// one bounds the depth of every tree that is keyed by levels, and is far above real use.
pub const TOPIC_LEVELS_MAX: usize = 128;

fn level_count(topic: &[u8]) -> usize {
    topic.iter().filter(|byte| **byte == b'/').count() + 1
}
