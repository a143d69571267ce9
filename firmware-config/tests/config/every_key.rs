//! What holds for every key alike, by the list of keys: that it is read, what it may be, and what
//! holds without it.

use firmware_config::{Availability, Config, Key, Machine, format_duration, keys, parse_duration};
use toml::{Table, Value};

use crate::{CHECKS, config, leaf_paths, report};

/// A file with every key of this version.
fn every_key() -> Table {
    include_str!("../fixtures/every-key.toml").parse().unwrap()
}

/// The element of a list that the fixture has a key in: an interval and a linger exclude each other.
fn element(path: &str) -> usize {
    usize::from(path == "log[].linger")
}

/// The table at the head of `path`, in its element where it is a list, and the last name.
fn parent<'a, 'p>(file: &'a mut Table, path: &'p str) -> (&'a mut Table, &'p str) {
    let element = element(path);
    let Some((head, rest)) = path.split_once('.') else {
        return (file, path);
    };
    let table = match head.strip_suffix("[]") {
        Some(name) => file[name].as_array_mut().unwrap()[element]
            .as_table_mut()
            .unwrap(),
        None => file[head].as_table_mut().unwrap(),
    };
    parent(table, rest)
}

fn with(path: &str, value: Value) -> String {
    let mut file = every_key();
    let (table, name) = parent(&mut file, path);
    table.insert(name.to_owned(), value);
    toml::to_string(&file).unwrap()
}

fn without(path: &str) -> String {
    let mut file = every_key();
    let (table, name) = parent(&mut file, path);
    assert!(table.remove(name).is_some(), "{path} stands in the fixture");
    toml::to_string(&file).unwrap()
}

fn available() -> impl Iterator<Item = Key> {
    keys()
        .into_iter()
        .filter(|key| key.availability == Availability::Available)
}

/// A default or the end of a range as a TOML value, where it is none in words.
fn value(text: &str) -> Option<Value> {
    let file: Table = format!("value = {text}").parse().ok()?;
    file.get("value").cloned()
}

/// The path as problems print it, with the element where it is a list.
fn in_element(path: &str) -> String {
    path.replace("[]", &format!("[{}]", element(path)))
}

#[test]
fn taking_away_any_key_changes_the_configuration_or_is_refused() {
    let all = config(&toml::to_string(&every_key()).unwrap());
    for key in available() {
        // With the one kind that there is, nothing else can be said.
        if key.path == "listener[].kind" {
            continue;
        }
        let text = without(&key.path);
        match Config::from_toml(&text, "t.toml", &CHECKS, &Machine::default()) {
            Ok(config) => assert_ne!(config, all, "{} is read", key.path),
            Err(problems) => {
                let is_named = problems
                    .as_slice()
                    .iter()
                    .any(|p| p.key == in_element(&key.path));
                let is_required = key.default.contains("required");
                let opens_network = key.path == "listener[].allow_anonymous";
                assert!(
                    is_required && is_named || opens_network,
                    "{}: {problems}",
                    key.path
                );
            }
        }
    }
}

#[test]
fn default_of_every_key_is_the_one_that_is_listed() {
    for key in available() {
        if let Some(default) = value(&key.default) {
            let explicit = Config::from_toml(
                &with(&key.path, default),
                "t.toml",
                &CHECKS,
                &Machine::default(),
            );
            let absent =
                Config::from_toml(&without(&key.path), "t.toml", &CHECKS, &Machine::default());
            assert_eq!(explicit.is_ok(), absent.is_ok(), "{}", key.path);
            if let (Ok(explicit), Ok(absent)) = (explicit, absent) {
                assert_eq!(explicit, absent, "{}", key.path);
            }
        }
    }
}

/// Both ends of a range and what lies just outside of it, from the words of the list.
fn ends(allowed: &str) -> Option<[Value; 4]> {
    let (form, range) = allowed.split_once(" from ")?;
    let (min, max) = range.split_once(" to ")?;
    let (min, max) = (min.trim_matches('"'), max.trim_matches('"'));
    let (below, min, max, above) = match form {
        "an integer" => {
            let (min, max): (i64, i64) = (min.parse().ok()?, max.parse().ok()?);
            return Some([min - 1, min, max, max + 1].map(Value::Integer));
        }
        "a size" => {
            let size = |text: &str| text.parse().map(firmware_config::ByteCount::get);
            let (below, above) = (size(min).ok()? - 1, size(max).ok()? + 1);
            (format!("{below}B"), min, max, format!("{above}B"))
        }
        "a duration" => {
            let millisecond = std::time::Duration::from_millis(1);
            let below = parse_duration(min).ok()? - millisecond;
            let above = parse_duration(max).ok()? + millisecond;
            (format_duration(below), min, max, format_duration(above))
        }
        _ => return None,
    };
    Some([below, min.to_owned(), max.to_owned(), above].map(Value::String))
}

#[test]
fn both_ends_of_every_range_are_allowed_and_nothing_beyond() {
    let mut ranges = 0;
    for key in available() {
        let Some([below, min, max, above]) = ends(&key.allowed) else {
            continue;
        };
        ranges += 1;
        let is_out_of_range = |value: Value| {
            let found = Config::from_toml(
                &with(&key.path, value),
                "t.toml",
                &CHECKS,
                &Machine::default(),
            );
            found.is_err_and(|problems| {
                problems.as_slice().iter().any(|problem| {
                    problem.key == in_element(&key.path) && problem.message.ends_with(&key.allowed)
                })
            })
        };
        assert!(is_out_of_range(below), "below {}", key.path);
        assert!(!is_out_of_range(min), "least {}", key.path);
        assert!(!is_out_of_range(max), "most {}", key.path);
        assert!(is_out_of_range(above), "above {}", key.path);
    }
    assert_eq!(ranges, 25, "every range was read from the list");
}

#[test]
fn value_of_another_type_is_refused_at_every_key() {
    for key in available() {
        for value in [Value::Float(0.5), Value::Table(Table::new())] {
            let found = report(&with(&key.path, value));
            let expected = format!(": {}: found ", in_element(&key.path));
            assert!(found.contains(&expected), "{}: {found}", key.path);
        }
    }
}

#[test]
fn every_key_of_later_versions_is_refused_by_name() {
    for key in keys() {
        if key.availability == Availability::Available {
            continue;
        }
        let found = report(&with(&key.path, Value::Boolean(true)));
        let expected = format!(": {}: not available in this version", in_element(&key.path));
        let (_place, problem) = found.split_once(": ").expect("a place and a problem");
        assert_eq!(format!(": {problem}"), expected);
    }
}

#[test]
fn effective_configuration_prints_every_key() {
    let printed = config(&toml::to_string(&every_key()).unwrap()).explain();
    let paths = leaf_paths(&printed.parse().unwrap());
    assert_eq!(paths, available().map(|key| key.path).collect());
}
