//! Prints pieces of the file in problems: on one line, without control characters, and never
//! much longer than a line of a terminal.

use toml::de::DeValue;

/// Text from the file, escaped and cut.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shortened = String::new();
    for c in text.chars().take(CHARS_MAX) {
        match c {
            // Quotes are harmless, and paths and filters with them stay readable.
            '"' | '\'' => shortened.push(c),
            _ => shortened.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(CHARS_MAX).is_some() {
        shortened.push('…');
    }
    shortened
}

/// A key as it stands in the file, in quotes where TOML wants them.
pub(crate) fn key_as_written(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) {
        shortened(name)
    } else {
        format!("\"{}\"", shortened(name))
    }
}

/// A value as it stands in the file; lists and tables by their kind.
pub(crate) fn value_as_written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", shortened(text)),
        DeValue::Integer(number) => shortened(&number.to_string()),
        DeValue::Float(number) => shortened(number.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut_when_it_would_break_the_line() {
        assert_eq!(shortened("sensors/#"), "sensors/#");
        assert_eq!(shortened("a\nb\u{1b}[1m\""), "a\\nb\\u{1b}[1m\"");
        assert_eq!(shortened(&"ü".repeat(60)), "ü".repeat(60));
        assert_eq!(shortened(&"ü".repeat(61)), format!("{}…", "ü".repeat(60)));
    }

    #[test]
    fn key_is_quoted_when_toml_would_want_it_quoted() {
        assert_eq!(key_as_written("packet_bytes-max2"), "packet_bytes-max2");
        assert_eq!(key_as_written("a b"), "\"a b\"");
        assert_eq!(key_as_written(""), "\"\"");
    }
}
