//! What all scenarios play on: the machine with its disk, Kafka, the devices, and the books.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::deadline::wait_for;
use tests::mqtt::{Client, Connect, Packet, Received, SUCCESS, Version};

use crate::books::Books;
use crate::guest::Guest;
use crate::machine::{BOOT_PATIENCE, Hardware, Machine, Start};
use crate::programs;
use crate::publishers::Publishers;
use crate::upstream::Upstream;

/// Devices that publish all the time.
pub(crate) const DEVICES: u16 = 6;

/// How long a probe waits for its CONNACK.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// The product's unit.
pub(crate) const UNIT: &str = "tidegate.service";

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) hardware: Hardware,
    pub(crate) upstream: Upstream,
    pub(crate) books: Books,
    pub(crate) devices: Publishers,
    /// The disk of the machine.
    pub(crate) disk: PathBuf,
    pub(crate) machine: Option<Machine>,
}

/// What a boot took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot {
    /// From power on until the product had told systemd that it is ready, as it was seen from
    /// outside.
    ready: Duration,
    /// From the kernel's first moment to that, by the guest's clock.
    ready_in_guest: Duration,
    /// From READY until a client that had been trying all the time was let in, seconds. Known to a
    /// tenth or two: the two clocks are compared over the network.
    connack: f64,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ready, in_guest) = (self.ready.as_secs_f64(), self.ready_in_guest.as_secs_f64());
        write!(
            f,
            "READY after {ready:.1} s ({in_guest:.1} s by its clock), CONNACK {:+.1} s from there",
            self.connack
        )
    }
}

impl Stage {
    pub(crate) fn guest(&self) -> Guest {
        self.hardware.ports.guest()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.hardware.ports.admin()
    }

    /// The machine that runs.
    pub(crate) fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context("the machine is off")
    }

    /// Switches the machine on and waits until commands can be run in it.
    pub(crate) fn boot(&mut self, write_log: Option<PathBuf>, watchdogs: bool) -> Result<()> {
        let start = Start {
            image: self.disk.clone(),
            write_log,
            watchdogs,
        };
        let machine = self.machine.insert(Machine::start(&self.hardware, &start)?);
        self.hardware.ports.guest().wait(machine)
    }

    /// Switches the machine on; the product must become ready by itself, and the devices are let in.
    pub(crate) fn boot_to_service(
        &mut self,
        write_log: Option<PathBuf>,
        watchdogs: bool,
    ) -> Result<Boot> {
        let begin = Instant::now();
        let server = self.hardware.ports.mqtt();
        let probe = std::thread::spawn(move || first_connack(server));
        self.boot(write_log, watchdogs)?;
        let ready_in_guest = self.wait_ready()?;
        let ready = begin.elapsed();
        let first = probe.join().map_err(|_| anyhow!("a probe panicked"))?;
        let first = first.context("no client was let in")?;
        let asked = Instant::now();
        let uptime = self.guest().run("cut -d' ' -f1 /proc/uptime")?;
        let between = asked + asked.elapsed() / 2;
        let uptime: f64 = uptime.trim().parse().context("the guest's uptime")?;
        let first_in_guest = uptime - between.saturating_duration_since(first).as_secs_f64();
        self.devices.begin_again();
        let machine = self.machine.as_mut().context("the machine is off")?;
        self.devices.connect(|| machine.check())?;
        Ok(Boot {
            ready,
            ready_in_guest,
            connack: first_in_guest - ready_in_guest.as_secs_f64(),
        })
    }

    /// Waits until the product's unit is active, which it becomes when it says READY; when that was,
    /// since the guest's kernel began.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration> {
        let guest = self.guest();
        let asked = format!(
            "systemctl show {UNIT} --property=ActiveState,SubState,ActiveEnterTimestampMonotonic"
        );
        wait_for("the product to be ready", BOOT_PATIENCE, || {
            self.machine()?.check()?;
            let answer = guest.run(&asked)?;
            let property = |name: &str| {
                let mut lines = answer.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            };
            ensure!(
                property("ActiveState") != Some("failed"),
                "the unit has failed: {}",
                guest.run(&format!("systemctl status {UNIT} || true"))?
            );
            let is_ready = property("ActiveState") == Some("active");
            let at = property("ActiveEnterTimestampMonotonic")
                .unwrap_or("0")
                .parse();
            if !is_ready {
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok(is_ready.then_some(Duration::from_micros(at.context("a time of systemd")?)))
        })
    }

    /// Switches the machine off in good order.
    pub(crate) fn power_off(&mut self) -> Result<()> {
        // The answer may not come any more.
        let _ = self.guest().try_run("systemctl --no-block poweroff", &[]);
        let machine = self.machine.take().context("the machine is off")?;
        machine.wait_off()
    }

    /// Waits until everything that is in the log is in Kafka, and compares all of it.
    pub(crate) fn check_everything(&mut self, is_full: bool) -> Result<()> {
        let promised = self.devices.promised()?;
        self.books.check_log(self.admin(), &promised, is_full)?;
        let records = self.books.records();
        let upstream = &self.upstream;
        let what = format!("{records} records in Kafka");
        wait_for(&what, BOOT_PATIENCE, || {
            Ok((upstream.count()? >= records).then_some(()))
        })?;
        if is_full {
            self.books.check_replicated(&self.upstream.read()?)?;
        } else {
            let count = self.upstream.count()?;
            ensure!(
                count == records,
                "Kafka has {count} records, the log {records}"
            );
        }
        Ok(())
    }

    /// Fails when the journal of this boot has something that the scenario does not ask for, since
    /// it was looked at before.
    pub(crate) fn check_journal(&self, allowed: &[&str]) -> Result<()> {
        let looked_for = "SECCOMP|type=1326|panicked|status=31/SYS|Out of memory|oom-kill|ERROR|\
                          Call Trace|EXT4-fs error|Failed to set up";
        let command = format!(
            "journalctl --boot --no-pager --output=short-monotonic --cursor-file=/run/suite-cursor \
             | grep -E '{looked_for}' || true"
        );
        let found = self.guest().run(&command)?;
        // systemd says at its start what it was built with.
        let is_expected = |line: &str| {
            line.is_empty()
                || line.contains("running in system mode")
                || allowed.iter().any(|allowed| line.contains(allowed))
        };
        let unexpected: Vec<&str> = found.lines().filter(|line| !is_expected(line)).collect();
        ensure!(
            unexpected.is_empty(),
            "in the journal:\n{}",
            unexpected.join("\n")
        );
        Ok(())
    }
}

/// Tries to connect until it is let in; when that was.
fn first_connack(server: SocketAddr) -> Option<Instant> {
    let end = Instant::now() + BOOT_PATIENCE;
    let connect = Connect::new(Version::V311, "probe");
    while Instant::now() < end {
        let answer = Client::open(server, Version::V311).and_then(|mut client| {
            client.send(&connect.encode())?;
            // The emulator takes connections also when nobody listens in the guest.
            client.receive_within(PROBE_PATIENCE)
        });
        if let Ok(Received::Packet(Packet::Connack { code: SUCCESS, .. })) = answer {
            return Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// Copies an image with its holes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["--sparse=always", "--reflink=auto", "--"])
        .arg(from)
        .arg(to);
    programs::run(&mut cp).map(drop)
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) {
    // If it stays, whoever makes it anew says why.
    let _ = fs::remove_file(path);
}
