//! Collects problems while a text is read, and knows where each byte of the text stands.
//!
//! Invariants: adding a problem never stops the reading; a position is computed from a byte
//! offset by one binary search and one count within the line.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::problem::{Position, Problem, Problems};

/// The problems of one text, in the making.
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// Byte offset at which each line begins.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    complete: Cell<bool>,
    misplaced: RefCell<BTreeSet<String>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            text,
            line_starts,
            problems: RefCell::new(Vec::new()),
            complete: Cell::new(true),
            misplaced: RefCell::default(),
        }
    }

    /// Where the byte at `offset` stands; an offset past the end is the end.
    pub(crate) fn position(&self, offset: usize) -> Position {
        // A file may begin with a byte order mark, which no editor counts.
        let mark = if self.text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let line_index = self.line_starts.partition_point(|start| *start <= offset) - 1;
        let start = self.line_starts.get(line_index).copied().unwrap_or(0);
        let start = if line_index == 0 { mark } else { start };
        let before = self.text.get(start..offset.min(self.text.len()));
        let column = before.map_or(0, |before| before.chars().count());
        Position {
            line: count_from_one(line_index),
            column: count_from_one(column),
        }
    }

    /// Adds a problem with the key at `path`, found at `offset`.
    pub(crate) fn problem(&self, offset: usize, path: &str, message: String) {
        self.problem_at(self.position(offset), path, message);
    }

    /// Adds a problem with the key at `path`, found at a known position.
    pub(crate) fn problem_at(&self, position: Position, path: &str, message: String) {
        self.problems.borrow_mut().push(Problem {
            position,
            key: path.to_owned(),
            message,
        });
    }

    /// Adds a syntax error: from now on, what is absent may only be unreadable.
    pub(crate) fn syntax_error(&self, offset: usize, message: String) {
        self.complete.set(false);
        self.problem(offset, "", message);
    }

    /// Whether the text could be read to the last key, so that what is not found is not there.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Notes that a key stands in a table where it does not belong, so that it is not missed where
    /// it does.
    pub(crate) fn misplaced(&self, name: &str) {
        self.misplaced.borrow_mut().insert(name.to_owned());
    }

    /// Whether a key stands somewhere else, as far as tables were looked at.
    pub(crate) fn is_misplaced(&self, name: &str) -> bool {
        self.misplaced.borrow().contains(name)
    }

    /// The verdict on what was read: `None` stands for what could not be built, and then at least
    /// one problem says why.
    pub(crate) fn verdict<T>(self, read: Option<T>) -> Result<T, Problems> {
        let problems = self.problems.into_inner();
        match read {
            Some(read) if problems.is_empty() => Ok(read),
            _ => Err(Problems::new(self.file, problems)),
        }
    }
}

/// Turns an index into the number that people count with.
fn count_from_one(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str, offset: usize) -> (u32, u32) {
        let Position { line, column } = Report::new("f", text).position(offset);
        (line, column)
    }

    #[test]
    fn position_counts_lines_and_characters_from_one() {
        let text = "a = 1\r\nbü = 2\n\nc";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 7), (2, 1));
        assert_eq!(
            position(text, 11),
            (2, 4),
            "the umlaut is one character of two bytes"
        );
        assert_eq!(position(text, 15), (3, 1));
        assert_eq!(position(text, 16), (4, 1));
        assert_eq!(position(text, 17), (4, 2), "the end of the text");
    }

    #[test]
    fn position_does_not_count_a_byte_order_mark() {
        assert_eq!(position("\u{feff}a = 1\nb", 3), (1, 1));
        assert_eq!(position("\u{feff}a = 1\nb", 9), (2, 1));
        assert_eq!(position("", 0), (1, 1));
    }
}
