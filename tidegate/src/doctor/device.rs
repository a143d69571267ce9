//! The device behind the file system, as sysfs shows it, and what follows from it.
//!
//! Reading and judging are apart: [`read`] takes the folder that sysfs is mounted at, so that tests
//! can bring their own.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::finding::{Finding, Level};

/// What sort of device it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DeviceKind {
    SdCard,
    Emmc,
    Nvme,
    /// A disk or SSD that the kernel knows as `sd…`, not over USB.
    Disk,
    Usb,
    /// Of a virtual machine.
    Virtual,
    Loop,
    /// Device mapper: LVM, encryption.
    Mapper,
    Raid,
    /// Compressed memory, RAM disk.
    Memory,
    #[default]
    Other,
}

/// What sysfs says of a device. `None`: not there, or not to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Device {
    /// The kernel's name of the whole device, such as `mmcblk0`.
    pub(super) name: String,
    pub(super) kind: DeviceKind,
    pub(super) model: Option<String>,
    /// `write back`: it has a cache that a sync has to empty.
    pub(super) write_cache: Option<String>,
    pub(super) removable: bool,
    pub(super) rotational: bool,
    /// eMMC: two numbers, tenths of its life that are used, such as `0x01 0x02`.
    pub(super) life_time: Option<String>,
    /// eMMC: how much of its reserve is used, such as `0x01`.
    pub(super) pre_eol_info: Option<String>,
    /// Devices that it lies on (device mapper, RAID).
    pub(super) lies_on: Vec<String>,
}

/// Reads what `sys` (where sysfs is mounted) says of the device with this `major:minor`.
pub(super) fn read(sys: &Path, device_number: &str) -> Option<Device> {
    let found = fs::canonicalize(sys.join("dev/block").join(device_number)).ok()?;
    let whole = if found.join("partition").exists() {
        found.parent()?.to_owned()
    } else {
        found
    };
    let text = |name: &str| {
        let text = fs::read_to_string(whole.join(name)).ok()?;
        let text = text.trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let name = whole.file_name()?.to_string_lossy().into_owned();
    let is_usb = whole.to_string_lossy().contains("/usb");
    let slaves = fs::read_dir(whole.join("slaves")).into_iter().flatten();
    let mut lies_on: Vec<String> = slaves
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .take(16)
        .collect();
    lies_on.sort();
    Some(Device {
        kind: kind(&name, text("device/type").as_deref(), is_usb),
        model: text("device/model").or_else(|| text("device/name")),
        write_cache: text("queue/write_cache"),
        removable: text("removable").as_deref() == Some("1"),
        rotational: text("queue/rotational").as_deref() == Some("1"),
        life_time: text("device/life_time"),
        pre_eol_info: text("device/pre_eol_info"),
        lies_on,
        name,
    })
}

fn kind(name: &str, device_type: Option<&str>, is_usb: bool) -> DeviceKind {
    let begins = |with: &[&str]| with.iter().any(|with| name.starts_with(with));
    if begins(&["mmcblk"]) {
        return match device_type {
            Some("MMC") => DeviceKind::Emmc,
            Some("SD") => DeviceKind::SdCard,
            _ => DeviceKind::Other,
        };
    }
    if begins(&["nvme"]) {
        DeviceKind::Nvme
    } else if begins(&["sd"]) && is_usb {
        DeviceKind::Usb
    } else if begins(&["sd"]) {
        DeviceKind::Disk
    } else if begins(&["vd", "xvd"]) {
        DeviceKind::Virtual
    } else if begins(&["loop"]) {
        DeviceKind::Loop
    } else if begins(&["dm-"]) {
        DeviceKind::Mapper
    } else if begins(&["md"]) {
        DeviceKind::Raid
    } else if begins(&["zram", "ram"]) {
        DeviceKind::Memory
    } else {
        DeviceKind::Other
    }
}

impl Device {
    fn words(&self) -> String {
        let kind = match self.kind {
            DeviceKind::SdCard => "an SD card",
            DeviceKind::Emmc => "an eMMC",
            DeviceKind::Nvme => "an NVMe drive",
            DeviceKind::Disk if self.rotational => "a hard disk",
            DeviceKind::Disk => "an SSD",
            DeviceKind::Usb => "a drive over USB",
            DeviceKind::Virtual => "a disk of a virtual machine",
            DeviceKind::Loop => "a file used as a disk (loop)",
            DeviceKind::Mapper => "a mapped device (LVM, encryption)",
            DeviceKind::Raid => "a RAID",
            DeviceKind::Memory => "memory",
            DeviceKind::Other => "a device of a kind not known here",
        };
        let model = self
            .model
            .as_ref()
            .map_or_else(String::new, |model| format!(" ({model})"));
        format!("{}: {kind}{model}", self.name)
    }

    /// Shortest time in microseconds that a sync can take on it if it really gets there. Far below
    /// what good ones were ever seen to do; `None` where nothing can be said.
    pub(super) fn sync_us_least(&self) -> Option<u64> {
        match self.kind {
            DeviceKind::Disk | DeviceKind::Raid if self.rotational => Some(1000),
            DeviceKind::SdCard | DeviceKind::Emmc | DeviceKind::Usb => Some(100),
            DeviceKind::Disk => Some(30),
            DeviceKind::Nvme => Some(10),
            _ => None,
        }
    }
}

/// What the device means.
pub(super) fn judge(device: Option<&Device>) -> Vec<Finding> {
    let Some(device) = device else {
        let seen = "sysfs does not show the device behind the file system";
        return vec![
            Finding::new("device", Level::Note, seen)
                .meaning("whether it has a cache, and how worn it is, cannot be told from here"),
        ];
    };
    let mut findings = vec![judge_kind(device)];
    findings.extend(judge_cache(device));
    findings.extend(judge_wear(device));
    if device.removable {
        findings.push(
            Finding::new("device", Level::Note, "it is removable")
                .meaning("pulled out while the gateway runs, it ends with status 74"),
        );
    }
    findings
}

fn judge_kind(device: &Device) -> Finding {
    let note = Finding::new("device", Level::Note, device.words());
    match device.kind {
        DeviceKind::Memory => Finding::new("device", Level::Problem, device.words())
            .meaning("what is stored here does not survive a reboot")
            .remedy("name a data_dir on flash or disk"),
        DeviceKind::Virtual => note.meaning(
            "how fast it is, and whether a sync reaches a disk, is up to the host; no measurement \
             here can tell",
        ),
        DeviceKind::Loop => note.meaning(
            "a sync is as good as that of the file system in which the file lies, which is not \
             looked at",
        ),
        DeviceKind::Mapper | DeviceKind::Raid => note.meaning(format!(
            "it lies on {}; wear and cache are theirs and not looked at",
            if device.lies_on.is_empty() {
                String::from("devices that cannot be seen")
            } else {
                device.lies_on.join(", ")
            }
        )),
        DeviceKind::Usb => note
            .meaning("some adapters answer a sync before the data is on the medium")
            .remedy("cut the power of one under load and run `tidegate log list --data` afterwards"),
        DeviceKind::SdCard => note
            .meaning(
                "cheap cards forget what they have acknowledged when the power goes, and wear out \
                 soonest; nothing that a program measures shows it",
            )
            .remedy("use an industrial card with its endurance in the data sheet (storage.card_endurance)"),
        DeviceKind::Other => note,
        DeviceKind::Emmc | DeviceKind::Nvme | DeviceKind::Disk => {
            Finding::ok("device", device.words())
        }
    }
}

fn judge_cache(device: &Device) -> Option<Finding> {
    let cache = device.write_cache.as_deref()?;
    let seen = format!("{}/queue/write_cache is `{cache}`", device.name);
    let finding = match cache {
        "write back" => Finding::ok("device", seen)
            .meaning("the kernel empties the device's cache at every sync"),
        "write through" => Finding::new("device", Level::Note, seen).meaning(
            "the kernel takes the device for one without a volatile cache, and sends no command to \
             empty one at a sync; if the device has one, a power cut loses what was acknowledged",
        ),
        _ => Finding::new("device", Level::Note, seen),
    };
    Some(finding)
}

fn judge_wear(device: &Device) -> Vec<Finding> {
    let hexadecimal = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut findings = Vec::new();
    if let Some(text) = &device.life_time {
        let tenths = text.split_whitespace().filter_map(hexadecimal).max();
        let level = match tenths {
            None | Some(0) => Level::Note,
            Some(1..=8) => Level::Ok,
            Some(9..=10) => Level::Warning,
            Some(_) => Level::Problem,
        };
        let means = match tenths {
            None | Some(0) => String::from("it does not say how worn it is"),
            Some(tenths @ 1..=10) => {
                let (from, to) = (tenths.saturating_sub(1) * 10, u16::from(tenths) * 10);
                format!("by its own account {from} to {to} % of its life are used")
            }
            Some(_) => String::from("by its own account its life is over"),
        };
        let finding = Finding::new("wear", level, format!("eMMC life_time {text}")).meaning(means);
        findings.push(replace_soon(finding));
    }
    if let Some(text) = &device.pre_eol_info {
        let (level, means) = match hexadecimal(text) {
            Some(1) => (Level::Ok, "its reserve of blocks is as good as new"),
            Some(2) => (Level::Warning, "80 % of its reserve of blocks are used"),
            Some(3) => (Level::Problem, "its reserve of blocks is all but used up"),
            _ => (
                Level::Note,
                "it does not say how much of its reserve is left",
            ),
        };
        let finding = Finding::new("wear", level, format!("eMMC pre_eol_info {text}"));
        findings.push(replace_soon(finding.meaning(means)));
    }
    findings
}

fn replace_soon(finding: Finding) -> Finding {
    if finding.level >= Level::Warning {
        finding.remedy("replace the board or its eMMC before it turns read-only")
    } else {
        finding
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::finding::expect::{find, worst};
    use super::*;

    /// A sysfs with one device and one partition of it.
    fn sysfs(name: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let whole = sys.path().join("devices/platform/block").join(name);
        let partition = whole.join(format!("{name}p2"));
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), "2\n").unwrap();
        for (file, content) in files {
            let file = whole.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{content}\n")).unwrap();
        }
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        symlink(partition, sys.path().join("dev/block/179:2")).unwrap();
        sys
    }

    #[test]
    fn partition_leads_to_its_card() {
        let sys = sysfs(
            "mmcblk0",
            &[
                ("device/type", "SD"),
                ("device/name", "SC32G"),
                ("queue/write_cache", "write through"),
                ("removable", "0"),
            ],
        );
        let device = read(sys.path(), "179:2").unwrap();
        assert_eq!(device.name, "mmcblk0");
        assert_eq!(device.kind, DeviceKind::SdCard);
        assert_eq!(device.model.as_deref(), Some("SC32G"));
        let findings = judge(Some(&device));
        assert_eq!(find(&findings, "SD card").level, Level::Note);
        assert_eq!(find(&findings, "write through").level, Level::Note);
        assert_eq!(read(sys.path(), "179:3"), None);
        assert_eq!(worst(&judge(None)), Level::Note);
    }

    #[test]
    fn worn_emmc_is_told_by_how_much() {
        for (life, reserve, level) in [
            ("0x01 0x02", "0x01", Level::Ok),
            ("0x01 0x09", "0x01", Level::Warning),
            ("0x0b 0x01", "0x01", Level::Problem),
            ("0x00 0x00", "0x00", Level::Note),
            ("nonsense", "", Level::Note),
            ("0x01 0x01", "0x02", Level::Warning),
            ("0x01 0x01", "0x03", Level::Problem),
        ] {
            let files = [
                ("device/type", "MMC"),
                ("device/life_time", life),
                ("device/pre_eol_info", reserve),
            ];
            let sys = sysfs("mmcblk0", &files);
            let device = read(sys.path(), "179:2").unwrap();
            assert_eq!(device.kind, DeviceKind::Emmc);
            assert_eq!(worst(&judge_wear(&device)), level, "{life} {reserve}");
        }
    }

    #[test]
    fn kinds_are_told_by_their_names() {
        for (name, is_usb, expected) in [
            ("nvme0n1", false, DeviceKind::Nvme),
            ("sda", false, DeviceKind::Disk),
            ("sda", true, DeviceKind::Usb),
            ("vda", false, DeviceKind::Virtual),
            ("loop3", false, DeviceKind::Loop),
            ("dm-1", false, DeviceKind::Mapper),
            ("md127", false, DeviceKind::Raid),
            ("zram0", false, DeviceKind::Memory),
            ("mmcblk1", false, DeviceKind::Other),
            ("pmem0", false, DeviceKind::Other),
        ] {
            assert_eq!(kind(name, None, is_usb), expected, "{name}");
        }
    }
}
