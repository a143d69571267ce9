//! `docs/configuration.md` against the list of keys: each says what the other does.

use std::collections::{BTreeMap, BTreeSet};

use firmware_config::{Availability, Config, Key, Machine, keys};
use toml::Table;

use crate::{CHECKS, leaf_paths};

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The rows whose first cell is a key, by the key; the other cells in their order.
fn rows() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut rows = BTreeMap::new();
    for line in REFERENCE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (key, cells) = cells.split_first().expect("a row has cells");
        let before = rows.insert(key.trim_matches('`'), cells.to_vec());
        assert_eq!(before, None, "{key} has one row");
    }
    rows
}

/// A default as the reference prints it: values as code, words as words.
fn printed_default(key: &Key) -> String {
    match format!("value = {}", key.default).parse::<Table>() {
        Ok(_) => format!("`{}`", key.default),
        Err(_) => key.default.clone(),
    }
}

#[test]
fn every_key_has_a_row_and_every_row_a_key() {
    let described: BTreeSet<_> = rows().into_keys().map(str::to_owned).collect();
    let known: BTreeSet<_> = keys().into_iter().map(|key| key.path).collect();
    assert_eq!(described, known);
}

#[test]
fn rows_say_what_is_allowed_and_what_holds_by_default() {
    let rows = rows();
    for key in keys() {
        let cells = &rows[key.path.as_str()];
        match key.availability {
            Availability::Available => {
                let [default, allowed, meaning] = cells[..] else {
                    panic!("{} has four cells: {cells:?}", key.path);
                };
                assert_eq!(default, printed_default(&key), "default of {}", key.path);
                assert_eq!(allowed, key.allowed, "what {} may be", key.path);
                assert!(meaning.ends_with('.'), "{} is explained", key.path);
            }
            Availability::Later => assert_eq!(cells.len(), 1, "{}: {cells:?}", key.path),
        }
    }
}

/// The examples, each a whole file.
fn examples() -> Vec<&'static str> {
    let blocks = REFERENCE.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or(block))
        .collect()
}

#[test]
fn every_example_is_accepted() {
    assert!(!examples().is_empty());
    for example in examples() {
        if let Err(problems) = Config::from_toml(example, "example", &CHECKS, &Machine::default()) {
            panic!("{problems}\nin:\n{example}");
        }
    }
}

#[test]
fn every_key_stands_in_an_example() {
    let paths = examples()
        .into_iter()
        .flat_map(|example| leaf_paths(&example.parse().unwrap()));
    let available = keys()
        .into_iter()
        .filter(|key| key.availability == Availability::Available);
    assert_eq!(
        paths.collect::<BTreeSet<_>>(),
        available.map(|key| key.path).collect()
    );
}
