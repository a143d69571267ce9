//! Tests by name, and the programs that they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};

use crate::{command, workspace};

/// `package/program::path`: a test as the list names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestName {
    pub(super) binary: Binary,
    /// As `cargo test -- --list` shows it.
    pub(super) path: String,
}

impl TestName {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("test `{text}` is not of the form `package/program::path`");
        let (package, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (program, path) = rest.split_once("::").ok_or_else(wrong)?;
        let is_name = |name: &str, more: &str| {
            let may_stand = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
            !name.is_empty() && name.chars().all(may_stand)
        };
        if !is_name(package, "-") || !is_name(program, "-") || !is_name(path, ":") {
            return Err(wrong());
        }
        let binary = Binary {
            package: package.to_owned(),
            program: program.to_owned(),
        };
        let path = path.to_owned();
        Ok(Self { binary, path })
    }
}

/// A program of tests: `lib` for the unit tests of the library of a package, else one of its
/// integration tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Binary {
    package: String,
    program: String,
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.package, self.program)
    }
}

impl Binary {
    /// What `cargo test` is called with.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--locked", "--package", &self.package];
        match self.program.as_str() {
            "lib" => arguments.push("--lib"),
            program => arguments.extend(["--test", program]),
        }
        arguments.into_iter().map(String::from).collect()
    }

    /// What is wrong with these names: no such test, or one that does not run.
    pub(super) fn missing(&self, names: &BTreeSet<String>) -> Result<Vec<String>> {
        Ok(self.missing_in(names, &self.list(&[])?, &self.list(&["--ignored"])?))
    }

    fn missing_in(
        &self,
        names: &BTreeSet<String>,
        all: &BTreeSet<String>,
        ignored: &BTreeSet<String>,
    ) -> Vec<String> {
        let finding = |name: &String| match (all.contains(name), ignored.contains(name)) {
            (false, _) => Some(format!("there is no test {self}::{name}")),
            (true, true) => Some(format!("test {self}::{name} is ignored")),
            (true, false) => None,
        };
        names.iter().filter_map(finding).collect()
    }

    /// The tests of the program, all or only those that are ignored.
    fn list(&self, which: &[&str]) -> Result<BTreeSet<String>> {
        let mut lines = Vec::new();
        let mut cargo = workspace::cargo();
        cargo.arg("test").args(self.arguments());
        cargo.args(["--", "--list"]).args(which);
        let status = command::lines(&mut cargo, |line| lines.push(line.to_owned()))?;
        ensure!(
            status.success(),
            "{self} cannot be listed:\n{}",
            lines.join("\n")
        );
        Ok(listed(&lines))
    }
}

/// The names among the lines of `cargo test -- --list`.
fn listed(lines: &[String]) -> BTreeSet<String> {
    let names = lines.iter().filter_map(|line| line.strip_suffix(": test"));
    names.map(String::from).collect()
}

/// How many statements of each version a test claims.
pub(super) fn claims<'a>(
    tests: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<(&'a str, &'a str), usize> {
    let mut claims = BTreeMap::new();
    for claim in tests {
        *claims.entry(claim).or_default() += 1;
    }
    claims
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{TestName, listed};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn name_says_package_program_and_path() {
        let name = TestName::parse("record-batch/lib::a::tests::b_c").unwrap();
        assert_eq!(name.binary.to_string(), "record-batch/lib");
        assert_eq!(name.path, "a::tests::b_c");
        let arguments = ["--locked", "--package", "record-batch", "--lib"];
        assert_eq!(name.binary.arguments(), arguments);
        let name = TestName::parse("broker/broker::a::b").unwrap();
        let arguments = ["--locked", "--package", "broker", "--test", "broker"];
        assert_eq!(name.binary.arguments(), arguments);
    }

    #[test]
    fn name_of_another_form_is_refused() {
        for bad in [
            "", "a", "a/b", "a::b", "/b::c", "a/::c", "a/b::", "a/b::c d",
        ] {
            let error = TestName::parse(bad).unwrap_err();
            let expected = format!("test `{bad}` is not of the form `package/program::path`");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn tests_are_told_from_other_lines() {
        let lines = [
            "    Finished `test` profile",
            "a::b: test",
            "c: benchmark",
            "2 tests",
        ];
        assert_eq!(listed(&lines.map(String::from)), set(&["a::b"]));
    }

    #[test]
    fn tests_that_do_not_exist_or_do_not_run_are_found() {
        let binary = TestName::parse("p/q::x").unwrap().binary;
        let names = set(&["there", "gone", "asleep"]);
        let findings = binary.missing_in(&names, &set(&["there", "asleep"]), &set(&["asleep"]));
        let expected = ["test p/q::asleep is ignored", "there is no test p/q::gone"];
        assert_eq!(findings, expected);
    }
}
