//! The key of a message's record: a function of client id and topic name, so that what has the
//! same key stays in order.

use mqtt::TopicName;

/// How the key of a record is made: the texts of its parts, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<KeyPart>,
}

/// A piece of a [`KeyTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The publisher's client id.
    ClientId,
    /// This text.
    Literal(String),
    /// The whole topic name.
    Topic,
    /// One level of the topic name, counted from 0; nothing where the topic has fewer levels.
    TopicLevel(u8),
}

impl KeyTemplate {
    /// The template of these parts; without any, all keys are empty.
    pub fn new(parts: Vec<KeyPart>) -> Self {
        Self { parts }
    }

    /// The key for a message of this client under this topic name. It is put together in `buffer`,
    /// unless it has one part only.
    pub(crate) fn key<'a>(
        &'a self,
        client_id: &'a [u8],
        topic: &'a TopicName,
        buffer: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if let [part] = self.parts.as_slice() {
            return part.text(client_id, topic);
        }
        buffer.clear();
        for part in &self.parts {
            buffer.extend_from_slice(part.text(client_id, topic));
        }
        buffer
    }
}

impl KeyPart {
    fn text<'a>(&'a self, client_id: &'a [u8], topic: &'a TopicName) -> &'a [u8] {
        match self {
            Self::ClientId => client_id,
            Self::Literal(text) => text.as_bytes(),
            Self::Topic => topic.as_bytes(),
            Self::TopicLevel(level) => topic
                .as_bytes()
                .split(|byte| *byte == b'/')
                .nth(usize::from(*level))
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: Vec<KeyPart>) -> String {
        let topic = "sensors/press//3".parse().unwrap();
        let mut buffer = b"left over".to_vec();
        let key = KeyTemplate::new(parts)
            .key(b"c1", &topic, &mut buffer)
            .to_vec();
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn key_is_the_text_of_its_parts() {
        use KeyPart::{ClientId, Literal, Topic, TopicLevel};
        let literal = |text: &str| Literal(text.to_owned());
        for (parts, expected) in [
            (vec![], ""),
            (vec![ClientId], "c1"),
            (vec![Topic], "sensors/press//3"),
            (vec![literal("all")], "all"),
            (vec![TopicLevel(0)], "sensors"),
            (vec![TopicLevel(2)], ""),
            (vec![TopicLevel(3)], "3"),
            (vec![TopicLevel(4)], ""),
            (
                vec![TopicLevel(1), literal("/"), ClientId, TopicLevel(255)],
                "press/c1",
            ),
        ] {
            assert_eq!(key(parts.clone()), expected, "{parts:?}");
        }
    }
}
