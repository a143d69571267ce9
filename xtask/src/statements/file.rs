//! The list of statements as it is written.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

/// What `statements.toml` says.
#[derive(Debug, Default)]
pub(super) struct List {
    /// By name: `5`, `3.1.1`.
    pub(super) versions: BTreeMap<String, Version>,
    pub(super) statements: Vec<Statement>,
}

/// What is known of the text of a version.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    /// How many statements the text has, for clients and servers.
    pub(super) statements: usize,
    /// Those that bind clients only, and that a server need not watch over.
    pub(super) clients_only: Vec<String>,
    /// Numbers that the text leaves out.
    pub(super) unassigned: Vec<String>,
}

/// A statement that concerns a server.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) id: String,
    pub(super) version: String,
    /// What it says, in words of our own.
    pub(super) words: String,
    pub(super) proof: Proof,
}

/// What is known of the broker's keeping to a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// `package/program::path`, the test that fails if the statement is broken.
    Test(String),
    /// Why no test can exist.
    None(String),
    /// What is missing.
    Open(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: BTreeMap<String, Version>,
    statement: Vec<WrittenStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStatement {
    id: String,
    version: String,
    words: String,
    test: Option<String>,
    none: Option<String>,
    open: Option<String>,
}

impl List {
    /// # Errors
    /// It is no TOML, has other keys than these, or a statement without exactly one proof.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let written: Written = toml::from_str(text)?;
        let statements = written.statement.into_iter().map(Statement::from_written);
        Ok(Self {
            versions: written.version,
            statements: statements.collect::<Result<_>>()?,
        })
    }
}

impl Statement {
    fn from_written(written: WrittenStatement) -> Result<Self> {
        let WrittenStatement {
            id,
            version,
            words,
            test,
            none,
            open,
        } = written;
        let proof = match (test, none, open) {
            (Some(test), None, None) => Proof::Test(test),
            (None, Some(reason), None) => Proof::None(reason),
            (None, None, Some(missing)) => Proof::Open(missing),
            _ => bail!("{id} of version {version} needs exactly one of `test`, `none` and `open`"),
        };
        Ok(Self {
            id,
            version,
            words,
            proof,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{List, Proof};

    const VERSION: &str = r#"
[version.5]
statements = 1
clients_only = []
unassigned = []
"#;

    fn list(statement: &str) -> String {
        let head = "[[statement]]\nid = \"MQTT-1.2.3-4\"\nversion = \"5\"\nwords = \"w\"\n";
        match List::parse(&format!("{VERSION}{head}{statement}")) {
            Ok(list) => format!("{:?}", list.statements[0].proof),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn statement_has_exactly_one_proof() {
        let proof = |proof: Proof| format!("{proof:?}");
        assert_eq!(list("test = \"t\""), proof(Proof::Test("t".into())));
        assert_eq!(list("none = \"n\""), proof(Proof::None("n".into())));
        assert_eq!(list("open = \"o\""), proof(Proof::Open("o".into())));
        let refusal = "MQTT-1.2.3-4 of version 5 needs exactly one of `test`, `none` and `open`";
        for bad in [
            "",
            "test = \"t\"\nnone = \"n\"",
            "none = \"n\"\nopen = \"o\"",
        ] {
            assert_eq!(list(bad), refusal, "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let error = list("tests = [\"t\"]");
        assert!(error.contains("unknown field `tests`"), "{error}");
        assert!(error.contains("line 10"), "{error}");
    }
}
