//! Decisions in docs/decisions/ are numbered uniquely, and their index names each of them.

use std::collections::HashMap;

use super::Source;

const FOLDER: &str = "docs/decisions/";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut numbers: HashMap<u32, &str> = HashMap::new();
    let index = sources
        .iter()
        .find(|source| source.path == "docs/decisions/README.md");
    for source in sources {
        let Some(name) = source.path.strip_prefix(FOLDER) else {
            continue;
        };
        if name == "README.md" || !name.ends_with(".md") {
            continue;
        }
        match name
            .split_once('-')
            .and_then(|(number, _)| number.parse().ok())
        {
            None => findings.push(source.at(0, "not named NUMBER-words.md")),
            Some(number) => {
                if let Some(other) = numbers.insert(number, name) {
                    findings.push(source.at(0, &format!("has the number of {other}")));
                }
            }
        }
        if !index.is_some_and(|index| index.text.contains(&format!("({name})"))) {
            findings.push(source.at(0, "not linked from docs/decisions/README.md"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Source;

    #[test]
    fn numbers_are_unique_and_every_decision_is_linked() {
        let index = Source::new(
            "docs/decisions/README.md",
            "- [a](0001-a.md)\n- [b](0001-b.md)\n",
        );
        let a = Source::new("docs/decisions/0001-a.md", "");
        assert!(check(&[index, a]).is_empty());
        let index = Source::new("docs/decisions/README.md", "- [a](0001-a.md)\n");
        let a = Source::new("docs/decisions/0001-a.md", "");
        let b = Source::new("docs/decisions/1-b.md", "");
        let c = Source::new("docs/decisions/c.md", "");
        assert_eq!(
            check(&[index, a, b, c]),
            [
                "docs/decisions/1-b.md:1: has the number of 0001-a.md",
                "docs/decisions/1-b.md:1: not linked from docs/decisions/README.md",
                "docs/decisions/c.md:1: not named NUMBER-words.md",
                "docs/decisions/c.md:1: not linked from docs/decisions/README.md",
            ]
        );
    }
}
