//! Reads one table of the file key by key, and reports what is wrong instead of stopping.
//!
//! How absence and fault are kept apart: a method returns `None` when a value is there and
//! refused; the problem is reported by then. Rules that compare values skip what is `None`, so
//! that one mistake is one problem. A key that is absent because its line could not be read, or
//! because it was misspelt or stands in another table, counts as refused for the same reason.
//!
//! Invariants: opening a section reports every key that its schema does not know; no method
//! panics, whatever the table contains.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::found::Found;
use crate::near_name::nearest;
use crate::problem::Located;
use crate::report::Report;
use crate::schema::{
    BytesKey, ChoiceKey, CountKey, Describe, DurationKey, FlagKey, OptionalBytesKey, Schema,
    TableKey, TextKey,
};
use crate::value::{ByteCount, Refusal, parse_duration};
use crate::written::{key_as_written, value_as_written};

type Value<'a> = Spanned<DeValue<'a>>;

/// A table that is being read.
pub(crate) struct Section<'a> {
    report: &'a Report<'a>,
    table: &'a DeTable<'a>,
    /// As in `log[1].retention`; empty for the whole file.
    path: String,
    /// Where the table begins: problems with what is missing in it stand there.
    offset: usize,
    /// Keys that are absent only because somebody misspelt them.
    meant: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(
        report: &'a Report<'a>,
        table: &'a DeTable<'a>,
        schema: &'static Schema,
    ) -> Self {
        Self::open(report, table, String::new(), 0, schema)
    }

    fn open(
        report: &'a Report<'a>,
        table: &'a DeTable<'a>,
        path: String,
        offset: usize,
        schema: &'static Schema,
    ) -> Self {
        let mut section = Self {
            report,
            table,
            path,
            offset,
            meant: BTreeSet::new(),
        };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !schema.names().any(|known| known == name) {
                let meant = section.refuse_key(name, key.span().start, schema);
                section.meant.extend(meant);
            }
        }
        section
    }

    /// Reports a key that this table does not have, and returns the one that was meant.
    fn refuse_key(&self, name: &str, at: usize, schema: &'static Schema) -> Option<&'static str> {
        let path = self.path_of(&key_as_written(name));
        if schema.later.contains(&name) {
            self.report
                .problem(at, &path, "not available in this version".to_owned());
            return None;
        }
        let meant = nearest(
            name,
            schema
                .names()
                .filter(|known| !self.table.contains_key(*known)),
        );
        let home = crate::config::SCHEMA.home_of(name);
        let advice = match (&home, meant) {
            (Some(home), _) => format!("it belongs {home}"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => {
                format!("allowed: {}", schema.names().collect::<Vec<_>>().join(", "))
            }
        };
        self.report
            .problem(at, &path, format!("unknown key; {advice}"));
        if home.is_some() {
            self.report.misplaced(name);
            return None;
        }
        meant
    }

    /// The path of a key of this table, as problems print it.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The path of this table.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether everything in the file could be read.
    pub(crate) fn is_complete(&self) -> bool {
        self.report.is_complete()
    }

    /// Whether the key stands in the file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Reports a value that is fine by itself and wrong together with others.
    pub(crate) fn conflict(&self, name: &str, message: String) {
        let at = self
            .table
            .get(name)
            .map_or(self.offset, |value| value.span().start);
        self.report.problem(at, &self.path_of(name), message);
    }

    /// Reports the absence of a key, unless it is absent for a reason that was reported already.
    pub(crate) fn missing(&self, key: &dyn Describe) {
        self.missing_for(self, key, "");
    }

    /// Reports the absence of a key of this table that another table makes necessary; the problem
    /// stands there.
    pub(crate) fn missing_for(&self, other: &Self, key: &dyn Describe, reason: &str) {
        if !self.is_absence_explained(key.name()) {
            let message = format!("missing{reason}; allowed: {}", key.allowed());
            self.report
                .problem(other.offset, &self.path_of(key.name()), message);
        }
    }

    /// Reports the absence of a list of tables.
    pub(crate) fn missing_table(&self, key: &TableKey) {
        let header = self.header(key.name);
        let message = format!("missing; allowed: at least one `[[{header}]]`");
        self.report
            .problem(self.offset, &self.path_of(key.name), message);
    }

    fn is_absence_explained(&self, name: &str) -> bool {
        let report = self.report;
        !report.is_complete() || report.is_misplaced(name) || self.meant.contains(name)
    }

    fn value(&self, name: &str) -> Found<&'a Value<'a>> {
        match self.table.get(name) {
            Some(value) => Found::Value(value),
            None if self.is_absence_explained(name) => Found::Refused,
            None => Found::Absent,
        }
    }

    fn refuse<T>(
        &self,
        key: &dyn Describe,
        value: &Value<'_>,
        reason: Option<&Refusal>,
    ) -> Found<T> {
        self.refuse_at(&self.path_of(key.name()), value, reason, &key.allowed());
        Found::Refused
    }

    fn refuse_at(&self, path: &str, value: &Value<'_>, reason: Option<&Refusal>, allowed: &str) {
        let found = value_as_written(value.get_ref());
        let reason = reason
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let message = format!("found {found}{reason}; allowed: {allowed}");
        self.report.problem(value.span().start, path, message);
    }

    fn locate<T>(&self, value: T, at: usize) -> Located<T> {
        Located {
            value,
            position: Some(self.report.position(at)),
        }
    }

    /// A size within its range.
    pub(crate) fn bytes(&self, key: &BytesKey) -> Option<ByteCount> {
        self.bytes_or(key, key.default)
    }

    /// A size within its range, or what the board has for it.
    pub(crate) fn bytes_or(&self, key: &BytesKey, default: ByteCount) -> Option<ByteCount> {
        self.size(key, key.min..=key.max).or(|| default)
    }

    /// A size within its range, if it is there.
    pub(crate) fn optional_bytes(&self, key: &OptionalBytesKey) -> Option<Option<ByteCount>> {
        self.size(key, key.min..=key.max).optional()
    }

    fn size(&self, key: &dyn Describe, range: RangeInclusive<ByteCount>) -> Found<ByteCount> {
        self.value(key.name())
            .and_then(|value| match parse_size(value) {
                Ok(bytes) if range.contains(&bytes) => Found::Value(bytes),
                Ok(_) => self.refuse(key, value, None),
                Err(reason) => self.refuse(key, value, reason.as_ref()),
            })
    }

    /// A size in a table of this one, without a word about it if it is absent or wrong: for what has
    /// to be known before that table is read.
    pub(crate) fn peek_bytes(&self, table: &TableKey, key: &BytesKey) -> Option<ByteCount> {
        let value = self.table.get(table.name)?.get_ref().get(key.name)?;
        let bytes = parse_size(value).ok()?;
        (key.min..=key.max).contains(&bytes).then_some(bytes)
    }

    /// A number within its range.
    pub(crate) fn count<T>(&self, key: &CountKey<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<u64> + Display + Sync,
    {
        self.count_or(key, key.default)
    }

    /// A number within its range, or what the board has for it.
    pub(crate) fn count_or<T>(&self, key: &CountKey<T>, default: T) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<u64> + Display + Sync,
    {
        let found = self.value(key.name).and_then(|value| {
            let number = value.get_ref().as_integer();
            let count = number
                .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
                .and_then(|number| T::try_from(number).ok())
                .filter(|count| *count >= key.min && *count <= key.max);
            match count {
                Some(count) => Found::Value(count),
                None => self.refuse(key, value, None),
            }
        });
        found.or(|| default)
    }

    /// A duration within its range.
    pub(crate) fn duration(&self, key: &DurationKey) -> Option<Duration> {
        let found = self.value(key.name).and_then(|value| {
            let Some(text) = value.get_ref().as_str() else {
                let no_unit = Refusal::new("a duration is a text with a unit");
                return self.refuse(key, value, Some(&no_unit));
            };
            match parse_duration(text) {
                Ok(duration) if duration >= key.min && duration <= key.max => {
                    Found::Value(duration)
                }
                Ok(_) => self.refuse(key, value, None),
                Err(reason) => self.refuse(key, value, Some(&reason)),
            }
        });
        found.or(|| key.default)
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &FlagKey) -> Option<bool> {
        let found = self
            .value(key.name)
            .and_then(|value| match value.get_ref().as_bool() {
                Some(flag) => Found::Value(flag),
                None => self.refuse(key, value, None),
            });
        found.or(|| key.default)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy + Sync>(&self, key: &ChoiceKey<T>) -> Option<T> {
        let found = self.value(key.name).and_then(|value| {
            let word = value.get_ref().as_str();
            if let Some((_, choice)) = key.choices.iter().find(|(name, _)| Some(*name) == word) {
                return Found::Value(Some(*choice));
            }
            let is_later = word.is_some_and(|word| key.later.contains(&word));
            let later = is_later.then(|| Refusal::new("not available in this version"));
            self.refuse(key, value, later.as_ref())
        });
        found.or(|| key.choices.first().map(|(_, choice)| *choice))?
    }

    /// A text that `parse` understands.
    pub(crate) fn text<T>(
        &self,
        key: &TextKey,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Found<Located<T>> {
        self.value(key.name).and_then(|value| {
            let Some(text) = value.get_ref().as_str() else {
                return self.refuse(key, value, None);
            };
            match parse(text) {
                Ok(parsed) => Found::Value(self.locate(parsed, value.span().start)),
                Err(reason) => self.refuse(key, value, Some(&reason)),
            }
        })
    }

    /// A list of texts that `parse` understands, none of them twice. Elements that are refused
    /// make the list refused, after all of them were looked at.
    pub(crate) fn texts<T: PartialEq>(
        &self,
        key: &TextKey,
        count_max: usize,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Found<Vec<Located<T>>> {
        self.value(key.name).and_then(|value| {
            let Some(elements) = value.get_ref().as_array() else {
                return self.refuse(key, value, None);
            };
            if elements.len() > count_max {
                let reason = Refusal::new(format!("of {} elements", elements.len()));
                return self.refuse(key, value, Some(&reason));
            }
            let mut texts: Vec<Located<T>> = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{}[{index}]", self.path_of(key.name));
                let Some(text) = self.element(&path, element, key, &parse) else {
                    continue;
                };
                match texts.iter().find(|other| **other == text) {
                    Some(first) => {
                        let reason = Refusal::new(format!("already in {}", first.place()));
                        self.refuse_at(&path, element, Some(&reason), key.allowed);
                    }
                    None => texts.push(text),
                }
            }
            if texts.len() == elements.len() {
                Found::Value(texts)
            } else {
                Found::Refused
            }
        })
    }

    /// One text of a list of texts.
    fn element<T>(
        &self,
        path: &str,
        element: &Value<'_>,
        key: &TextKey,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<Located<T>> {
        let parsed = element.get_ref().as_str().map(parse);
        match parsed {
            Some(Ok(parsed)) => Some(self.locate(parsed, element.span().start)),
            Some(Err(reason)) => {
                self.refuse_at(path, element, Some(&reason), key.allowed);
                None
            }
            None => {
                self.refuse_at(path, element, None, key.allowed);
                None
            }
        }
    }

    /// A table in this one.
    pub(crate) fn table(&self, key: &TableKey) -> Found<Self> {
        self.value(key.name)
            .and_then(|value| match value.get_ref() {
                DeValue::Table(table) => {
                    let path = self.path_of(key.name);
                    Found::Value(Self::open(
                        self.report,
                        table,
                        path,
                        value.span().start,
                        key.schema,
                    ))
                }
                _ => {
                    let allowed = format!("a table, `[{}]`", self.header(key.name));
                    self.refuse_at(&self.path_of(key.name), value, None, &allowed);
                    Found::Refused
                }
            })
    }

    /// A list of tables in this one.
    pub(crate) fn tables(&self, key: &TableKey, count_max: usize) -> Found<Vec<Self>> {
        self.value(key.name).and_then(|value| {
            let path = self.path_of(key.name);
            let header = self.header(key.name);
            let allowed = format!("1 to {count_max} tables, each `[[{header}]]`");
            let Some(elements) = value.get_ref().as_array() else {
                self.refuse_at(&path, value, None, &allowed);
                return Found::Refused;
            };
            if elements.is_empty() || elements.len() > count_max {
                let reason = Refusal::new(format!("of {} elements", elements.len()));
                self.refuse_at(&path, value, Some(&reason), &allowed);
                return Found::Refused;
            }
            let mut sections = Vec::with_capacity(elements.len());
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let at = element.span().start;
                if let DeValue::Table(table) = element.get_ref() {
                    sections.push(Self::open(self.report, table, path, at, key.schema));
                } else {
                    self.refuse_at(&path, element, None, &format!("a table, `[[{header}]]`"));
                }
            }
            Found::Value(sections)
        })
    }

    /// How a table in this one is headed in the file: paths without their indices.
    fn header(&self, name: &str) -> String {
        let path = self.path_of(name);
        let names = path
            .split('.')
            .map(|part| part.split('[').next().unwrap_or(part));
        names.collect::<Vec<_>>().join(".")
    }
}

/// A size as text with a unit or as a number of bytes; the error says why it is none, if that needs
/// saying.
fn parse_size(value: &Value<'_>) -> Result<ByteCount, Option<Refusal>> {
    match value.get_ref() {
        DeValue::String(text) => text.parse::<ByteCount>().map_err(Some),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map(ByteCount::new)
            .map_err(|_| None),
        _ => Err(None),
    }
}
