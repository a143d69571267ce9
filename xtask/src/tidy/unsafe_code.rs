//! `unsafe` stands only in files named `sys.rs`, one block a function, with its reason above it.
//!
//! An `unsafe` that is no block (an attribute, the word in a signature) needs a comment above it.

use super::Source;
use super::code::has_word;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let uses = source
            .code
            .lines()
            .filter(|(_, line)| has_word(line, "unsafe"));
        let uses: Vec<(usize, bool)> = uses
            .map(|(number, line)| (number, line.contains("unsafe {")))
            .collect();
        if source.path.ends_with("/sys.rs") {
            findings.extend(check_sys(source, &uses));
        } else {
            let outside = "unsafe outside a file named sys.rs";
            findings.extend(uses.iter().map(|&(number, _)| source.at(number, outside)));
        }
    }
    findings
}

/// `uses` are lines with `unsafe` and whether a block begins there.
fn check_sys(source: &Source, uses: &[(usize, bool)]) -> Vec<String> {
    let mut findings = Vec::new();
    for &(number, is_block) in uses {
        let wanted = if is_block { "SAFETY" } else { "//" };
        if !is_explained(source, number, wanted) {
            let message = format!("unsafe without a comment above it with {wanted}");
            findings.push(source.at(number, &message));
        }
    }
    for function in source.code.functions() {
        let lines = function.first_line..=function.last_line;
        if uses
            .iter()
            .filter(|(line, is_block)| *is_block && lines.contains(line))
            .count()
            > 1
        {
            let message = format!("{} has more than one unsafe block", function.name);
            findings.push(source.at(function.first_line, &message));
        }
    }
    findings
}

/// Whether the comments and attributes directly above the line have the word.
fn is_explained(source: &Source, number: usize, wanted: &str) -> bool {
    let lines: Vec<&str> = source.text.lines().take(number).collect();
    let mut above = lines.iter().rev().take_while(|line| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    });
    above.any(|line| line.contains(wanted))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Source;

    const GOOD: &str = "\
fn sync(fd: i32) -> i32 {
    // SAFETY: takes a number and touches no memory of ours.
    unsafe { fdatasync(fd) }
}
";

    #[test]
    fn unsafe_is_allowed_in_sys_rs_with_its_reason() {
        assert!(check(&[Source::new("storage/src/sys.rs", GOOD)]).is_empty());
        let findings = check(&[Source::new("storage/src/lib.rs", GOOD)]);
        assert_eq!(
            findings,
            ["storage/src/lib.rs:3: unsafe outside a file named sys.rs"]
        );
    }

    #[test]
    fn attribute_and_signature_need_a_comment_only() {
        let text = format!("/// What it is.\n#[unsafe(no_mangle)]\nunsafe extern \"C\" {GOOD}");
        assert!(check(&[Source::new("storage/src/sys.rs", &text)]).is_empty());
        let text = text.replace("/// What it is.", "");
        assert_eq!(check(&[Source::new("storage/src/sys.rs", &text)]).len(), 2);
    }

    #[test]
    fn missing_reason_and_second_call_are_found() {
        let bare = GOOD.replace("SAFETY", "Safe");
        let findings = check(&[Source::new("storage/src/sys.rs", &bare)]);
        let expected = "storage/src/sys.rs:3: unsafe without a comment above it with SAFETY";
        assert_eq!(findings, [expected]);
        let twice = GOOD.replace(
            "}\n}",
            "};\n    // SAFETY: as above.\n    unsafe { f() }\n}",
        );
        let findings = check(&[Source::new("storage/src/sys.rs", &twice)]);
        assert_eq!(
            findings,
            ["storage/src/sys.rs:1: sync has more than one unsafe block"]
        );
    }
}
