//! What the doctor says: a finding has a level, what was seen, what it means and what to do.

use serde::Serialize;

/// How bad it is; the order is that of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, and one day it may not.
    Warning,
    /// What the gateway promises cannot be kept like this.
    Problem,
}

impl Level {
    /// The word in the output for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// See the module's documentation. The names in JSON are kept from version to version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// One of a small set of words, such as `sync`.
    pub(super) about: &'static str,
    pub(super) level: Level,
    pub(super) seen: String,
    /// Empty where nothing follows from it.
    pub(super) means: String,
    /// What to do; empty where nothing is to be done.
    #[serde(rename = "do")]
    pub(super) remedy: String,
}

impl Finding {
    /// Nothing to worry about.
    pub(super) fn ok(about: &'static str, seen: impl Into<String>) -> Self {
        Self {
            about,
            level: Level::Ok,
            seen: seen.into(),
            means: String::new(),
            remedy: String::new(),
        }
    }

    pub(super) fn new(about: &'static str, level: Level, seen: impl Into<String>) -> Self {
        Self {
            level,
            ..Self::ok(about, seen)
        }
    }

    pub(super) fn meaning(self, means: impl Into<String>) -> Self {
        Self {
            means: means.into(),
            ..self
        }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: remedy.into(),
            ..self
        }
    }
}

/// How many findings have that level.
pub(super) fn count(findings: &[Finding], level: Level) -> usize {
    findings
        .iter()
        .filter(|finding| finding.level == level)
        .count()
}

#[cfg(test)]
pub(super) mod expect {
    //! What tests ask of findings.

    use super::{Finding, Level};

    /// The finding about `about` with the word in what was seen or in what it means.
    pub(in crate::doctor) fn find<'a>(findings: &'a [Finding], word: &str) -> &'a Finding {
        let has = |finding: &&Finding| finding.seen.contains(word) || finding.means.contains(word);
        findings
            .iter()
            .find(has)
            .unwrap_or_else(|| panic!("nothing says `{word}`: {findings:#?}"))
    }

    /// The worst of them.
    pub(in crate::doctor) fn worst(findings: &[Finding]) -> Level {
        findings
            .iter()
            .map(|finding| finding.level)
            .max()
            .unwrap_or(Level::Ok)
    }
}
