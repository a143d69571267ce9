//! What is shown of a list of statements.

use std::fmt::Write;

use super::file::{List, Proof, Statement};

/// A line for each version, and one for all.
pub(super) fn table(list: &List) -> String {
    let mut text = String::from("version   with a test   none can exist   open   clients only\n");
    let mut line = |name: &str, statements: &[&Statement], clients_only: usize| {
        let count = |is: fn(&Proof) -> bool| statements.iter().filter(|s| is(&s.proof)).count();
        let tested = count(|proof| matches!(proof, Proof::Test(_)));
        let none = count(|proof| matches!(proof, Proof::None(_)));
        let open = count(|proof| matches!(proof, Proof::Open(_)));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:<9} {tested:>11} {none:>16} {open:>6} {clients_only:>14}"
        );
    };
    for (name, version) in &list.versions {
        let own = |statement: &&Statement| statement.version == *name;
        let own: Vec<_> = list.statements.iter().filter(own).collect();
        line(name, &own, version.clients_only.len());
    }
    let all: Vec<_> = list.statements.iter().collect();
    let clients_only = list.versions.values().map(|v| v.clients_only.len()).sum();
    line("all", &all, clients_only);
    text
}

/// A line for each statement that has no test yet.
pub(super) fn open(list: &List) -> String {
    let mut text = String::new();
    for statement in &list.statements {
        if let Proof::Open(missing) = &statement.proof {
            let Statement {
                id, version, words, ..
            } = statement;
            let _ = writeln!(text, "{id} ({version}): {words}: {missing}");
        }
    }
    text
}

/// How many statements have no test yet.
pub(super) fn open_count(list: &List) -> usize {
    let is_open = |statement: &&Statement| matches!(statement.proof, Proof::Open(_));
    list.statements.iter().filter(is_open).count()
}

#[cfg(test)]
mod tests {
    use super::super::file::List;
    use super::{open, open_count, table};

    #[test]
    fn statements_are_counted_by_version_and_proof() {
        let list = List::parse(
            r#"
            version.5 = { statements = 3, clients_only = ["MQTT-1.1.1-9"], unassigned = [] }
            statement = [
                { id = "MQTT-1.1.1-1", version = "5", words = "a", test = "a/b::c" },
                { id = "MQTT-1.1.1-2", version = "5", words = "b", none = "n" },
                { id = "MQTT-1.1.1-3", version = "5", words = "c", open = "all of it" },
            ]
            "#,
        )
        .unwrap();
        let expected = "\
version   with a test   none can exist   open   clients only
5                   1                1      1              1
all                 1                1      1              1
";
        assert_eq!(table(&list), expected);
        assert_eq!(open(&list), "MQTT-1.1.1-3 (5): c: all of it\n");
        assert_eq!(open_count(&list), 1);
    }
}
