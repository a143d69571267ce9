//! The configuration as its callers see it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod config {
    mod boards;
    mod bridge;
    mod consequences;
    mod defaults;
    mod every_key;
    mod files;
    mod keys;
    mod listeners;
    mod logs;
    mod properties;
    mod reference;
    mod round_trip;
    mod values;
}

use std::collections::BTreeSet;

use firmware_config::{Checks, Config, Machine};
use toml::{Table, Value};

/// Stands for the rules that the caller brings along: `#` only at the end of a topic filter.
const CHECKS: Checks = Checks {
    topic_filter: check_topic_filter,
};

fn check_topic_filter(text: &str) -> Result<(), String> {
    match text.find('#') {
        _ if text.is_empty() => Err("is empty".to_owned()),
        Some(at) if at + 1 < text.len() => Err("# stands only at the end".to_owned()),
        _ => Ok(()),
    }
}

/// A configuration that is expected to be right.
#[track_caller]
fn config(text: &str) -> Config {
    match Config::from_toml(text, "t.toml", &CHECKS, &Machine::default()) {
        Ok(config) => config,
        Err(problems) => panic!("refused:\n{problems}\nin:\n{text}"),
    }
}

/// A text that is expected to be wrong, and the whole report on it, line by line. The empty first
/// line that a raw string begins with does not count.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let found = report(text);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

/// The whole report on a text that is expected to be wrong.
#[track_caller]
fn report(text: &str) -> String {
    match Config::from_toml(text, "t.toml", &CHECKS, &Machine::default()) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

/// The paths of all values in a file, as [`firmware_config::keys`] writes them.
fn leaf_paths(file: &Table) -> BTreeSet<String> {
    fn collect(table: &Table, prefix: &str, paths: &mut BTreeSet<String>) {
        for (name, value) in table {
            let path = format!("{prefix}{name}");
            match value {
                Value::Table(table) => collect(table, &format!("{path}."), paths),
                Value::Array(elements) if elements.iter().any(Value::is_table) => elements
                    .iter()
                    .filter_map(Value::as_table)
                    .for_each(|table| collect(table, &format!("{path}[]."), paths)),
                _ => {
                    paths.insert(path);
                }
            }
        }
    }
    let mut paths = BTreeSet::new();
    collect(file, "", &mut paths);
    paths
}
