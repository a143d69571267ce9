//! Dependencies between our crates point one way. A new arrow is a decision: it goes here and into
//! ARCHITECTURE.md in the same commit.

use anyhow::{Context, Result};
use toml::Table;

use super::Source;

/// What each crate may depend on, of ours. A crate that is not listed may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("bridge", &["kafka", "mqtt", "record-batch", "storage"]),
    ("broker", &["mqtt", "record-batch", "storage"]),
    ("firmware-config", &[]),
    ("fuzz", &["mqtt-fuzz"]),
    ("kafka", &["record-batch"]),
    ("mqtt", &[]),
    ("mqtt-fuzz", &["mqtt"]),
    // The clients of `tests` hold the broker to the standard across a cut.
    ("power-cut", &["broker", "storage", "tests"]),
    ("record-batch", &[]),
    ("storage", &["record-batch"]),
    ("storage-bench", &["storage"]),
    ("tests", &["firmware-config", "kafka", "record-batch"]),
    // `kafka` for the model of a cluster that the demo replicates to, `mqtt` for topic filters in
    // options and names of reason codes.
    (
        "tidegate",
        &[
            "bridge",
            "broker",
            "firmware-config",
            "kafka",
            "mqtt",
            "record-batch",
            "storage",
        ],
    ),
    // The tests' Kafka is also a person's: `cargo xtask kafka`.
    ("storage-bench/engines", &["storage"]),
    // The model of a Kafka broker; clients, and the real Kafka, are those of `tests`.
    ("vm-suite", &["kafka", "tests"]),
    ("xtask", &["tests"]),
];

/// `bridge` may know topic filters of `mqtt`, not packets or the state machine.
const BRIDGE_USES_OF_MQTT: &str = "mqtt::topic";

pub(super) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for source in sources {
        if let Some(folder) = source.path.strip_suffix("/Cargo.toml") {
            findings.extend(check_manifest(source, folder)?);
        }
        if source.path.starts_with("bridge/src/") {
            findings.extend(check_bridge(source));
        }
    }
    Ok(findings)
}

fn check_manifest(source: &Source, folder: &str) -> Result<Vec<String>> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == folder) else {
        return Ok(vec![
            source.at(0, "a crate that the table of arrows does not know"),
        ]);
    };
    let manifest: Table = source
        .text
        .parse()
        .with_context(|| format!("{}: not TOML", source.path))?;
    let mut findings = Vec::new();
    for dependency in dependencies(&manifest) {
        let is_ours = ALLOWED.iter().any(|(name, _)| *name == dependency);
        if is_ours && !allowed.contains(&dependency.as_str()) {
            findings.push(source.at(0, &format!("{folder} may not depend on {dependency}")));
        }
    }
    Ok(findings)
}

/// The names of all tables of dependencies, also those of a target.
fn dependencies(manifest: &Table) -> Vec<String> {
    const KINDS: [&str; 3] = ["build-dependencies", "dependencies", "dev-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(toml::Value::as_table);
    [manifest]
        .into_iter()
        .chain(of_targets)
        .flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flat_map(|dependencies| dependencies.keys().cloned())
        .collect()
}

fn check_bridge(source: &Source) -> Vec<String> {
    let uses = source
        .code
        .lines()
        .filter(|(_, line)| line.replace(BRIDGE_USES_OF_MQTT, "").contains("mqtt::"));
    uses.map(|(number, _)| source.at(number, "bridge may use mqtt::topic only"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Source;

    #[test]
    fn forbidden_arrow_is_found_in_every_kind_of_dependency() {
        for table in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let text = format!("[{table}]\nbroker.workspace = true\nbytes = \"1\"\n");
            let findings = check(&[Source::new("mqtt/Cargo.toml", &text)]).unwrap();
            assert_eq!(
                findings,
                ["mqtt/Cargo.toml:1: mqtt may not depend on broker"]
            );
        }
    }

    #[test]
    fn allowed_arrow_and_unknown_crate_are_told_apart() {
        let text = "[dependencies]\nmqtt.workspace = true\n";
        assert!(
            check(&[Source::new("broker/Cargo.toml", text)])
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            check(&[Source::new("new/Cargo.toml", text)]).unwrap().len(),
            1
        );
    }

    #[test]
    fn bridge_uses_only_topic_filters_of_mqtt() {
        let text = "use mqtt::topic::TopicFilter;\nuse mqtt::packet::Publish;\n";
        let findings = check(&[Source::new("bridge/src/route.rs", text)]).unwrap();
        assert_eq!(
            findings,
            ["bridge/src/route.rs:2: bridge may use mqtt::topic only"]
        );
    }
}
