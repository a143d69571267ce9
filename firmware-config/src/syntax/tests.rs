//! Tests of the syntax reader: what it repairs to go on, and what it says of it.

use super::*;

/// The problems of a text, and what is left of it without blank lines.
fn repaired(text: &str) -> (Vec<String>, String) {
    let report = Report::new("f", text);
    let left = without_errors(text, &report).into_owned();
    assert!(
        DeTable::parse(&left).is_ok(),
        "what is left of {text:?} is TOML: {left:?}"
    );
    let problems = match report.verdict(Some(())) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    };
    let lines: Vec<_> = left
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    (problems, lines.join("\n"))
}

#[track_caller]
fn check(text: &str, problems: &[&str], left: &str) {
    let (found, found_left) = repaired(text);
    assert_eq!(found, problems);
    assert_eq!(found_left, left);
}

#[test]
fn nothing_is_blanked_when_nothing_is_wrong() {
    let text = "a = [\n 1,\n]\n\n[b]\nc = { d = 1 }";
    check(text, &[], "a = [\n 1,\n]\n[b]\nc = { d = 1 }");
    check("", &[], "");
}

#[test]
fn value_without_quotes_costs_its_statement_only() {
    check(
        "a = 1\nbind = 127.0.0.1:1883\nc = 3",
        &["f:2:13: syntax error: invalid float (in `127.0.0.1:1883`)"],
        "a = 1\nc = 3",
    );
}

#[test]
fn every_broken_statement_is_reported_once() {
    check(
        "a = x\nb = 1\nname abc\nc = \"z\nd = 4\ne = 01",
        &[
            "f:1:5: syntax error: string values must be quoted, expected literal string (in `x`)",
            "f:3:6: syntax error: key with no value, expected `=` (in `name abc`)",
            "f:4:7: syntax error: invalid basic string, expected `\"` (in `\"z`)",
            "f:6:5: syntax error: unexpected leading zero (in `01`)",
        ],
        "b = 1\nd = 4",
    );
}

#[test]
fn open_list_ends_before_the_next_statement() {
    check(
        "a = [1, 2\nc = 3\n[x]\ny = 1",
        &[
            "f:2:1: syntax error: missing comma between array elements, expected `,` (in `[1, \
             2` of line 1)",
        ],
        "c = 3\n[x]\ny = 1",
    );
    check(
        "a = { b = 1\nc = 3\n[x]\ny = 1",
        &[
            "f:2:1: syntax error: missing comma between key-value pairs, expected `,` (in `{ b \
             = 1` of line 1)",
        ],
        "c = 3\n[x]\ny = 1",
    );
}

#[test]
fn open_text_ends_before_the_next_statement() {
    check(
        "a = '''one\ntwo\n\nc = 3\n",
        &[
            "f:5:1: syntax error: invalid multi-line literal string, expected `'` (in `'''one` \
             of line 1)",
        ],
        "c = 3",
    );
}

#[test]
fn missing_comma_costs_the_whole_list() {
    check(
        "a = [\n  \"x\"\n  \"y\",\n]\nb = 1",
        &[
            "f:3:3: syntax error: missing comma between array elements, expected `,` (in `[` \
             of line 1)",
        ],
        "b = 1",
    );
}

#[test]
fn table_over_several_lines_is_one_statement() {
    check(
        "a = {\n  b = 1,\n  c = x,\n  d = y,\n}\ne = 1",
        &[
            "f:3:7: syntax error: string values must be quoted, expected literal string (in `x`)",
            "f:4:7: syntax error: string values must be quoted, expected literal string (in `y`)",
        ],
        "e = 1",
    );
}

#[test]
fn broken_header_takes_its_table_with_it() {
    check(
        "a = 1\n[x\ny = 1\n[z]\nf = 2",
        &["f:2:3: syntax error: unclosed table, expected `]` (in `[x`)"],
        "a = 1\n[z]\nf = 2",
    );
}

#[test]
fn duplicate_key_costs_the_second_statement() {
    check(
        "a = 1\na = [\n  2,\n]\nb = 3",
        &["f:2:1: syntax error: duplicate key (in `a`)"],
        "a = 1\nb = 3",
    );
    check(
        "[x]\ny = 1\n[x]\nz = 1\n[w]",
        &["f:3:2: syntax error: duplicate key (in `x`)"],
        "[x]\ny = 1\n[w]",
    );
}

#[test]
fn reading_ends_when_everything_is_broken() {
    let text = "x\n".repeat(ROUNDS_MAX + 1);
    let (problems, left) = repaired(&text);
    assert_eq!(problems.len(), ROUNDS_MAX + 1);
    assert_eq!(
        problems.last().map(String::as_str),
        Some("f:51:2: syntax error: more than 50 syntax errors; the rest was not read")
    );
    assert_eq!(left, "");
}
