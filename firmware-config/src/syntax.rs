//! Reads TOML that may be broken, so that the rest of the file is judged as well.
//!
//! A statement (a key with its value, or a header with all that stands under it) with a syntax
//! error is reported and blanked, and the text is read again, until nothing is wrong. Blanks keep
//! every other byte where it was, so positions stay right. What is absent afterwards may have
//! been blanked; [`Report::is_complete`] tells.
//!
//! Invariants: the text returned is valid TOML; every round blanks at least one character, so
//! reading ends; there are at most [`ROUNDS_MAX`] rounds.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::report::Report;
use crate::written::shortened;

/// Broken statements that are looked for. A file with more of them is no TOML at all.
const ROUNDS_MAX: usize = 50;

/// Reports all syntax errors and returns the text without the statements that contain them.
pub(crate) fn without_errors<'t>(text: &'t str, report: &Report<'_>) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    // What the parser says again about the same place is a consequence.
    let mut reported = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let (tree, mut errors) = DeTable::parse_recoverable(&text);
        errors.sort_by_key(offset);
        let Some(first) = errors.first() else {
            return text;
        };
        let broken = statement_at(&text, tree.get_ref(), offset(first));
        // Errors in other statements are looked at again when this one is gone.
        for error in &errors {
            let at = offset(error);
            if (at == offset(first) || broken.contains(&at)) && reported.insert(at) {
                report.syntax_error(at, describe(&text, tree.get_ref(), error, report));
            }
        }
        text = Cow::Owned(blanked(&text, broken));
    }
    if let Err(error) = DeTable::parse(&text) {
        let message =
            format!("syntax error: more than {ROUNDS_MAX} syntax errors; the rest was not read");
        report.syntax_error(offset(&error), message);
        return Cow::Borrowed("");
    }
    text
}

fn offset(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Says what is wrong, with the text in which it is.
fn describe(text: &str, tree: &DeTable<'_>, error: &Error, report: &Report<'_>) -> String {
    let at = offset(error);
    let message = error.message().trim_end_matches(", expected nothing");
    let own_span = error.span().filter(|span| !span.is_empty());
    let span = match statement_around(tree, at) {
        // Of a list or table only the piece that is wrong, if the parser knows it.
        Some(Statement { value, .. }) if !value.is_empty() => {
            let is_nested = text
                .get(value.start..)
                .is_some_and(|t| t.starts_with(['[', '{']));
            own_span.filter(|_| is_nested).unwrap_or(value)
        }
        _ => own_span.unwrap_or_else(|| line_around(text, at)),
    };
    let written = text.get(span.clone()).unwrap_or_default();
    let first_line = written.lines().next().unwrap_or_default().trim();
    let (line, error_line) = (report.position(span.start).line, report.position(at).line);
    match first_line {
        "" => format!("syntax error: {message}"),
        _ if line == error_line => {
            format!("syntax error: {message} (in `{}`)", shortened(first_line))
        }
        _ => format!(
            "syntax error: {message} (in `{}` of line {line})",
            shortened(first_line)
        ),
    }
}

/// Replaces everything but line ends in `range` by blanks.
fn blanked(text: &str, range: Range<usize>) -> String {
    let bytes = text.bytes().enumerate().map(|(at, byte)| match byte {
        b'\n' => byte,
        _ if range.contains(&at) => b' ',
        _ => byte,
    });
    // Whole lines were blanked, so no character was torn; were one, it would only be unreadable.
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// A key with its value, as the parser understood it.
struct Statement {
    key_start: usize,
    value: Range<usize>,
}

/// The line around `at`, with its end.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |n| n + 1);
    let end = text
        .get(at..)
        .and_then(|after| after.find('\n'))
        .map_or(text.len(), |n| at + n + 1);
    start..end
}

/// The whole lines that the statement around `at` takes. Never blank unless the text is.
fn statement_at(text: &str, tree: &DeTable<'_>, at: usize) -> Range<usize> {
    if let Some(statement) = statement_around(tree, at) {
        return statement.lines(text);
    }
    let line = line_around(text, at);
    let from_line = text.get(line.start..).unwrap_or_default();
    if from_line.trim().is_empty() {
        // An error at the end of the text belongs to the last thing that is there.
        let end = text.trim_end().len();
        let last_line = line_around(text, end.saturating_sub(1));
        return if end == 0 || at < end {
            0..text.len()
        } else {
            last_line
        };
    }
    if begins_header(from_line) {
        // What stands under a broken header belongs to nobody.
        let next = starts_of_lines(text, line.end..text.len())
            .find(|start| text.get(*start..).is_some_and(begins_header));
        return line.start..next.unwrap_or(text.len());
    }
    // A key that is there twice is once in the tree: read from here, this one is the first.
    let (tree, _) = DeTable::parse_recoverable(from_line);
    match statement_around(tree.get_ref(), at - line.start) {
        Some(Statement { key_start, value }) => {
            let value = value.start + line.start..value.end + line.start;
            Statement {
                key_start: key_start + line.start,
                value,
            }
            .lines(text)
        }
        None => line,
    }
}

impl Statement {
    /// The whole lines that this statement takes. A value that was never closed swallows what
    /// follows: it ends before the next line that looks like the beginning of something.
    fn lines(&self, text: &str) -> Range<usize> {
        let start = line_around(text, self.key_start).start;
        let first_line_end = line_around(text, self.value.start).end;
        let end = line_around(text, self.value.end).end;
        let begins = |begins: fn(&str) -> bool| {
            starts_of_lines(text, first_line_end..end)
                .find(|start| text.get(*start..).is_some_and(begins))
        };
        if self.looks_closed(text) && begins(begins_header).is_none() {
            return start..end;
        }
        start..begins(begins_statement).unwrap_or(end)
    }

    /// Whether the value ends with the counterpart of what it begins with.
    fn looks_closed(&self, text: &str) -> bool {
        let value = text.get(self.value.clone()).unwrap_or_default();
        let closing = match value.chars().next() {
            Some('[') => ']',
            Some('{') => '}',
            Some(other) => other,
            None => return false,
        };
        value.len() > 1 && value.ends_with(closing)
    }
}

/// The offsets in `range` at which lines begin, if it begins with one.
fn starts_of_lines(text: &str, range: Range<usize>) -> impl Iterator<Item = usize> {
    let lines = text
        .get(range.clone())
        .unwrap_or_default()
        .split_inclusive('\n');
    lines.scan(range.start, |start, line| {
        let this = *start;
        *start += line.len();
        Some(this)
    })
}

/// Whether a line begins with a table's header.
fn begins_header(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default().trim_start();
    let name = line.trim_start_matches('[').trim_start();
    line.starts_with('[') && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Whether a line begins with a header, or a bare key and an equals sign.
fn begins_statement(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default().trim_start();
    let key_len = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .unwrap_or(line.len());
    let after = line.get(key_len..).unwrap_or_default().trim_start();
    begins_header(text) || key_len > 0 && after.starts_with('=')
}

/// The innermost statement of a table (not of an inline one) whose value reaches over `at`.
fn statement_around(table: &DeTable<'_>, at: usize) -> Option<Statement> {
    table.iter().find_map(|(key, value)| {
        let span = value.span();
        let is_header = key.span().start >= span.start;
        if is_header {
            return match value.get_ref() {
                DeValue::Table(table) => statement_around(table, at),
                DeValue::Array(tables) => tables
                    .iter()
                    .filter_map(|table| Spanned::get_ref(table).as_table())
                    .find_map(|table| statement_around(table, at)),
                _ => None,
            };
        }
        let key_start = key.span().start;
        (key_start <= at && at <= span.end).then_some(Statement {
            key_start,
            value: span,
        })
    })
}

#[cfg(test)]
mod tests;
