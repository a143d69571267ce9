//! What cannot be right about a list of statements, whatever the tests are.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{List, Proof, Statement, Version};
use super::named_tests::{TestName, claims};

/// A test that claims more checks none of them in earnest.
const CLAIMS_MAX: usize = 6;

/// Longer words would be the text of the standard, which is not ours.
const WORDS_CHARACTERS_MAX: usize = 110;

/// Everything that is wrong, in the order of the list.
pub(super) fn check(list: &List) -> Vec<String> {
    let mut findings: Vec<String> = list.statements.iter().flat_map(statement).collect();
    for (name, version) in &list.versions {
        let own = |statement: &&Statement| statement.version == *name;
        let ids = list.statements.iter().filter(own).map(|s| s.id.as_str());
        findings.extend(numbers(name, version, ids));
    }
    for statement in &list.statements {
        if !list.versions.contains_key(&statement.version) {
            let Statement { id, version, .. } = statement;
            findings.push(format!(
                "{id}: version `{version}` has no section of its own"
            ));
        }
    }
    findings.extend(too_many_claims(list));
    findings
}

/// What is wrong with a statement by itself.
fn statement(statement: &Statement) -> Vec<String> {
    let Statement { id, words, .. } = statement;
    let mut findings = Vec::new();
    let length = words.chars().count();
    if words.trim().is_empty() || length > WORDS_CHARACTERS_MAX {
        findings.push(format!(
            "{id}: `words` has {length} characters, 1 to {WORDS_CHARACTERS_MAX} are allowed"
        ));
    }
    match &statement.proof {
        Proof::Test(test) => {
            let wrong = TestName::parse(test).err();
            findings.extend(wrong.map(|wrong| format!("{id}: {wrong}")));
        }
        Proof::None(text) | Proof::Open(text) => {
            if text.trim().is_empty() {
                findings.push(format!("{id}: a reason is missing"));
            }
        }
    }
    findings
}

/// Whether every statement that the text has is there, and only once.
fn numbers<'a>(
    name: &str,
    version: &'a Version,
    listed: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let mut findings = Vec::new();
    let mut seen: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut count = 0;
    let clients_only = version.clients_only.iter().map(String::as_str);
    for id in listed.chain(clients_only) {
        match section_and_number(id) {
            None => findings.push(format!("{id} is not of the form MQTT-1.2.3-4")),
            Some((section, number)) => {
                count += 1;
                if !seen.entry(section).or_default().insert(number) {
                    findings.push(format!("{id} of version {name} stands there twice"));
                }
            }
        }
    }
    for (section, numbers) in seen {
        let last = numbers.last().copied().unwrap_or_default();
        for number in (1..last).filter(|number| !numbers.contains(number)) {
            let id = format!("MQTT-{section}-{number}");
            if !version.unassigned.contains(&id) {
                findings.push(format!("{id} of version {name} is missing"));
            }
        }
    }
    if count != version.statements {
        findings.push(format!(
            "version {name} has {} statements, {count} are listed",
            version.statements
        ));
    }
    findings
}

/// `1.2.3` and 4 of `MQTT-1.2.3-4`. One section of version 5 has two levels only.
fn section_and_number(id: &str) -> Option<(&str, u32)> {
    let (section, number) = id.strip_prefix("MQTT-")?.split_once('-')?;
    let is_number = |text: &str| {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        is_decimal && !text.is_empty() && (text == "0" || !text.starts_with('0'))
    };
    let levels = section.split('.').count();
    if !section.split('.').all(is_number) || !(2..=3).contains(&levels) || !is_number(number) {
        return None;
    }
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some((section, number))
}

fn too_many_claims(list: &List) -> Vec<String> {
    let tests = list.statements.iter().filter_map(|s| match &s.proof {
        Proof::Test(test) => Some((test.as_str(), s.version.as_str())),
        Proof::None(_) | Proof::Open(_) => None,
    });
    let too_many = claims(tests)
        .into_iter()
        .filter(|(_, count)| *count > CLAIMS_MAX);
    let finding = |((test, version), count)| {
        format!(
            "test {test} claims {count} statements of version {version}, at most {CLAIMS_MAX} are allowed"
        )
    };
    too_many.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::file::List;
    use super::check;

    fn list(versions: &str, statements: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let statements = statements.iter().map(|(id, version, words, proof)| {
            format!(
                "[[statement]]\nid = \"{id}\"\nversion = \"{version}\"\nwords = \"{words}\"\n{proof}\n"
            )
        });
        let text = versions.to_owned() + &statements.collect::<String>();
        check(&List::parse(&text).unwrap())
    }

    fn version(count: usize, clients_only: &str, unassigned: &str) -> String {
        format!(
            "[version.5]\nstatements = {count}\nclients_only = [{clients_only}]\nunassigned = [{unassigned}]\n"
        )
    }

    const TEST: &str = "test = \"a/b::c\"";

    #[test]
    fn list_with_a_proof_for_each_number_is_right() {
        let findings = list(
            &version(4, "\"MQTT-1.1.1-2\"", "\"MQTT-1.1.1-3\""),
            &[
                ("MQTT-1.1.1-1", "5", "w", TEST),
                ("MQTT-1.1.1-4", "5", "w", "none = \"not observable\""),
                ("MQTT-4.2-1", "5", "w", "open = \"a test\""),
            ],
        );
        assert_eq!(findings, [""; 0]);
    }

    #[test]
    fn missing_and_repeated_numbers_are_found() {
        let findings = list(
            &version(5, "\"MQTT-1.1.1-2\"", ""),
            &[
                ("MQTT-1.1.1-2", "5", "w", TEST),
                ("MQTT-1.1.1-4", "5", "w", TEST),
            ],
        );
        let expected = [
            "MQTT-1.1.1-2 of version 5 stands there twice",
            "MQTT-1.1.1-1 of version 5 is missing",
            "MQTT-1.1.1-3 of version 5 is missing",
            "version 5 has 5 statements, 3 are listed",
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn ids_of_another_form_and_unknown_versions_are_found() {
        let bad = [
            "MQTT-1.1.1",
            "1.1.1-1",
            "MQTT-1-1",
            "MQTT-1.1.1-01",
            "MQTT-1.1.1-0",
        ];
        for id in bad {
            let findings = list(&version(0, "", ""), &[(id, "5", "w", TEST)]);
            assert_eq!(findings, [format!("{id} is not of the form MQTT-1.2.3-4")]);
        }
        let findings = list(&version(0, "", ""), &[("MQTT-1.1.1-1", "4", "w", TEST)]);
        let expected = "MQTT-1.1.1-1: version `4` has no section of its own";
        assert_eq!(findings, [expected]);
    }

    #[test]
    fn empty_and_long_words_empty_reasons_and_wrong_names_are_found() {
        let long = "x".repeat(111);
        let findings = list(
            &version(4, "", ""),
            &[
                ("MQTT-1.1.1-1", "5", " ", TEST),
                ("MQTT-1.1.1-2", "5", &long, TEST),
                ("MQTT-1.1.1-3", "5", "w", "none = \"\""),
                ("MQTT-1.1.1-4", "5", "w", "test = \"somewhere\""),
            ],
        );
        let expected = [
            "MQTT-1.1.1-1: `words` has 1 characters, 1 to 110 are allowed",
            "MQTT-1.1.1-2: `words` has 111 characters, 1 to 110 are allowed",
            "MQTT-1.1.1-3: a reason is missing",
            "MQTT-1.1.1-4: test `somewhere` is not of the form `package/program::path`",
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn test_claims_at_most_six_statements_of_a_version() {
        let versions = version(7, "", "") + &version(3, "", "").replace("version.5", "version.4");
        let ids: Vec<String> = (1..=7)
            .map(|number| format!("MQTT-1.1.1-{number}"))
            .collect();
        let of_5 = ids.iter().map(|id| (id.as_str(), "5", "w", TEST));
        let of_4 = ids[..3].iter().map(|id| (id.as_str(), "4", "w", TEST));
        let findings = list(&versions, &of_5.chain(of_4).collect::<Vec<_>>());
        let expected = "test a/b::c claims 7 statements of version 5, at most 6 are allowed";
        assert_eq!(findings, [expected]);
    }
}
