//! Names and shapes of files: every module says what it is for, no file is a drawer for everything,
//! and what has grown out of sight is named in a hint.

use super::Source;

/// A file with such a name collects what has no place.
const DRAWERS: &[&str] = &["common", "helpers", "misc", "types", "utils"];

const LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let parts = source
            .path
            .split('/')
            .map(|part| part.split('.').next().unwrap_or(part));
        if let Some(drawer) = parts.clone().find(|part| DRAWERS.contains(part)) {
            let message = format!("{drawer}: name the file after what is in it");
            findings.push(source.at(0, &message));
        }
        if source.is_rust() && !has_module_doc(&source.text) {
            findings.push(source.at(0, "no module documentation (//!) at the top"));
        }
    }
    findings
}

/// What a reader may want to split; no failure.
pub(super) fn hints(sources: &[Source]) -> Vec<String> {
    let mut hints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            hints.push(format!("{} has {lines} lines", source.path));
        }
        for function in source.code.functions() {
            let lines = function.last_line + 1 - function.first_line;
            if lines > FUNCTION_LINES_MAX {
                let message = format!("{} has {lines} lines", function.name);
                hints.push(source.at(function.first_line, &message));
            }
        }
    }
    hints
}

/// Attributes of the whole file may stand before it.
fn has_module_doc(text: &str) -> bool {
    let lines = text.lines().map(str::trim_start);
    let mut meaningful = lines.filter(|line| !line.is_empty() && !line.starts_with("#!["));
    meaningful
        .next()
        .is_some_and(|line| line.starts_with("//! "))
}

#[cfg(test)]
mod tests {
    use super::{check, hints};
    use crate::tidy::Source;

    #[test]
    fn module_without_documentation_is_found() {
        assert!(
            check(&[Source::new(
                "a/src/b.rs",
                "#![no_std]\n//! What b is for.\n"
            )])
            .is_empty()
        );
        let findings = check(&[Source::new("a/src/b.rs", "use c;\n//! Too late.\n")]);
        assert_eq!(
            findings,
            ["a/src/b.rs:1: no module documentation (//!) at the top"]
        );
    }

    #[test]
    fn drawers_are_found_by_file_and_folder() {
        let doc = "//! Something.\n";
        assert_eq!(check(&[Source::new("a/src/utils.rs", doc)]).len(), 1);
        assert_eq!(check(&[Source::new("a/src/helpers/b.rs", doc)]).len(), 1);
        assert!(check(&[Source::new("a/src/packet_types.rs", doc)]).is_empty());
    }

    #[test]
    fn long_files_and_functions_are_hints() {
        let long = format!("//! Doc.\nfn f() {{\n{}}}\n", "    g();\n".repeat(800));
        let hints = hints(&[Source::new("a/src/b.rs", &long)]);
        assert_eq!(
            hints,
            ["a/src/b.rs has 803 lines", "a/src/b.rs:2: f has 802 lines"]
        );
    }
}
