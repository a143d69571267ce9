//! What holds for any text: it is answered, and the answer can be printed.

use std::fmt::Write as _;

use firmware_config::{Availability, Config, Machine, keys};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{CHECKS, report};

const EVERY_KEY: &str = include_str!("../fixtures/every-key.toml");
const TEN_PROBLEMS: &str = include_str!("../fixtures/ten-problems.toml");

/// Asks for an answer and checks what holds for every answer.
fn check_answer(text: &str) {
    let Err(problems) = Config::from_toml(text, "t.toml", &CHECKS, &Machine::default()) else {
        return;
    };
    let list = problems.as_slice();
    assert!(!list.is_empty(), "a refusal has a reason");
    let lines = text.split('\n').count();
    assert!(
        list.iter()
            .all(|problem| (1..=lines).contains(&(problem.position.line as usize)))
    );
    assert!(
        list.windows(2)
            .all(|pair| pair[0].position <= pair[1].position),
        "sorted"
    );
    let printed = problems.to_string();
    assert_eq!(
        printed.lines().count(),
        list.len(),
        "one line each: {printed:?}"
    );
    assert!(
        printed.chars().all(|c| c == '\n' || !c.is_control()),
        "{printed:?}"
    );
}

/// Pieces of TOML in any order, so that the parser gets beyond the first character.
fn soup() -> impl Strategy<Value = String> {
    let names: Vec<String> = keys()
        .into_iter()
        .flat_map(|key| {
            key.path
                .replace("[]", "")
                .split('.')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let signs = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\n",
        "\n",
        " ",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\\",
        "\r",
        "\u{feff}",
        "0x",
        "-",
        "1",
        "true",
        "1979-05-27",
        "inf",
        "\u{1}",
        "é",
    ];
    let values = [
        "\"16MiB\"",
        "[\"a/#\"]",
        "64",
        "\"default\"",
        "\"127.0.0.1:1883\"",
        "\"10s\"",
    ];
    let piece = prop_oneof![
        3 => select(names),
        3 => select(signs.map(str::to_owned).to_vec()),
        1 => select(values.map(str::to_owned).to_vec()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// A good file after somebody's cat walked over the keyboard.
fn damaged() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<Index>(), 0..4usize, "[\\]\\[{}=\"', a\n]"), 1..8);
    edits.prop_map(|edits| {
        let mut chars: Vec<char> = EVERY_KEY.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check_answer(&text);
    }

    #[test]
    fn any_pieces_of_toml_are_answered(text in soup()) {
        check_answer(&text);
    }

    #[test]
    fn any_damage_to_a_file_is_answered(text in damaged()) {
        check_answer(&text);
    }

    #[test]
    fn mutated_name_of_a_key_is_refused(
        key in select(keys().into_iter()
            .filter(|key| key.availability == Availability::Available).collect::<Vec<_>>()),
        at in any::<Index>(),
        edit in 0..4usize,
        letter in proptest::char::range('a', 'z'),
    ) {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        let mut mutated: Vec<char> = name.chars().collect();
        let at = at.index(mutated.len());
        match edit {
            0 => mutated[at] = letter,
            1 => mutated.insert(at, letter),
            2 => drop(mutated.remove(at)),
            _ => mutated.swap(at, (at + 1) % name.len()),
        }
        let mutated: String = mutated.into_iter().collect();
        let siblings = keys().into_iter().map(|key| key.path);
        let path = if parent.is_empty() { mutated.clone() } else { format!("{parent}.{mutated}") };
        prop_assume!(!siblings.clone().any(|sibling| sibling == path));
        prop_assume!(!mutated.is_empty() && !["admin", "bridge", "limits", "listener", "log",
            "retention", "route", "storage"].contains(&&*mutated));
        let header = match parent {
            "" => String::new(),
            _ if parent.ends_with("[]") => format!("[[{}]]", parent.replace("[]", "")),
            _ => format!("[{}]", parent.replace("[]", "")),
        };
        let mut text = String::new();
        if parent == "log[].retention" {
            text.push_str("[[log]]\n");
        }
        writeln!(text, "{header}\n{mutated} = 1").unwrap();
        let found = report(&text);
        let expected = format!("{}: unknown key; ", path.replace("[]", "[0]"));
        prop_assert!(found.contains(&expected), "{text}{found}");
    }
}

#[test]
fn every_other_problem_is_reported_whichever_line_is_broken() {
    let whole: Vec<_> = problems_of(TEN_PROBLEMS);
    let lines: Vec<_> = TEN_PROBLEMS.lines().collect();
    for broken in 0..=lines.len() {
        let mut lines = lines.clone();
        lines.insert(broken, "this is no statement");
        let found = problems_of(&lines.join("\n"));
        // Whether the listener may be open is not known when a line could not be read.
        let expected = whole.iter().filter(|(key, _)| key != "listener[0].bind");
        let mut expected: Vec<_> = expected.cloned().collect();
        for (_, line) in &mut expected {
            *line += u32::from(*line as usize > broken);
        }
        let at = expected
            .iter()
            .filter(|(_, line)| *line as usize <= broken)
            .count();
        expected.insert(at, (String::new(), u32::try_from(broken).unwrap() + 1));
        assert_eq!(found, expected, "broken before line {}", broken + 1);
    }
}

/// Key and line of every problem.
fn problems_of(text: &str) -> Vec<(String, u32)> {
    let problems = Config::from_toml(text, "t.toml", &CHECKS, &Machine::default()).unwrap_err();
    let list = problems.as_slice().iter();
    list.map(|problem| (problem.key.clone(), problem.position.line))
        .collect()
}
