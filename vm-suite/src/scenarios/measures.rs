//! What the product takes of the machine's memory: idle, with many connections, and while it sends a backlog
//! to Kafka. No figure is of a real board.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::deadline::wait_for;
use tests::mqtt::crowd::{Crowd, Happened, allow_connections};
use tests::mqtt::kept::{Event, Kept};
use tests::mqtt::{Client, Connect, Packet, Publish, Version};

use super::install::{CONFIGURATION, configuration};
use crate::machine::BOOT_PATIENCE;
use crate::publishers::TOPICS;
use crate::stage::{Stage, UNIT};

/// How long nothing happens before the idle process is looked at.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// How long devices publish before that.
const LOAD: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 1000;
/// Bytes of a message of the backlog.
const MESSAGE_BYTES: usize = 16 << 10;
/// Messages of the backlog that are on their way.
const WINDOW: usize = 32;
/// Between two looks while the backlog is sent.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Memory of the process and of its cgroup, in KiB.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    rss: u64,
    pss: u64,
    /// Of the cgroup: with the kernel's cache of its files.
    current: u64,
    /// Of the cgroup, without that cache.
    anonymous: u64,
}

/// Devices have published and are gone; nothing is to do for five minutes.
pub(crate) fn idle(stage: &mut Stage) -> Result<String> {
    begin(stage, true)?;
    stage.devices.begin_again();
    let machine = stage.machine.as_mut().context("the machine is off")?;
    stage.devices.connect(|| machine.check())?;
    stage.devices.publish_for(LOAD)?;
    stage.devices.finish()?;
    stage.devices.server_is_dead()?;
    std::thread::sleep(QUIET);
    Ok(look(stage)?.to_string())
}

/// A thousand clients that do nothing.
pub(crate) fn connections(stage: &mut Stage) -> Result<String> {
    begin(stage, true)?;
    allow_connections(CONNECTIONS)?;
    let mut crowd = Crowd::new(stage.hardware.ports.mqtt())?;
    for number in 0..CONNECTIONS {
        crowd.add(Kept::new(Version::V5, &format!("idle-{number}"), 16, 16));
    }
    let mut open = 0;
    for number in 0..CONNECTIONS {
        crowd.connect(number, false)?;
        // Not all at once: the emulator's network has a queue of its own.
        let end = Instant::now() + BOOT_PATIENCE;
        while open <= number {
            ensure!(Instant::now() < end, "{open} of {CONNECTIONS} connected");
            crowd.turn(Duration::from_millis(20), |_, number, happened| {
                open += usize::from(matches!(happened, Happened::Event(Event::Connected { .. })));
                ensure!(happened != Happened::Ended, "connection {number} was ended");
                Ok(())
            })?;
        }
    }
    Ok(format!("{CONNECTIONS} connections: {}", look(stage)?))
}

/// A backlog is made without a bridge, and sent with one.
pub(crate) fn backlog(stage: &mut Stage, bytes: u64) -> Result<String> {
    begin(stage, false)?;
    let (count, begin_filling) = (bytes.div_ceil(MESSAGE_BYTES as u64), Instant::now());
    fill(stage, count)?;
    let filled = begin_filling.elapsed();
    let before = stage.upstream.count()?;
    begin(stage, true)?;
    let (begin_draining, mut most) = (Instant::now(), Memory::default());
    let patience = BOOT_PATIENCE * 5;
    wait_for("the backlog in Kafka", patience, || {
        std::thread::sleep(LOOK_EVERY);
        let now = look(stage)?;
        most = Memory {
            rss: most.rss.max(now.rss),
            pss: most.pss.max(now.pss),
            current: most.current.max(now.current),
            anonymous: most.anonymous.max(now.anonymous),
        };
        Ok((stage.upstream.count()? - before >= count).then_some(()))
    })?;
    Ok(format!(
        "{} MB in {count} messages, filled in {:.0} s, sent in {:.0} s; at most {most}",
        bytes / 1_000_000,
        filled.as_secs_f64(),
        begin_draining.elapsed().as_secs_f64()
    ))
}

fn fill(stage: &mut Stage, count: u64) -> Result<()> {
    let connect = Connect::new(Version::V311, "filler");
    let mut client = Client::connect(stage.hardware.ports.mqtt(), &connect)?;
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    let mut message = Publish::new(&format!("{TOPICS}/backlog"), vec![b'b'; MESSAGE_BYTES]);
    while acknowledged < count {
        while sent < count && sent - acknowledged < WINDOW as u64 {
            message.packet_id = Some(u16::try_from(sent % 60_000)? + 1);
            client.send(&message.encode(Version::V311))?;
            sent += 1;
        }
        match client.receive()? {
            Some(Packet::Puback { .. }) => acknowledged += 1,
            other => anyhow::bail!("{other:?} in the place of PUBACK"),
        }
    }
    Ok(())
}

/// A new process with nobody connected, with limits that the measures ask for.
fn begin(stage: &mut Stage, bridges: bool) -> Result<()> {
    let text = configuration("commit")
        .replace(
            "allow_anonymous = true",
            "allow_anonymous = true\nconnections_max = 1100",
        )
        .replace("512MiB", "1400MiB");
    let text = match text.split_once("[bridge]") {
        Some((without, _)) if !bridges => without.to_owned(),
        _ => text,
    };
    stage.devices.server_is_dead()?;
    let guest = stage.guest();
    guest.write(CONFIGURATION, text.as_bytes())?;
    guest.run(&format!("systemctl restart {UNIT}"))?;
    stage.wait_ready()?;
    Ok(())
}

fn look(stage: &Stage) -> Result<Memory> {
    let text = stage.guest().run(&format!(
        "pid=$(systemctl show {UNIT} --property=MainPID --value); cat /proc/$pid/smaps_rollup; \
         cd /sys/fs/cgroup/system.slice/{UNIT}; echo current $(cat memory.current); \
         grep '^anon ' memory.stat"
    ))?;
    let number = |name: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        let found = found.with_context(|| format!("no {name} in {text}"))?;
        found.parse::<u64>().context("a number of bytes")
    };
    Ok(Memory {
        rss: number("Rss:")?,
        pss: number("Pss:")?,
        current: number("current ")? >> 10,
        anonymous: number("anon ")? >> 10,
    })
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "RSS {:.1} MiB, PSS {:.1}, cgroup {:.1}, of that anonymous {:.1}",
            mib(self.rss),
            mib(self.pss),
            mib(self.current),
            mib(self.anonymous)
        )
    }
}
