//! The shape of the file: which keys exist in which table, what each may be and what holds
//! without it.
//!
//! The tables are written next to the types that they become (`listener.rs`, `log.rs` …); here
//! stands what a key is, and [`keys`], which lists them all. The same descriptions make the text
//! of problems, the defaults and the reference in `docs/configuration.md` (a test compares them).
//!
//! Invariants: every key that is read is described; what is not described is refused.

use std::fmt;
use std::time::Duration;

use crate::value::{ByteCount, format_duration};

/// What the file may contain: one entry for each key, for those of later versions too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it stands: `limits.packet_bytes_max`, `log[].retention.bytes`. `[]` is a list.
    pub path: String,
    /// What may stand there; empty for a key of a later version.
    pub allowed: String,
    /// What holds when it is absent: a TOML value, or words; empty for a key of a later version.
    pub default: String,
    /// Whether this version reads it.
    pub availability: Availability,
}

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// This version reads it.
    Available,
    /// It is planned; until then it is refused by name, so that nobody relies on it in vain.
    Later,
}

/// Every key of the file, section by section in the order of the reference.
#[must_use]
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    crate::config::SCHEMA.list("", &mut keys);
    keys
}

/// The keys of one table.
pub(crate) struct Schema {
    /// Keys with single values.
    pub(crate) keys: &'static [&'static dyn Describe],
    /// Keys that are tables themselves.
    pub(crate) tables: &'static [&'static TableKey],
    /// Keys of later versions.
    pub(crate) later: &'static [&'static str],
}

/// A key whose value is a table, or a list of tables.
pub(crate) struct TableKey {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) schema: &'static Schema,
}

/// How often a table may stand in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `[name]`
    One,
    /// `[[name]]`
    List,
}

impl Schema {
    /// The names of all keys that may stand in this table.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let tables = self.tables.iter().map(|table| table.name);
        self.keys.iter().map(|key| key.name()).chain(tables)
    }

    /// Where in the file a key of this name has its only place, in words that follow "it belongs".
    pub(crate) fn home_of(&self, name: &str) -> Option<String> {
        let mut homes = Vec::new();
        self.find(
            name,
            "",
            "at the top of the file, before the first table",
            &mut homes,
        );
        if homes.len() == 1 { homes.pop() } else { None }
    }

    fn find(&self, name: &str, path: &str, place: &str, homes: &mut Vec<String>) {
        if self.names().any(|known| known == name) {
            homes.push(place.to_owned());
        }
        for table in self.tables {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{}", table.name);
            let place = match table.shape {
                Shape::List => format!("in a `[[{path}]]`"),
                Shape::One => format!("in `[{path}]`"),
            };
            table.schema.find(name, &path, &place, homes);
        }
    }

    fn list(&self, prefix: &str, keys: &mut Vec<Key>) {
        for key in self.keys {
            keys.push(Key {
                path: format!("{prefix}{}", key.name()),
                allowed: key.allowed(),
                default: key.default(),
                availability: Availability::Available,
            });
        }
        keys.extend(self.later.iter().map(|name| Key {
            path: format!("{prefix}{name}"),
            allowed: String::new(),
            default: String::new(),
            availability: Availability::Later,
        }));
        for table in self.tables {
            let list = if table.shape == Shape::List { "[]" } else { "" };
            table
                .schema
                .list(&format!("{prefix}{}{list}.", table.name), keys);
        }
    }
}

/// What problems and reference say about a key with a single value.
pub(crate) trait Describe: Sync {
    fn name(&self) -> &'static str;
    /// What may stand there, in words that follow "allowed:".
    fn allowed(&self) -> String;
    /// What holds without it.
    fn default(&self) -> String;
}

/// A size in bytes.
pub(crate) struct BytesKey {
    pub(crate) name: &'static str,
    pub(crate) min: ByteCount,
    pub(crate) max: ByteCount,
    pub(crate) default: ByteCount,
}

impl Describe for BytesKey {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        allowed_sizes(self.min, self.max)
    }

    fn default(&self) -> String {
        format!(r#""{}""#, self.default)
    }
}

/// A size in bytes without which something else holds than another size.
pub(crate) struct OptionalBytesKey {
    pub(crate) name: &'static str,
    pub(crate) min: ByteCount,
    pub(crate) max: ByteCount,
    /// As in the reference: words.
    pub(crate) default: &'static str,
}

impl Describe for OptionalBytesKey {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        allowed_sizes(self.min, self.max)
    }

    fn default(&self) -> String {
        self.default.to_owned()
    }
}

fn allowed_sizes(min: ByteCount, max: ByteCount) -> String {
    format!(r#"a size from "{min}" to "{max}""#)
}

/// A number of things.
pub(crate) struct CountKey<T> {
    pub(crate) name: &'static str,
    pub(crate) min: T,
    pub(crate) max: T,
    pub(crate) default: T,
}

impl<T: fmt::Display + Sync> Describe for CountKey<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        format!("an integer from {} to {}", self.min, self.max)
    }

    fn default(&self) -> String {
        self.default.to_string()
    }
}

/// A span of time.
pub(crate) struct DurationKey {
    pub(crate) name: &'static str,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) default: Duration,
}

impl Describe for DurationKey {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        let (min, max) = (format_duration(self.min), format_duration(self.max));
        format!(r#"a duration from "{min}" to "{max}""#)
    }

    fn default(&self) -> String {
        format!(r#""{}""#, format_duration(self.default))
    }
}

/// Yes or no.
pub(crate) struct FlagKey {
    pub(crate) name: &'static str,
    pub(crate) default: bool,
}

impl Describe for FlagKey {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn default(&self) -> String {
        self.default.to_string()
    }
}

/// One of a few words.
pub(crate) struct ChoiceKey<T: 'static> {
    pub(crate) name: &'static str,
    /// The words and what they mean; the first is the default.
    pub(crate) choices: &'static [(&'static str, T)],
    /// Words of later versions.
    pub(crate) later: &'static [&'static str],
}

impl<T: Sync> Describe for ChoiceKey<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        let words: Vec<_> = self
            .choices
            .iter()
            .map(|(word, _)| format!(r#""{word}""#))
            .collect();
        words.join(" or ")
    }

    fn default(&self) -> String {
        self.choices
            .first()
            .map(|(word, _)| format!(r#""{word}""#))
            .unwrap_or_default()
    }
}

/// A text with rules of its own, or a list of such texts.
pub(crate) struct TextKey {
    pub(crate) name: &'static str,
    pub(crate) allowed: &'static str,
    /// As in the reference: a TOML value, or words.
    pub(crate) default: &'static str,
}

impl Describe for TextKey {
    fn name(&self) -> &'static str {
        self.name
    }

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }

    fn default(&self) -> String {
        self.default.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_key_is_described_twice() {
        let keys = keys();
        let paths: BTreeSet<_> = keys.iter().map(|key| &key.path).collect();
        assert_eq!(paths.len(), keys.len());
    }
}
