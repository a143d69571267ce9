//! The template of a record's key: `"{client_id}"`, `"{topic}"`, `"{topic[1]}"`, a constant, or
//! a mixture such as `"{topic[0]}/{client_id}"`.
//!
//! The key is a function of the client and the topic and of nothing else, so that all messages of
//! one topic of one client go to one partition and keep their order.
//! A brace that belongs to the text is written twice.

use std::fmt;
use std::str::FromStr;

use super::Refusal;

/// Longest template in bytes; with long topics and client ids the key stays far below a record.
const LEN_MAX: usize = 256;

/// How the key of a record is made from its message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyTemplate {
    parts: Vec<KeyPart>,
}

/// A piece of a [`KeyTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The publisher's client id.
    ClientId,
    /// This text. Never empty, and never two in a row.
    Literal(String),
    /// The whole topic name.
    Topic,
    /// One level of the topic name, counted from 0; nothing where the topic has fewer levels.
    TopicLevel(u8),
}

impl KeyTemplate {
    /// The key `{client_id}`: what one client publishes stays in order.
    #[must_use]
    pub fn client_id() -> Self {
        Self {
            parts: vec![KeyPart::ClientId],
        }
    }

    /// The parts whose texts, one after the other, are the key. At least one.
    #[must_use]
    pub fn parts(&self) -> &[KeyPart] {
        &self.parts
    }
}

impl FromStr for KeyTemplate {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("is empty"));
        }
        if text.len() > LEN_MAX {
            return Err(Refusal::new(format!("has {} bytes", text.len())));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = doubled_brace(from_brace) {
                literal.extend(from_brace.chars().next());
                rest = after;
                continue;
            }
            let Some((name, after)) = from_brace
                .strip_prefix('{')
                .and_then(|from_name| from_name.split_once('}'))
            else {
                return Err(Refusal::new(
                    "a brace has no partner (one in the text is doubled)",
                ));
            };
            if !literal.is_empty() {
                parts.push(KeyPart::Literal(std::mem::take(&mut literal)));
            }
            parts.push(parse_placeholder(name)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(KeyPart::Literal(literal));
        }
        Ok(Self { parts })
    }
}

/// What follows a doubled brace, when `text` begins with one.
fn doubled_brace(text: &str) -> Option<&str> {
    text.strip_prefix("{{").or_else(|| text.strip_prefix("}}"))
}

/// Reads what stands between two braces.
fn parse_placeholder(name: &str) -> Result<KeyPart, Refusal> {
    match name {
        "client_id" => return Ok(KeyPart::ClientId),
        "topic" => return Ok(KeyPart::Topic),
        _ => {}
    }
    let Some(level) = name
        .strip_prefix("topic[")
        .and_then(|rest| rest.strip_suffix(']'))
    else {
        let name = name.escape_debug();
        return Err(Refusal::new(format!("nothing is known as {{{name}}}")));
    };
    // `parse` alone would let a plus sign through.
    let is_number = level.chars().all(|c| c.is_ascii_digit());
    match level.parse() {
        Ok(level) if is_number => Ok(KeyPart::TopicLevel(level)),
        _ => Err(Refusal::new(
            "the level of a topic is a number from 0 to 255",
        )),
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                KeyPart::ClientId => f.write_str("{client_id}")?,
                KeyPart::Literal(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                KeyPart::Topic => f.write_str("{topic}")?,
                KeyPart::TopicLevel(level) => write!(f, "{{topic[{level}]}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<KeyPart> {
        text.parse::<KeyTemplate>().unwrap().parts
    }

    fn literal(text: &str) -> KeyPart {
        KeyPart::Literal(text.to_owned())
    }

    fn refusal(text: &str) -> String {
        text.parse::<KeyTemplate>().unwrap_err().to_string()
    }

    #[test]
    fn template_is_split_into_its_parts() {
        assert_eq!(parts("{client_id}"), [KeyPart::ClientId]);
        assert_eq!(parts("{topic}"), [KeyPart::Topic]);
        assert_eq!(parts("{topic[1]}"), [KeyPart::TopicLevel(1)]);
        assert_eq!(parts("plant 7"), [literal("plant 7")]);
        assert_eq!(
            parts("p/{topic[255]}{client_id}-x"),
            [
                literal("p/"),
                KeyPart::TopicLevel(255),
                KeyPart::ClientId,
                literal("-x")
            ]
        );
    }

    #[test]
    fn doubled_braces_are_text() {
        assert_eq!(parts("{{topic}}"), [literal("{topic}")]);
        assert_eq!(
            parts("a{{{topic}}}b"),
            [literal("a{"), KeyPart::Topic, literal("}b")]
        );
    }

    #[test]
    fn template_is_refused_with_what_is_wrong_about_it() {
        assert_eq!(refusal(""), "is empty");
        assert_eq!(refusal("{username}"), "nothing is known as {username}");
        assert_eq!(refusal("{ topic }"), "nothing is known as { topic }");
        assert_eq!(refusal("{}"), "nothing is known as {}");
        for text in [
            "{topic[]}",
            "{topic[+1]}",
            "{topic[-1]}",
            "{topic[256]}",
            "{topic[a]}",
        ] {
            assert_eq!(
                refusal(text),
                "the level of a topic is a number from 0 to 255",
                "{text}"
            );
        }
        for text in ["{topic", "topic}", "a{", "}", "{{}"] {
            let expected = "a brace has no partner (one in the text is doubled)";
            assert_eq!(refusal(text), expected, "{text}");
        }
        assert_eq!(refusal(&"x".repeat(257)), "has 257 bytes");
    }

    proptest! {
        #[test]
        fn template_reads_back_equal_when_printed(
            text in "([{}a/]|\\{topic\\}|\\{topic\\[[0-9]\\]\\}|\\{client_id\\}){0,12}",
        ) {
            if let Ok(template) = text.parse::<KeyTemplate>() {
                prop_assert!(!template.parts().is_empty());
                prop_assert_eq!(template.to_string().parse(), Ok(template));
            }
        }
    }
}
