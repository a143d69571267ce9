//! The unit under a real systemd: what it shows, what its sandbox allows, credentials; a process that
//! hangs; a disk that is full.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::deadline::wait_for;
use tests::mqtt::{Client, Connect, Packet, Publish, SUCCESS, Version};

use super::install::CONFIGURATION;
use crate::machine::BOOT_PATIENCE;
use crate::publishers::TOPICS;
use crate::stage::{Stage, UNIT};

/// Where drop-ins of the suite for the unit go.
const DROP_INS: &str = "/etc/systemd/system/tidegate.service.d";
/// "Quota exceeded" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;
/// Load between two looks.
const LOAD: Duration = Duration::from_secs(4);

/// A forbidden system call ends the process instead of failing, the configuration comes as a credential, and
/// the devices publish: the process lives, and status shows what it should.
pub(crate) fn sandbox(stage: &mut Stage, credentials: &str) -> Result<String> {
    let guest = stage.guest();
    guest.write(
        &format!("{DROP_INS}/credentials.conf"),
        credentials.as_bytes(),
    )?;
    let kill = "[Service]\nSystemCallErrorNumber=kill\n";
    guest.write(&format!("{DROP_INS}/kill.conf"), kill.as_bytes())?;
    // Only root can read it now: the service gets its copy.
    guest.run(&format!(
        "chown root:root {CONFIGURATION}; chmod 600 {CONFIGURATION}"
    ))?;
    restart(stage)?;
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    stage.check_everything(false)?;
    let pid = guest.run(&format!("systemctl show {UNIT} --property=MainPID --value"))?;
    let pid = pid.trim();
    let seen = |path: &str| guest.run(&format!("nsenter -t {pid} -m -- {path}"));
    let written = guest.try_run(
        &format!("nsenter -t {pid} -m -- touch /etc/written 2>&1"),
        &[],
    )?;
    ensure!(
        written.1 != 0,
        "ProtectSystem=strict leaves /etc to be written"
    );
    seen("touch /var/lib/tidegate/.suite && rm /var/lib/tidegate/.suite")?;
    let runtime = guest.run("stat --format='%U %a' /run/tidegate")?;
    ensure!(
        runtime.trim() == "tidegate 750",
        "/run/tidegate is {runtime}"
    );
    let process = guest.run(&format!(
        "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/{pid}/status"
    ))?;
    let process = process.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        process.contains("Seccomp: 2"),
        "no filter of system calls: {process}"
    );
    let credential = guest.run(&format!("tr '\\0' ' ' < /proc/{pid}/cmdline"))?;
    ensure!(
        credential.contains("/run/credentials/"),
        "no credential: {credential}"
    );
    let status = guest.run(&format!("systemctl status {UNIT} --no-pager --lines=0"))?;
    let line = status
        .lines()
        .find(|line| line.contains("Status:"))
        .context("no status line")?;
    ensure!(
        line.contains("connections") && line.contains("uplink: up"),
        "{line}"
    );
    let text = line.trim().to_owned();
    guest.run(&format!(
        "rm {DROP_INS}/*.conf; chown root:tidegate {CONFIGURATION}; chmod 640 {CONFIGURATION}"
    ))?;
    stage.check_journal(&[])?;
    restart(stage)?;
    Ok(format!("{process}; {text}"))
}

/// The process is stopped (SIGSTOP): systemd's watchdog ends it and starts it again.
pub(crate) fn watchdog(stage: &mut Stage) -> Result<String> {
    let guest = stage.guest();
    // The limit of the unit, five minutes, is for a slow card. This one is for a scenario.
    guest.write(
        &format!("{DROP_INS}/watchdog.conf"),
        b"[Service]\nWatchdogSec=30\n",
    )?;
    restart(stage)?;
    stage.devices.publish_for(LOAD)?;
    let show = |property: &str| {
        let command = format!("systemctl show {UNIT} --property={property} --value");
        anyhow::Ok(guest.run(&command)?.trim().to_owned())
    };
    let (pid, restarts) = (show("MainPID")?, show("NRestarts")?);
    guest.run(&format!("kill -STOP {pid}"))?;
    stage.books.note_on_their_way(stage.devices.on_their_way()?);
    wait_for(
        "the watchdog to start the product again",
        BOOT_PATIENCE,
        || {
            stage.devices.publish_for(Duration::from_millis(500))?;
            stage.books.note_on_their_way(stage.devices.on_their_way()?);
            Ok((show("NRestarts")? != restarts).then_some(()))
        },
    )?;
    stage.wait_ready()?;
    let journal = guest.run(&format!(
        "journalctl --boot --no-pager --unit={UNIT} | grep -i watchdog"
    ))?;
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    stage.check_everything(false)?;
    guest.run(&format!("rm {DROP_INS}/watchdog.conf"))?;
    restart(stage)?;
    let line = journal
        .lines()
        .find(|line| line.contains("timeout"))
        .context("no watchdog timeout")?;
    let said = line
        .split_once("systemd[1]: ")
        .map_or(line, |(_, said)| said);
    Ok(said.to_owned())
}

/// The file system fills up: publishes are refused for that reason, what was acknowledged stays, and
/// when there is room again they are taken.
pub(crate) fn disk_full(stage: &mut Stage) -> Result<String> {
    let guest = stage.guest();
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    // 32 MiB are left, less than the 64 that the product keeps free.
    guest.run(
        "free=$(df --output=avail --block-size=1M / | tail -1); \
         fallocate --length $((free - 32))M /var/ballast && sync",
    )?;
    let mqtt = stage.hardware.ports.mqtt();
    let refused = wait_for("a publish to be refused", BOOT_PATIENCE, || {
        let (mut client, _) = Client::try_connect(mqtt, &Connect::new(Version::V5, "probe"))?;
        // Of another topic: what is taken until it is noticed is none of the devices' messages.
        let publish = Publish {
            packet_id: Some(1),
            ..Publish::new("probe", "is there room?")
        };
        client.send(&publish.encode(Version::V5))?;
        match client.receive()? {
            Some(Packet::Puback { code: SUCCESS, .. }) => Ok(None),
            Some(Packet::Puback { code, .. }) => Ok(Some(code)),
            other => anyhow::bail!("{other:?} in the place of PUBACK"),
        }
    })?;
    ensure!(refused == QUOTA_EXCEEDED, "refused with {refused:#04x}");
    let asked = format!("systemctl show {UNIT} --property=StatusText --value");
    let status = wait_for("a status line with the reason", BOOT_PATIENCE, || {
        let line = guest.run(&asked)?;
        Ok(line.contains("disk full").then_some(line))
    })?;
    stage.check_everything(true).context("with a full disk")?;
    guest.run("rm /var/ballast && sync")?;
    wait_for("room to be noticed", BOOT_PATIENCE, || {
        let (mut client, _) = Client::try_connect(mqtt, &Connect::new(Version::V5, "probe"))?;
        let code = client.publish_acknowledged(Publish::new("probe", "and now?"))?;
        Ok((code == SUCCESS).then_some(()))
    })?;
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    stage.check_everything(true)?;
    stage.check_journal(&["Disk is full: publishes are refused."])?;
    Ok(format!(
        "refused with {refused:#04x}; {}; topics of {TOPICS} whole",
        status.trim()
    ))
}

fn restart(stage: &mut Stage) -> Result<()> {
    stage.devices.finish()?;
    stage.guest().run(&format!(
        "systemctl daemon-reload; systemctl restart {UNIT}"
    ))?;
    stage.wait_ready()?;
    let machine = stage.machine.as_mut().context("the machine is off")?;
    stage.devices.begin_again();
    stage.devices.connect(|| machine.check())?;
    Ok(())
}
