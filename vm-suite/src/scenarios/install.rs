//! The package is installed by dpkg in the running guest; the product becomes ready by itself, takes
//! messages, and they come to Kafka.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::machine::UPSTREAM;
use crate::publishers::TOPICS;
use crate::stage::{Stage, UNIT};

/// Where the product looks for its configuration.
pub(crate) const CONFIGURATION: &str = "/etc/tidegate/tidegate.toml";
/// How long the devices publish.
const LOAD: Duration = Duration::from_secs(5);

/// The configuration of the suite. `durability` is that of the log.
pub(crate) fn configuration(durability: &str) -> String {
    format!(
        "data_dir = \"/var/lib/tidegate\"\n\
         gateway_id = \"vm-suite\"\n\
         board = \"pi-zero-2w\"\n\
         [[listener]]\nbind = \"0.0.0.0:1883\"\nallow_anonymous = true\n\
         [[log]]\nname = \"{TOPICS}\"\nfilters = [\"{TOPICS}/#\"]\npartitions = 4\n\
         durability = \"{durability}\"\nretention = {{ bytes = \"512MiB\" }}\n\
         [[log]]\nname = \"default\"\nretention = {{ bytes = \"64MiB\" }}\n\
         [bridge]\nbootstrap = [\"{UPSTREAM}\"]\n\
         [[bridge.route]]\nname = \"{TOPICS}\"\nlog = \"{TOPICS}\"\ntopic = \"{TOPICS}\"\n"
    )
}

/// Puts a package into the guest and installs it there, over what is installed.
pub(crate) fn dpkg(stage: &Stage, package: &Path) -> Result<String> {
    let content = fs::read(package).with_context(|| format!("read {}", package.display()))?;
    let guest = stage.guest();
    guest.write("/var/tmp/tidegate.deb", &content)?;
    guest.run("DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install /var/tmp/tidegate.deb")
}

/// Plays it, on a disk without the product.
pub(crate) fn play(stage: &mut Stage, package: &Path, durability: &str) -> Result<String> {
    stage.boot(None, false)?;
    let booted = stage.machine()?.age();
    dpkg(stage, package)?;
    stage
        .wait_ready()
        .context("after the installation, by itself")?;
    let guest = stage.guest();
    let enabled = guest.run(&format!("systemctl is-enabled {UNIT}"))?;
    ensure!(enabled.trim() == "enabled", "the unit is {enabled}");
    let mode = guest.run(&format!("stat --format='%U:%G %a' {CONFIGURATION}"))?;
    // The permissions stay: it is written into the file that is there.
    guest.write(CONFIGURATION, configuration(durability).as_bytes())?;
    guest.run(&format!("tidegate check --config {CONFIGURATION}"))?;
    guest.run(&format!("systemctl restart {UNIT}"))?;
    stage.wait_ready()?;
    stage.devices.begin_again();
    let machine = stage.machine.as_mut().context("the machine is off")?;
    stage.devices.connect(|| machine.check())?;
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    stage.check_everything(true)?;
    stage.check_journal(&[])?;
    Ok(format!(
        "shell {:.0} s after power on; {} acknowledged, {} in log and Kafka; {CONFIGURATION} {}",
        booted.as_secs_f64(),
        stage.devices.acknowledged(),
        stage.books.records(),
        mode.trim()
    ))
}
