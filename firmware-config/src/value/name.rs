//! What the name types have in common: a text of some ASCII characters and a largest length.
//!
//! Each name is a type of its own, so that a log's name cannot be passed where a route's belongs;
//! what differs between them (characters, length, more rules) stands in their own files.

use super::Refusal;

/// Checks length and characters; `allows` is asked for every character.
pub(super) fn check_characters(
    text: &str,
    len_max: usize,
    allows: fn(char) -> bool,
) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("is empty"));
    }
    if let Some(other) = text.chars().find(|c| !allows(*c)) {
        return Err(Refusal::new(format!("{other:?} is not allowed in it")));
    }
    // Every allowed character is ASCII, so bytes are characters here.
    if text.len() > len_max {
        return Err(Refusal::new(format!("has {} characters", text.len())));
    }
    Ok(())
}

/// The characters that Kafka allows in its own names.
pub(super) const fn is_kafka_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The characters of names that we put into paths, metrics and command lines.
pub(super) const fn is_plain_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
}

/// Gives a name type its conversions; the type itself and its `check` stand where it is used.
macro_rules! impl_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::value::Refusal;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(super) use impl_name;
