//! Words that may not stand in the code of some folders.

use super::Source;
use super::code::has_word;

struct Rule {
    /// Where the words are forbidden: files whose path starts with one of these; all, if empty.
    within: &'static [&'static str],
    /// Except there.
    except: &'static [&'static str],
    words: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &["mqtt/src/", "record-batch/src/"],
        except: &[],
        words: &["tokio", "std::net", "Instant::now", "SystemTime::now"],
        reason: "no sockets, no clock: the time is an argument",
    },
    Rule {
        within: &[],
        except: &["storage/"],
        words: &["sled"],
        reason: "only storage knows what it stores in",
    },
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for rule in RULES {
        for source in sources
            .iter()
            .filter(|source| rule.applies_to(&source.path))
        {
            for (number, line) in source.code.lines() {
                for word in rule.words.iter().filter(|word| has_word(line, word)) {
                    findings.push(source.at(number, &format!("{word}: {}", rule.reason)));
                }
            }
        }
    }
    findings
}

impl Rule {
    fn applies_to(&self, path: &str) -> bool {
        let starts = |start: &&str| path.starts_with(*start);
        (self.within.is_empty() || self.within.iter().any(starts))
            && !self.except.iter().any(starts)
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Source;

    #[test]
    fn forbidden_word_is_found_in_code_and_not_in_comments() {
        let text = "//! Knows no tokio.\nuse tokio::net;\nlet now = std::time::Instant::now();\n";
        let findings = check(&[Source::new("mqtt/src/a.rs", text)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("mqtt/src/a.rs:2: tokio:"));
        assert!(check(&[Source::new("broker/src/a.rs", text)]).is_empty());
    }

    #[test]
    fn sled_is_allowed_in_storage_only() {
        let text = "fn open() -> sled::Db { todo() }\n";
        assert!(check(&[Source::new("storage/src/a.rs", text)]).is_empty());
        assert_eq!(check(&[Source::new("broker/tests/a.rs", text)]).len(), 1);
    }
}
