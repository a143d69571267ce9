//! What an owner does to a gateway that works: reboot it, upgrade it, go back to the version before. Devices
//! publish all the time; nothing that was acknowledged is lost, nothing is doubled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::programs;
use crate::stage::{Stage, UNIT};

/// Load before and after.
const LOAD: Duration = Duration::from_secs(4);

/// Reboots in good order under load; afterwards systemd's watchdogs work or not.
pub(crate) fn reboot(stage: &mut Stage, watchdogs: bool) -> Result<String> {
    stage.devices.publish_for(LOAD)?;
    // The answer may not come any more.
    let _ = stage.guest().try_run("systemctl --no-block reboot", &[]);
    let machine = stage.machine.take().context("the machine is off")?;
    // The emulator ends when the machine starts again (-no-reboot).
    let watched = std::thread::spawn(move || machine.wait_off());
    while !watched.is_finished() {
        stage.devices.publish_for(Duration::from_millis(500))?;
    }
    watched
        .join()
        .map_err(|_| anyhow::anyhow!("waiting panicked"))??;
    stage.devices.take_last_words()?;
    stage.books.note_on_their_way(stage.devices.on_their_way()?);
    stage.devices.server_is_dead()?;
    let boot = stage.boot_to_service(None, watchdogs)?;
    stage.devices.publish_for(LOAD)?;
    settle(stage)?;
    Ok(format!("{boot}; {} records", stage.books.records()))
}

/// Upgrades and goes back, while systemd holds the listener's socket: connections wait, and none is
/// closed before it is let in.
pub(crate) fn upgrade_and_downgrade(
    stage: &mut Stage,
    package: &Path,
    next: Option<&Path>,
    folder: &Path,
) -> Result<String> {
    let next = next.map_or_else(|| successor(package, folder), |path| Ok(path.to_owned()))?;
    let guest = stage.guest();
    let drop_in = "[Socket]\nListenStream=\nListenStream=0.0.0.0:1883\n";
    guest.write(
        "/etc/systemd/system/tidegate.socket.d/suite.conf",
        drop_in.as_bytes(),
    )?;
    guest.run(&format!(
        "systemctl daemon-reload; systemctl stop {UNIT}; systemctl enable --now tidegate.socket; \
         systemctl start {UNIT}"
    ))?;
    stage.wait_ready()?;
    let mut told = Vec::new();
    for package in [next.as_path(), package] {
        let installed = under_load(stage, package)?;
        told.push(installed);
    }
    guest.run(&format!(
        "systemctl stop {UNIT} tidegate.socket; systemctl disable tidegate.socket; \
         systemctl start {UNIT}"
    ))?;
    settle(stage)?;
    Ok(told.join("; "))
}

/// Installs a package while the devices publish; the version that runs then.
fn under_load(stage: &mut Stage, package: &Path) -> Result<String> {
    let guest = stage.guest();
    stage.devices.publish_for(LOAD)?;
    let content = fs::read(package).with_context(|| format!("read {}", package.display()))?;
    guest.write("/var/tmp/tidegate.deb", &content)?;
    let before = stage.devices.refused();
    let dpkg = std::thread::spawn(move || {
        guest.run(
            "DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install /var/tmp/tidegate.deb",
        )
    });
    while !dpkg.is_finished() {
        stage.devices.publish_for(Duration::from_millis(500))?;
        stage.books.note_on_their_way(stage.devices.on_their_way()?);
    }
    dpkg.join()
        .map_err(|_| anyhow::anyhow!("dpkg panicked"))??;
    stage.wait_ready()?;
    stage.devices.publish_for(LOAD)?;
    let refused = stage.devices.refused() - before;
    ensure!(
        refused == 0,
        "{refused} connections were closed before they were let in"
    );
    let version = guest.run("dpkg-query --show --showformat='${Version}' tidegate")?;
    Ok(format!(
        "{} installed under load, nobody refused",
        version.trim()
    ))
}

/// Everything is acknowledged, in the log, and in Kafka.
fn settle(stage: &mut Stage) -> Result<()> {
    stage.wait_ready()?;
    stage.devices.finish()?;
    stage.check_everything(true)?;
    stage.check_journal(&[])
}

/// The same package with a later version: what an upgrade does to what is there can be seen without a
/// program that differs.
fn successor(package: &Path, folder: &Path) -> Result<PathBuf> {
    let root = tempfile::tempdir_in(folder).context("make a folder")?;
    let next = folder.join("next.deb");
    programs::run(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(package)
            .arg(root.path()),
    )?;
    let control = root.path().join("DEBIAN/control");
    let text = fs::read_to_string(&control).context("read the package's control file")?;
    let raised: String = text
        .lines()
        .map(|line| match line.strip_prefix("Version: ") {
            Some(version) => format!("Version: {version}+next\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write(&control, raised).context("write the package's control file")?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]);
    programs::run(build.arg(root.path()).arg(&next))?;
    Ok(next)
}
