//! The control files: what dpkg knows of the package, its scripts, and its changelog as Debian writes one.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::staging::Staging;
use crate::cross::Target;
use crate::dist::{rfc2822, workspace_version};
use crate::workspace;

const MAINTAINER: &str = "Tidegate developers <tidegate@packages.example.org>";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
const CONFFILES: &[&str] = &["etc/tidegate/tidegate.toml"];
const DESCRIPTION: &str = "\
Description: edge broker: MQTT in, logs on flash, exactly once into Kafka
 Devices publish to it over MQTT 3.1.1 and 5; every message is kept in
 partitioned logs on the gateway's own flash before it is acknowledged, and
 a bridge replicates the logs to a central Kafka-compatible cluster whenever
 the link allows, every record exactly once and in order.
";

/// A version of the package: upstream's, and Debian's revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    /// As a command line gives it: `0.1.0-1`, `0.2.0~rc1-1`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let is_known = |char: char| char.is_ascii_alphanumeric() || ".+~-".contains(char);
        let begins = text.starts_with(|char: char| char.is_ascii_digit());
        let revision = text.rsplit_once('-').map_or("", |(_, revision)| revision);
        if !begins || revision.is_empty() || !text.chars().all(is_known) {
            bail!(
                "--version {text}; allowed: digits, letters and .+~ from a digit on, and a revision, such as 0.1.0-1"
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// The workspace's, first revision. A pre-release sorts before its release, which takes a tilde.
    pub(crate) fn of_workspace() -> Result<Self> {
        Self::parse(&format!("{}-1", workspace_version()?.replacen('-', "~", 1)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes them beside what is staged.
pub(super) fn write(staging: &Staging, target: &Target, version: &Version) -> Result<()> {
    let sums = md5sums(staging)?;
    let bytes = installed_bytes(staging)?;
    staging.file("DEBIAN/control", control(target, version, bytes), 0o644)?;
    staging.file("DEBIAN/md5sums", sums, 0o644)?;
    let conffiles: String = CONFFILES.iter().map(|path| format!("/{path}\n")).collect();
    staging.file("DEBIAN/conffiles", conffiles, 0o644)?;
    for script in SCRIPTS {
        let path = workspace::root().join("packaging").join(script);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        staging.file(&format!("DEBIAN/{script}"), text, 0o755)?;
    }
    Ok(())
}

/// The fields; `bytes` are those of the installed files.
pub(super) fn control(target: &Target, version: &Version, bytes: u64) -> String {
    let libraries = match target.is_static {
        true => "",
        false => ", libc6 (>= 2.34), libgcc-s1",
    };
    format!(
        "Package: tidegate\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {}\n\
         Pre-Depends: init-system-helpers (>= 1.54~)\n\
         Depends: systemd (>= 247){libraries}\n\
         Suggests: kcat, mosquitto-clients\n\
         Section: net\n\
         Priority: optional\n\
         {DESCRIPTION}",
        target.debian,
        bytes.div_ceil(1024),
    )
}

/// One entry: what changed stands in the project's own changelog.
pub(super) fn changelog(version: &Version, epoch: u64) -> String {
    format!(
        "tidegate ({version}) stable; urgency=medium\n\n  \
         * What changed stands in /usr/share/doc/tidegate/changelog.gz.\n\n \
         -- {MAINTAINER}  {}\n",
        rfc2822(epoch)
    )
}

fn installed_bytes(staging: &Staging) -> Result<u64> {
    let files = staging.files()?;
    let sizes = files
        .iter()
        .map(|path| Ok(fs::metadata(staging.root().join(path))?.len()));
    sizes.sum()
}

/// As `dpkg --verify` reads them: of every file that is no conffile.
fn md5sums(staging: &Staging) -> Result<String> {
    let files = staging.files()?;
    let files = files
        .iter()
        .filter(|path| !CONFFILES.contains(&path.as_str()));
    let mut md5sum = Command::new("md5sum");
    let output = md5sum.args(files).current_dir(staging.root()).output();
    let output = output.context("run md5sum (Debian package coreutils)")?;
    anyhow::ensure!(
        output.status.success(),
        "md5sum ended with {}",
        output.status
    );
    String::from_utf8(output.stdout).context("read what md5sum says")
}
