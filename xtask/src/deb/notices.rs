//! Copyright: our own licence, and the notices of every crate that is in the binary.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cross::Target;
use crate::dist::sbom::{self, Linked};
use crate::workspace;

/// How a file with a licence or a notice begins, in capitals.
const BEGINNINGS: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// The package's two files.
pub(super) struct Notices {
    /// `copyright`, as Debian's machine-readable format 1.0 has it.
    pub(super) copyright: String,
    /// Every text that comes with a crate, once, and which crates it is of.
    pub(super) texts: String,
}

/// Of what is linked for a target.
pub(super) fn of(target: &Target) -> Result<Notices> {
    let linked = sbom::linked(target.triple)?;
    Ok(Notices {
        copyright: copyright(target, &linked)?,
        texts: texts(&linked)?,
    })
}

fn copyright(target: &Target, linked: &[Linked]) -> Result<String> {
    let path = workspace::root().join("LICENSE-MIT");
    let mit = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut text = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: tidegate\n\
         Comment: The binary has these crates in it. Their own notices are in\n \
         /usr/share/doc/tidegate/third-party-notices.gz:\n",
    );
    for Linked {
        name,
        version,
        license,
        ..
    } in linked
    {
        text.push_str(&format!(" {name} {version}: {license}\n"));
    }
    text.push_str(" Rust's standard library: MIT OR Apache-2.0\n");
    if target.is_static {
        text.push_str(" musl, copyright 2005-2020 Rich Felker and others: MIT\n");
    }
    text.push_str(
        "\nFiles: *\nCopyright: 2026 the Tidegate developers\nLicense: MIT or Apache-2.0\n\n\
         License: MIT\n",
    );
    text.push_str(&indented(&mit));
    text.push_str(
        "\nLicense: Apache-2.0\n On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n",
    );
    Ok(text)
}

/// The text of a field: each line has a space before it, an empty one a dot.
pub(super) fn indented(text: &str) -> String {
    let lines = text.trim().lines().map(|line| match line.trim_end() {
        "" => String::from(" .\n"),
        line => format!(" {line}\n"),
    });
    lines.collect()
}

fn texts(linked: &[Linked]) -> Result<String> {
    let mut crates_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for Linked {
        name,
        version,
        license,
        folder,
    } in linked
    {
        let found = files(folder)?;
        if found.is_empty() {
            without.push(format!("{name} {version}: {license}"));
        }
        for text in found {
            let crates = crates_of.entry(text).or_default();
            crates.push(format!("{name} {version}"));
        }
    }
    let mut by_crates: Vec<_> = crates_of.into_iter().collect();
    by_crates.sort_by(|(_, a), (_, b)| a.cmp(b));
    let rule = "-".repeat(78);
    let mut all = String::from("Licences and notices of the crates that are in the program.\n");
    for (text, crates) in by_crates {
        all.push_str(&format!(
            "\n{rule}\n{}\n{rule}\n\n{}\n",
            crates.join(", "),
            text.trim()
        ));
    }
    if !without.is_empty() {
        all.push_str(&format!("\n{rule}\nWithout a text of their own; the terms are those that their manifests name:\n"));
        all.push_str(&format!("{}\n", without.join("\n")));
    }
    Ok(all)
}

/// The texts that a crate's folder has, by name.
fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        if path.is_file() && BEGINNINGS.iter().any(|begin| name.starts_with(begin)) {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found.insert(name, String::from_utf8_lossy(&bytes).replace('\r', ""));
        }
    }
    Ok(found.into_values().collect())
}
