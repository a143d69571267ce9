//! Nothing that is tracked names a folder of one machine.

use super::Source;

/// Written in pieces, because this file is tracked, too.
const FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            for folder in FOLDERS.iter().filter(|folder| has_absolute(line, folder)) {
                findings.push(source.at(number, &format!("{folder}: a path of one machine")));
            }
        }
    }
    findings
}

/// Whether the folder stands at the beginning of a path: not in `network/work/…`.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|char| char.is_alphanumeric() || "._-}*$)".contains(char))
    })
}

#[cfg(test)]
mod tests {
    use super::{FOLDERS, check};
    use crate::tidy::Source;

    #[test]
    fn folder_is_found_in_any_file() {
        for folder in FOLDERS {
            let text = format!("cd {folder}x\n");
            assert_eq!(check(&[Source::new("docs/a.md", &text)]).len(), 1, "{text}");
        }
    }

    #[test]
    fn part_of_another_path_is_no_folder_of_a_machine() {
        let text = format!("artwork{}x and $HOME{0}x\n", FOLDERS[2]);
        assert!(check(&[Source::new("docs/a.md", &text)]).is_empty());
    }
}
