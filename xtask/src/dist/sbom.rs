//! The software bill of materials of a binary: CycloneDX 1.5 as JSON, with the crates that are compiled
//! into it for its target, what of them depends on what, and the toolchain.
//!
//! Which crates these are is cargo's answer (`cargo tree`), with the features that the target has; no
//! procedural macros and build scripts, which leave nothing but code of the others. Licences are those of
//! the manifests, checksums those of Cargo.lock. The format: <https://cyclonedx.org/docs/1.5/json/>.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::build::{self, Built};
use super::build_info::Pairs;
use super::checksums::sha256;
use crate::workspace;

/// A crate by name and version.
type Name = (String, String);

const PROGRAM: &str = "tidegate";

/// What cargo knows of all crates of the workspace.
pub(super) struct Lock {
    packages: BTreeMap<Name, Package>,
}

#[derive(Default)]
struct Package {
    license: String,
    /// SHA-256 of the crate in the registry; ours are in none.
    checksum: Option<String>,
}

impl Lock {
    /// Of Cargo.lock and the manifests.
    pub(super) fn read() -> Result<Self> {
        let path = workspace::root().join("Cargo.lock");
        let text = String::from_utf8(super::read(&path)?).context("read Cargo.lock")?;
        let lock: toml::Table = text.parse().context("read Cargo.lock")?;
        let metadata = metadata(&[])?;
        let mut packages: BTreeMap<Name, Package> = BTreeMap::new();
        for package in array(&metadata, "packages") {
            // `/` is an old way to write the same.
            let license = string(package, "license");
            let license = license.replace(" / ", "/").replace('/', " OR ");
            let name = (string(package, "name"), string(package, "version"));
            packages.entry(name).or_default().license = license;
        }
        let locked = lock.get("package").and_then(toml::Value::as_array);
        for locked in locked.context("Cargo.lock has no packages")? {
            let text = |key| locked.get(key).and_then(toml::Value::as_str);
            let (Some(name), Some(version)) = (text("name"), text("version")) else {
                continue;
            };
            if let Some(package) = packages.get_mut(&(name.to_owned(), version.to_owned())) {
                package.checksum = text("checksum").map(str::to_owned);
            }
        }
        Ok(Self { packages })
    }

    /// The program's.
    pub(super) fn version(&self) -> Result<String> {
        let mut names = self.packages.keys();
        let found = names.find(|(name, _)| name == PROGRAM);
        Ok(found.context("the workspace has no tidegate")?.1.clone())
    }
}

/// The document.
pub(super) fn of(lock: &Lock, built: &Built, info: &Pairs, epoch: u64) -> Result<Value> {
    let triple = built.target.triple;
    let compiled = compiled(triple)?;
    let mut components = Vec::new();
    for name in compiled.iter().filter(|(name, _)| name != PROGRAM) {
        let package = lock.packages.get(name);
        let package = package.with_context(|| format!("{} is not in Cargo.lock", name.0))?;
        components.push(component(name, package));
    }
    let value = |wanted: &str| {
        let found = info.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    components.push(json!({
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": value("rustc"),
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    if built.target.is_static {
        components.push(json!({
            "type": "library",
            "bom-ref": "musl",
            "name": "musl",
            "description": "the C library that rust-std brings",
            "licenses": [{ "expression": "MIT" }],
        }));
    }
    let properties = info
        .iter()
        .map(|(name, value)| json!({ "name": format!("tidegate:{name}"), "value": value }));
    let program = (PROGRAM.to_owned(), lock.version()?);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(epoch),
            "tools": { "components": [{ "type": "application", "name": "cargo xtask dist" }] },
            "component": {
                "type": "application",
                "bom-ref": reference(&program),
                "name": PROGRAM,
                "version": program.1,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "hashes": [{ "alg": "SHA-256", "content": sha256(&built.bytes) }],
                "properties": properties.collect::<Vec<_>>(),
            },
        },
        "components": components,
        "dependencies": dependencies(triple, &compiled)?,
    }))
}

fn component(name: &Name, package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(name),
        "name": name.0,
        "version": name.1,
        "licenses": [{ "expression": package.license }],
    });
    if let (Some(checksum), Some(object)) = (&package.checksum, component.as_object_mut()) {
        object.insert("purl".into(), json!(reference(name)));
        let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
        object.insert("hashes".into(), hashes);
    }
    component
}

fn reference((name, version): &Name) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// The program and every crate that is compiled into it.
fn compiled(triple: &str) -> Result<BTreeSet<Name>> {
    let mut tree = workspace::cargo();
    tree.args(["tree", "--locked", "--package", PROGRAM, "--target", triple])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}"]);
    let tree = build::output(&mut tree)?;
    let names = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        Some((name.to_owned(), version.trim_start_matches('v').to_owned()))
    });
    Ok(names.collect())
}

/// A crate that is in the binary and is not ours.
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) version: String,
    /// As its manifest says it.
    pub(crate) license: String,
    /// Of its sources.
    pub(crate) folder: PathBuf,
}

/// The crates that are linked for a target, without those of the workspace.
pub(crate) fn linked(triple: &str) -> Result<Vec<Linked>> {
    let compiled = compiled(triple)?;
    let metadata = metadata(&["--filter-platform", triple])?;
    let packages = array(&metadata, "packages").iter();
    let others = packages.filter(|package| !string(package, "source").is_empty());
    let mut linked: Vec<_> = others
        .map(|package| Linked {
            name: string(package, "name"),
            version: string(package, "version"),
            license: string(package, "license"),
            folder: PathBuf::from(string(package, "manifest_path"))
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default(),
        })
        .filter(|linked| compiled.contains(&(linked.name.clone(), linked.version.clone())))
        .collect();
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

/// The workspace's version, without the rest of what a lock file has.
pub(crate) fn workspace_version() -> Result<String> {
    Lock::read()?.version()
}

/// Which of them uses which.
fn dependencies(triple: &str, compiled: &BTreeSet<Name>) -> Result<Vec<Value>> {
    let metadata = metadata(&["--filter-platform", triple])?;
    let packages = array(&metadata, "packages").iter().map(|package| {
        let name = (string(package, "name"), string(package, "version"));
        (string(package, "id"), name)
    });
    let names: BTreeMap<String, Name> = packages.collect();
    let mut dependencies = Vec::new();
    let resolve = metadata.get("resolve").unwrap_or(&Value::Null);
    for node in array(resolve, "nodes") {
        let Some(name) = names.get(&string(node, "id")) else {
            continue;
        };
        if !compiled.contains(name) {
            continue;
        }
        let normal = |edge: &&Value| {
            array(edge, "dep_kinds")
                .iter()
                .any(|kind| kind.get("kind").is_none_or(Value::is_null))
        };
        let on = array(node, "deps").iter().filter(normal);
        let on = on.filter_map(|edge| names.get(&string(edge, "pkg")));
        let on: BTreeSet<_> = on.filter(|n| compiled.contains(n)).map(reference).collect();
        dependencies.push(json!({ "ref": reference(name), "dependsOn": on }));
    }
    Ok(dependencies)
}

fn metadata(arguments: &[&str]) -> Result<Value> {
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--format-version=1"]);
    let text = build::output(metadata.args(arguments))?;
    serde_json::from_str(&text).context("read what cargo metadata says")
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let array = value.get(key).and_then(Value::as_array);
    array.map(Vec::as_slice).unwrap_or_default()
}

fn string(value: &Value, key: &str) -> String {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// Seconds since 1970 as a date and time in UTC.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let ((year, month, day), second) = (date(seconds), seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same as Debian's changelogs write it.
pub(crate) fn rfc2822(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let name = |names: &[&'static str], at: u64| {
        let at = usize::try_from(at).unwrap_or_default();
        names.get(at).copied().unwrap_or_default()
    };
    let ((year, month, day), second) = (date(seconds), seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let week_day = name(&DAYS, seconds / 86_400 % 7);
    let month = name(&MONTHS, month - 1);
    format!("{week_day}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Year, month and day in UTC.
fn date(seconds: u64) -> (u64, u64, u64) {
    let days = seconds / 86_400;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    loop {
        let length = 365 + u64::from(is_leap(year));
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
#[path = "sbom_tests.rs"]
mod tests;
