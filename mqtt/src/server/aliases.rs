//! Topic aliases of the client (MQTT 5, 3.3.2.3.4).

use std::collections::HashMap;

use super::Misbehaviour;
use crate::packet::TopicAlias;
use crate::topic::TopicName;

/// The names that the client's aliases stand for. Bounded by Topic Alias Maximum.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<TopicAlias, TopicName>);

impl Aliases {
    /// The topic name of a PUBLISH that has one, an alias, or both.
    pub(super) fn resolve(
        &mut self,
        topic: Option<TopicName>,
        alias: Option<TopicAlias>,
        maximum: u16,
    ) -> Result<TopicName, Misbehaviour> {
        if let Some(alias) = alias
            && alias.get() > maximum
        {
            return Err(Misbehaviour::TopicAliasInvalid { alias, maximum });
        }
        match (topic, alias) {
            (Some(topic), None) => Ok(topic),
            (Some(topic), Some(alias)) => {
                // It outlives the packet, so it must not keep the read buffer.
                self.0.insert(alias, topic.detach());
                Ok(topic)
            }
            (None, alias) => alias
                .and_then(|alias| self.0.get(&alias))
                .cloned()
                .ok_or(Misbehaviour::TopicAliasUnknown),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = HashMap::new();
    }
}
