//! An OCI image layout of all binaries: a folder of blobs, each named by its SHA-256, that container
//! engines and registries read. One layer an architecture: the binary, a configuration, the folders that
//! it needs, and for a binary that is not static the C library of the cross compiler.
//!
//! The same binaries give the same bytes: no times but the given one, no names of users.
//! Formats: <https://github.com/opencontainers/image-spec>, `image-layout.md`, `manifest.md`, `config.md`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::build::{self, Built};
use super::checksums::sha256;
use super::sbom::rfc3339;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Who the program is in the image, and whose its data folder is: nobody that a system has.
const USER: u64 = 65532;
const CONFIGURATION: &[u8] = include_bytes!("image.toml");

/// Writes the layout into a new folder.
pub(super) fn write(folder: &Path, all: &[Built], version: &str, epoch: u64) -> Result<()> {
    let layout = Layout { folder };
    fs::create_dir_all(folder.join("blobs/sha256")).context("create the folder of the image")?;
    let mut manifests = Vec::new();
    for built in all {
        let entries = entries(built)?;
        let mut manifest = layout.image(built.target.debian, &entries, version, epoch)?;
        insert(&mut manifest, "platform", platform(built.target.debian));
        manifests.push(manifest);
    }
    layout.finish(&manifests, version)
}

/// A file of a layer, or a folder if it has no content.
struct Entry {
    path: String,
    content: Option<Vec<u8>>,
    mode: u32,
    owner: u64,
}

impl Entry {
    fn folder(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            content: None,
            mode: 0o755,
            owner: 0,
        }
    }

    fn file(path: &str, content: &[u8], mode: u32) -> Self {
        Self {
            content: Some(content.to_owned()),
            mode,
            ..Self::folder(path)
        }
    }
}

fn entries(built: &Built) -> Result<Vec<Entry>> {
    let folders = [
        "etc/",
        "etc/ssl/",
        "etc/tidegate/",
        "usr/",
        "usr/bin/",
        "var/",
        "var/lib/",
    ];
    let mut entries: Vec<_> = folders.into_iter().map(Entry::folder).collect();
    // Where certificates of authorities are looked for; those of the host are mounted there.
    entries.push(Entry::folder("etc/ssl/certs/"));
    entries.push(Entry {
        mode: 0o700,
        owner: USER,
        ..Entry::folder("var/lib/tidegate/")
    });
    entries.push(Entry::file(
        "etc/tidegate/tidegate.toml",
        CONFIGURATION,
        0o644,
    ));
    entries.push(Entry::file("usr/bin/tidegate", &built.bytes, 0o755));
    let libraries = built.facts.libraries();
    if !libraries.is_empty() {
        entries.push(Entry::folder("lib/"));
    }
    for library in libraries {
        let path = build::cross_libraries(built.target).join(library);
        let content = super::read(&path).context("the C library of the image")?;
        entries.push(Entry::file(&format!("lib/{library}"), &content, 0o755));
    }
    Ok(entries)
}

struct Layout<'a> {
    folder: &'a Path,
}

impl Layout<'_> {
    /// Writes the blobs of one architecture; the descriptor of its manifest.
    fn image(&self, debian: &str, entries: &[Entry], version: &str, epoch: u64) -> Result<Value> {
        let tar = tar(entries, epoch)?;
        let diff = format!("sha256:{}", sha256(&tar));
        let layer = self.blob(LAYER, &gzip(&tar)?)?;
        let created = rfc3339(epoch);
        let mut config = platform(debian);
        insert(&mut config, "created", json!(created));
        insert(&mut config, "config", run_options());
        insert(
            &mut config,
            "rootfs",
            json!({ "type": "layers", "diff_ids": [diff] }),
        );
        let history = json!([{ "created": created, "created_by": "cargo xtask dist" }]);
        insert(&mut config, "history", history);
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": {
                "org.opencontainers.image.title": "tidegate",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// One name for all architectures: an index of them, in the index of the folder.
    fn finish(&self, manifests: &[Value], version: &str) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut all = self.blob(INDEX, index.to_string().as_bytes())?;
        let name = json!({ "org.opencontainers.image.ref.name": version });
        insert(&mut all, "annotations", name);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [all] });
        super::write(&self.folder.join("index.json"), index.to_string())?;
        let layout = json!({ "imageLayoutVersion": "1.0.0" });
        super::write(&self.folder.join("oci-layout"), layout.to_string())
    }

    /// Writes a blob; its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Result<Value> {
        let digest = sha256(content);
        super::write(&self.folder.join("blobs/sha256").join(&digest), content)?;
        Ok(json!({
            "mediaType": media_type,
            "digest": format!("sha256:{digest}"),
            "size": content.len(),
        }))
    }
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// The words of OCI, which are Go's, for Debian's.
fn platform(debian: &str) -> Value {
    match debian {
        "arm64" => json!({ "architecture": "arm64", "variant": "v8", "os": "linux" }),
        "armhf" => json!({ "architecture": "arm", "variant": "v7", "os": "linux" }),
        other => json!({ "architecture": other, "os": "linux" }),
    }
}

fn run_options() -> Value {
    json!({
        "User": format!("{USER}:{USER}"),
        "Entrypoint": ["/usr/bin/tidegate"],
        "Cmd": ["run", "--config", "/etc/tidegate/tidegate.toml"],
        "WorkingDir": "/",
        "ExposedPorts": { "1883/tcp": {} },
        "Volumes": { "/var/lib/tidegate": {} },
        "StopSignal": "SIGTERM",
    })
}

fn tar(entries: &[Entry], epoch: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let content = entry.content.as_deref().unwrap_or_default();
        let kind = match entry.content {
            Some(_) => EntryType::Regular,
            None => EntryType::Directory,
        };
        let mut header = Header::new_ustar();
        header.set_path(&entry.path)?;
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner);
        header.set_gid(entry.owner);
        header.set_mtime(epoch);
        header.set_size(u64::try_from(content.len())?);
        header.set_cksum();
        archive.append(&header, content)?;
    }
    Ok(archive.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // Neither a name nor a time.
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
