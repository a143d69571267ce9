//! The shape of the document, and that it tells the truth about the real dependencies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Lock, of, rfc3339};
use crate::cross::{SHIPPED, Target};
use crate::dist::build::Built;
use crate::dist::elf::Facts;

fn bom(triple: &str) -> Value {
    let built = Built {
        target: Target::named(triple, &SHIPPED).unwrap(),
        bytes: b"a program".to_vec(),
        facts: Facts::default(),
    };
    let info = vec![("rustc", String::from("1.95.0"))];
    of(&Lock::read().unwrap(), &built, &info, 0).unwrap()
}

fn strings<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    let values = values.as_array().unwrap();
    values.iter().map(|v| v[key].as_str().unwrap()).collect()
}

fn is_sha256(hashes: &Value) -> bool {
    let content = hashes[0]["content"].as_str().unwrap();
    let is_hex = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
    hashes[0]["alg"] == "SHA-256" && content.len() == 64 && content.chars().all(is_hex)
}

#[test]
fn document_has_what_the_schema_asks_for_and_every_reference_leads_somewhere() {
    let bom = bom(SHIPPED[0]);
    assert_eq!(bom["bomFormat"], "CycloneDX");
    assert_eq!(bom["specVersion"], "1.5");
    assert_eq!(bom["version"], 1);
    assert_eq!(bom["metadata"]["timestamp"], "1970-01-01T00:00:00Z");
    let program = &bom["metadata"]["component"];
    assert_eq!(program["type"], "application");
    assert!(is_sha256(&program["hashes"]));
    let mut references = BTreeSet::from([program["bom-ref"].as_str().unwrap()]);
    for component in bom["components"].as_array().unwrap() {
        assert_eq!(component["type"], "library");
        assert!(!component["name"].as_str().unwrap().is_empty());
        let license = component["licenses"][0]["expression"].as_str().unwrap();
        assert!(!license.is_empty() && !license.contains('/'), "{component}");
        if let Some(purl) = component["purl"].as_str() {
            assert!(purl.starts_with("pkg:cargo/") && purl.contains('@'));
            assert!(is_sha256(&component["hashes"]));
        }
        let reference = component["bom-ref"].as_str().unwrap();
        assert!(references.insert(reference), "{reference} stands twice");
    }
    for dependency in bom["dependencies"].as_array().unwrap() {
        let on = dependency["dependsOn"].as_array().unwrap();
        let names = on.iter().map(|on| on.as_str().unwrap());
        for name in names.chain([dependency["ref"].as_str().unwrap()]) {
            assert!(references.contains(name), "{name} is no component");
        }
    }
}

#[test]
fn components_are_what_is_compiled_into_the_binary_of_the_target() {
    let bom = bom(SHIPPED[1]);
    let names = strings(&bom["components"], "name");
    for inside in ["sled", "storage", "tokio", "ring", "rust-std"] {
        assert!(names.contains(&inside), "{inside} is missing");
    }
    // A procedural macro, a dependency of tests, of build scripts, of another system, of the image
    // writer, and the C library of the other targets.
    for outside in [
        "serde_derive",
        "proptest",
        "cc",
        "windows-sys",
        "tar",
        "musl",
    ] {
        assert!(!names.contains(&outside), "{outside} is not in the binary");
    }
    let dependencies = bom["dependencies"].as_array().unwrap();
    let storage = dependencies
        .iter()
        .find(|of| of["ref"] == "pkg:cargo/storage@0.1.0");
    let on = storage.unwrap()["dependsOn"].as_array().unwrap();
    assert!(
        on.iter()
            .any(|on| on.as_str().unwrap().starts_with("pkg:cargo/sled@"))
    );
}

#[test]
fn seconds_are_told_as_dates() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
}
