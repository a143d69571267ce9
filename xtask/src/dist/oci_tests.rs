//! What a reader of an image layout relies on.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::{CONFIG, CONFIGURATION, INDEX, LAYER, MANIFEST, entries, write};
use crate::cross::{SHIPPED, Target};
use crate::dist::build::Built;
use crate::dist::checksums::sha256;
use crate::dist::elf::Facts;

const EPOCH: u64 = 1_700_000_000;

fn built(triple: &str, content: &str) -> Built {
    Built {
        target: Target::named(triple, &SHIPPED).unwrap(),
        bytes: content.as_bytes().to_vec(),
        facts: Facts::default(),
    }
}

fn two() -> [Built; 2] {
    [
        built(SHIPPED[0], "an arm64 program"),
        built(SHIPPED[2], "an amd64 program"),
    ]
}

/// The blob of a descriptor, whose media type, digest and size are right.
fn blob(folder: &Path, descriptor: &Value, media_type: &str) -> Vec<u8> {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap();
    let name = digest.strip_prefix("sha256:").unwrap();
    let content = fs::read(folder.join("blobs/sha256").join(name)).unwrap();
    assert_eq!(sha256(&content), name);
    assert_eq!(descriptor["size"], content.len());
    content
}

fn value(folder: &Path, descriptor: &Value, media_type: &str) -> Value {
    let value: Value = serde_json::from_slice(&blob(folder, descriptor, media_type)).unwrap();
    if media_type != CONFIG {
        assert_eq!(value["schemaVersion"], 2);
        assert_eq!(value["mediaType"], media_type);
    }
    value
}

fn file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_blob_is_reached_and_has_the_digest_size_and_type_that_are_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &two(), "0.1.0", EPOCH).unwrap();
    assert_eq!(
        file(&folder.join("oci-layout"))["imageLayoutVersion"],
        "1.0.0"
    );
    let index = file(&folder.join("index.json"));
    let top = &index["manifests"][0];
    assert_eq!(
        top["annotations"]["org.opencontainers.image.ref.name"],
        "0.1.0"
    );
    let mut reached = BTreeSet::from([top["digest"].clone().to_string()]);
    let images = value(folder, top, INDEX);
    let images = images["manifests"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for (image, (architecture, content)) in images
        .iter()
        .zip([("arm64", "an arm64 program"), ("amd64", "an amd64 program")])
    {
        assert_eq!(image["platform"]["architecture"], architecture);
        let manifest = value(folder, image, MANIFEST);
        let config = value(folder, &manifest["config"], CONFIG);
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        let mut tar = Vec::new();
        let layer = blob(folder, &manifest["layers"][0], LAYER);
        GzDecoder::new(&layer[..]).read_to_end(&mut tar).unwrap();
        let diff = format!("sha256:{}", sha256(&tar));
        assert_eq!(config["rootfs"]["diff_ids"][0], diff);
        assert!(tar.windows(content.len()).any(|w| w == content.as_bytes()));
        for of in [image, &manifest["config"], &manifest["layers"][0]] {
            reached.insert(of["digest"].to_string());
        }
    }
    let there = fs::read_dir(folder.join("blobs/sha256")).unwrap().count();
    assert_eq!(there, reached.len());
}

#[test]
fn layer_has_what_the_image_is_told_to_run_and_a_data_folder_of_its_user() {
    let entries = entries(&two()[0]).unwrap();
    let archive = super::tar(&entries, EPOCH).unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), EPOCH);
        let path = entry.path().unwrap().display().to_string();
        found.push((path, header.mode().unwrap(), header.uid().unwrap()));
    }
    let has = |path: &str, mode, user| found.contains(&(path.to_owned(), mode, user));
    assert!(has("usr/bin/tidegate", 0o755, 0), "{found:?}");
    assert!(has("etc/tidegate/tidegate.toml", 0o644, 0));
    assert!(has("etc/ssl/certs/", 0o755, 0));
    assert!(has("var/lib/tidegate/", 0o700, 65532));
    // A folder before what is in it.
    let paths: Vec<_> = found.iter().map(|(path, ..)| path.as_str()).collect();
    for (at, path) in paths.iter().enumerate() {
        let parent = path.trim_end_matches('/').rsplit_once('/');
        let parent = parent.map(|(parent, _)| format!("{parent}/"));
        assert!(
            parent.is_none_or(|p| paths[..at].contains(&p.as_str())),
            "{path}"
        );
    }
}

#[test]
fn same_binaries_give_the_same_bytes() {
    let write_one = || {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &two(), "0.1.0", EPOCH).unwrap();
        fs::read(folder.path().join("index.json")).unwrap()
    };
    assert_eq!(write_one(), write_one());
}

#[test]
fn configuration_of_the_image_names_its_volume() {
    let text = String::from_utf8(CONFIGURATION.to_vec()).unwrap();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["data_dir"].as_str(), Some("/var/lib/tidegate"));
}
