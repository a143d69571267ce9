//! The emulated machine: 512 MB, two cores, a disk on virtio, and a network on which nothing can be
//! reached but what is forwarded here: three ports from the host's loopback into the guest, and one
//! address in the guest's network that leads to the suite's Kafka.
//!
//! It ends with this process, however that ends.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::ports;
use tests::supervised::{Files, Supervised};

use crate::guest::Guest;
use crate::kernel::Kernel;
use crate::packages::Emulator;
use crate::write_log::{self, SECTOR_BYTES};

/// Boots take 15 s of an idle machine and were seen to take 500 s of one with a load of 20.
pub(crate) const BOOT_PATIENCE: Duration = Duration::from_secs(1200);

/// Where the guest finds Kafka.
pub(crate) const UPSTREAM: &str = "10.0.2.100:9092";

/// The guest's address, which the emulator's network gives to nobody else.
const GUEST_ADDRESS: &str = "10.0.2.15";

/// Ports in the guest.
const MQTT_PORT: u16 = 1883;
const SHELL_PORT: u16 = 7001;
const ADMIN_PORT: u16 = 7002;

/// Every start has the same ports on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    mqtt: u16,
    shell: u16,
    admin: u16,
}

impl Ports {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            mqtt: ports::free()?,
            shell: ports::free()?,
            admin: ports::free()?,
        })
    }

    /// Where clients of MQTT connect.
    pub(crate) fn mqtt(self) -> SocketAddr {
        loopback(self.mqtt)
    }

    /// Where the admin server is asked.
    pub(crate) fn admin(self) -> SocketAddr {
        loopback(self.admin)
    }

    /// Where commands are run.
    pub(crate) fn guest(self) -> Guest {
        Guest::new(loopback(self.shell))
    }
}

/// What is the same at every start.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    pub(crate) emulator: Emulator,
    pub(crate) kernel: Kernel,
    pub(crate) ports: Ports,
    /// The port of the host's loopback that [`UPSTREAM`] leads to.
    pub(crate) upstream_port: u16,
    /// Where the console and the emulator's own words go.
    pub(crate) folder: PathBuf,
}

/// What differs.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) image: PathBuf,
    /// Everything that is written is noted there.
    pub(crate) write_log: Option<PathBuf>,
    /// Whether systemd's watchdogs work: on a busy host those of its own services bite, too.
    pub(crate) watchdogs: bool,
}

/// A machine that runs. Dropping it cuts its power.
#[derive(Debug)]
pub(crate) struct Machine {
    process: Supervised,
    console: PathBuf,
    since: Instant,
}

impl Machine {
    /// Switches it on.
    ///
    /// # Errors
    /// When the emulator cannot be started.
    pub(crate) fn start(hardware: &Hardware, start: &Start) -> Result<Self> {
        let console = hardware.folder.join("console");
        let words = hardware.folder.join("emulator.log");
        for file in [&console, &words] {
            let _ = fs::remove_file(file);
        }
        if let Some(log) = &start.write_log {
            write_log::create(log)?;
        }
        let command = command(hardware, start, &console)?;
        let files = Files {
            stdout: &words,
            stderr: &words,
            scratch: None,
        };
        Ok(Self {
            process: Supervised::spawn("the emulator", &command, &files)?,
            console,
            since: Instant::now(),
        })
    }

    /// How long it has been on.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Fails when the emulator has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        let checked = self.process.check_running();
        checked.with_context(|| format!("console: {}", self.console_tail()))
    }

    /// Cuts its power: SIGKILL. What it has written is in the host's memory, and in the log of writes.
    pub(crate) fn cut(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Waits until it has switched itself off.
    pub(crate) fn wait_off(mut self) -> Result<()> {
        match self.process.wait(BOOT_PATIENCE) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}; console: {}", self.console_tail()),
        }
    }

    /// The end of what it has said on its console.
    pub(crate) fn console_tail(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        crate::programs::tail(&String::from_utf8_lossy(&text)).to_owned()
    }
}

fn command(hardware: &Hardware, start: &Start, console: &Path) -> Result<Command> {
    let path = |path: &Path| -> Result<String> {
        let text = path
            .to_str()
            .context("the cache folder's path is no UTF-8")?;
        // A comma ends an option of the emulator unless it is doubled.
        Ok(text.replace(',', ",,"))
    };
    let mut command = hardware.emulator.command();
    command
        .args(["-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512"])
        .args(["-accel", "tcg,thread=multi", "-nodefaults", "-nographic"])
        .args(["-no-reboot", "-monitor", "none", "-rtc", "base=utc"])
        .arg("-serial")
        .arg(format!("file:{}", path(console)?))
        .arg("-kernel")
        .arg(&hardware.kernel.image)
        .arg("-initrd")
        .arg(&hardware.kernel.initrd)
        .args(["-append", &kernel_arguments(start.watchdogs)]);
    // No flush of the guest becomes one of the host: only the power of the guest is cut.
    command.arg("-blockdev").arg(format!(
        "driver=file,node-name=image,filename={},cache.no-flush=on",
        path(&start.image)?
    ));
    let disk = match &start.write_log {
        None => "driver=raw,node-name=disk,file=image".to_owned(),
        Some(log) => {
            command.arg("-blockdev").arg(format!(
                "driver=file,node-name=writes,filename={},cache.no-flush=on",
                path(log)?
            ));
            format!(
                "driver=blklogwrites,node-name=disk,file=image,log=writes,\
                 log-sector-size={SECTOR_BYTES}"
            )
        }
    };
    let own = std::env::current_exe().context("find this program's path")?;
    let Ports { mqtt, shell, admin } = hardware.ports;
    let forwards = [(mqtt, MQTT_PORT), (shell, SHELL_PORT), (admin, ADMIN_PORT)]
        .map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-{GUEST_ADDRESS}:{guest}"));
    command
        .args(["-blockdev", &disk])
        .args(["-device", "virtio-blk-pci,drive=disk"])
        .arg("-netdev")
        .arg(format!(
            "user,id=net,restrict=on{},guestfwd=tcp:{UPSTREAM}-cmd:{} relay {}",
            forwards.concat(),
            path(&own)?,
            hardware.upstream_port
        ))
        .args(["-device", "virtio-net-pci,netdev=net,romfile="])
        .args(["-object", "rng-random,filename=/dev/urandom,id=random"])
        .args(["-device", "virtio-rng-pci,rng=random"]);
    Ok(command)
}

/// Under load systemd's own limits would end services that are only slow.
fn kernel_arguments(watchdogs: bool) -> String {
    let mut arguments = String::from(
        "root=/dev/vda rootfstype=ext4 rw console=ttyAMA0 loglevel=4 mitigations=off net.ifnames=0 \
         random.trust_cpu=on systemd.show_status=0 systemd.default_timeout_start_sec=900",
    );
    if !watchdogs {
        arguments.push_str(" systemd.service_watchdogs=0");
    }
    arguments
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
