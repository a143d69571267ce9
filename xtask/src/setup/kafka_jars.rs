//! Apache Kafka's jars: through Maven, checked against tests/kafka/jars.sha256.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use ::tests::cache::{Cache, KAFKA_CHECKSUMS};
use ::tests::program;
use anyhow::{Context, Result, bail, ensure};

use super::{Readiness, entry};
use crate::{command, workspace};

pub(crate) fn ensure(cache: &Cache) -> Result<Readiness> {
    entry::ensure(
        &cache.kafka_jars(),
        |jars| verify(jars, KAFKA_CHECKSUMS),
        download,
    )
}

/// `cargo xtask checksums`: for after a change of the pom.
pub(crate) fn write_checksums() -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    download(folder.path())?;
    let mut sums = Command::new("sha256sum");
    let output = sums
        .args(names_in(folder.path())?)
        .current_dir(folder.path())
        .output();
    let output = output.context("run sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed");
    let path = workspace::root().join("tests/kafka/jars.sha256");
    fs::write(&path, output.stdout).with_context(|| format!("write {}", path.display()))?;
    println!("Wrote {}; read the difference.", path.display());
    Ok(ExitCode::SUCCESS)
}

fn download(folder: &Path) -> Result<()> {
    if program::find("mvn").is_none() {
        bail!("Maven is not installed");
    }
    let mut maven = Command::new("mvn");
    maven
        .args([
            "--batch-mode",
            "--quiet",
            "--no-transfer-progress",
            "--file",
        ])
        .arg(workspace::root().join("tests/kafka/pom.xml"))
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", folder.display()));
    command::quiet(&mut maven).context("fetch Kafka's jars through Maven (is there network?)")
}

/// Fails unless exactly the listed jars are there with the listed contents.
fn verify(folder: &Path, checksums: &str) -> Result<()> {
    let listed: BTreeSet<String> = checksums
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect();
    let found = names_in(folder)?;
    if let Some(extra) = found.difference(&listed).next() {
        bail!("{extra} is not in jars.sha256");
    }
    let list = tempfile::NamedTempFile::new().context("create a temporary file")?;
    fs::write(list.path(), checksums).context("write the checksums")?;
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--strict", "--quiet"])
        .arg(list.path())
        .current_dir(folder);
    command::quiet(&mut check).context("Kafka's jars differ from jars.sha256")
}

fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Result<BTreeSet<String>> = names.collect();
    Ok(names?
        .into_iter()
        .filter(|name| name.ends_with(".jar"))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::verify;

    /// SHA-256 of "a".
    const SUM_OF_A: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    #[test]
    fn jars_pass_only_when_they_are_exactly_the_listed_ones() {
        let folder = tempfile::tempdir().unwrap();
        let list = format!("{SUM_OF_A}  a.jar\n");
        fs::write(folder.path().join("a.jar"), "a").unwrap();
        verify(folder.path(), &list).unwrap();
        fs::write(folder.path().join("b.jar"), "b").unwrap();
        let error = verify(folder.path(), &list).unwrap_err().to_string();
        assert_eq!(error, "b.jar is not in jars.sha256");
        fs::remove_file(folder.path().join("b.jar")).unwrap();
        fs::write(folder.path().join("a.jar"), "b").unwrap();
        assert!(verify(folder.path(), &list).is_err());
        fs::remove_file(folder.path().join("a.jar")).unwrap();
        assert!(verify(folder.path(), &list).is_err());
    }
}
