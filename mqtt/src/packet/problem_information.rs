//! Reason String and User Properties of an answer: what Request Problem Information governs
//! (MQTT 5, 3.1.2.11.7).

use crate::UserProperty;
use crate::codec::{InvalidPacket, Writer};
use crate::property::{PropertyId, Section, Value};
use crate::utf8_string::Utf8String;

/// What an answer says for people to read. Nothing in the protocol depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProblemInformation {
    /// Why, in words.
    pub reason_string: Option<Utf8String>,
    /// Pairs in the sender's order.
    pub user_properties: Vec<UserProperty>,
}

impl ProblemInformation {
    pub(crate) fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    /// Reads a section in which nothing else may stand.
    pub(crate) fn read(mut section: Section<'_>) -> Result<Self, InvalidPacket> {
        let mut problem = Self::default();
        while let Some((id, value)) = section.next()? {
            problem.take(&section, id, value)?;
        }
        Ok(problem)
    }

    /// Takes one of the two properties.
    pub(crate) fn take(
        &mut self,
        section: &Section<'_>,
        id: PropertyId,
        value: Value,
    ) -> Result<(), InvalidPacket> {
        match (id, value) {
            (PropertyId::ReasonString, Value::Text(text)) => self.reason_string = Some(text),
            (PropertyId::UserProperty, Value::Pair(pair)) => self.user_properties.push(pair),
            (id, _) => return Err(section.misplaced(id)),
        }
        Ok(())
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.property(PropertyId::ReasonString, self.reason_string.as_ref());
        out.properties(PropertyId::UserProperty, &self.user_properties);
    }
}
