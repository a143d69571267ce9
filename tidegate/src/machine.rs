//! Which machine this is: its board, its memory, and what of it this process may have.
//!
//! Everything is read from texts of the kernel below a root, so that tests bring their own. Nothing
//! here fails: what cannot be seen is not known, and an unknown machine is a generic one.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use firmware_config::{Board, ByteCount, Machine};

/// Where the firmware says which board it is, with a NUL at the end. The second is what the first
/// leads to, for a process whose /proc shows nothing but processes.
const MODEL_FILES: [&str; 2] = [
    "proc/device-tree/model",
    "sys/firmware/devicetree/base/model",
];
/// Longest model that is read; the kernel's are much shorter.
const MODEL_BYTES_MAX: u64 = 256;
/// Above it a limit is none: cgroup v1 writes it so.
const NO_LIMIT: u64 = 1 << 60;

/// What models begin with after `Raspberry Pi `, and what they are. The first that fits counts.
const MODELS: [(&str, Board); 8] = [
    ("Zero 2", Board::PiZero2W),
    // Its processor is that of the 3, its memory that of the Zero 2: 512 MB.
    ("3 Model A", Board::PiZero2W),
    ("Compute Module 3", Board::Pi3),
    ("3", Board::Pi3),
    ("Compute Module 4", Board::Pi4),
    // The 400, too.
    ("4", Board::Pi4),
    ("Compute Module 5", Board::Pi5),
    // The 500, too.
    ("5", Board::Pi5),
];

/// This machine, as this process sees it.
pub(crate) fn detect() -> Machine {
    let counted = rustix::system::sysinfo();
    let unit = u64::from(counted.mem_unit);
    let found = Sources {
        root: Path::new("/"),
        architecture: std::env::consts::ARCH,
        #[allow(clippy::useless_conversion, reason = "32 bits on 32-bit processors")]
        memory_bytes: u64::from(counted.totalram).checked_mul(unit),
    };
    found.machine()
}

/// Where a machine is looked for.
struct Sources<'a> {
    root: &'a Path,
    /// That of this program: a 32-bit program has no more addresses on a 64-bit kernel.
    architecture: &'a str,
    /// What a system call says, for a process that sees no /proc/meminfo.
    memory_bytes: Option<u64>,
}

impl Sources<'_> {
    fn machine(&self) -> Machine {
        let (board, why) = self.board();
        let memory = fs::read_to_string(self.root.join("proc/meminfo")).ok();
        let memory = memory.as_deref().and_then(memory_total);
        Machine {
            board,
            why,
            is_chosen: false,
            memory: memory.or(self.memory_bytes).map(ByteCount::new),
            memory_limit: memory_limit(self.root, "self").map(ByteCount::new),
        }
    }

    fn board(&self) -> (Board, String) {
        let files = MODEL_FILES.iter().map(|file| self.root.join(file));
        let model = files.filter_map(|file| read_model(&file)).next();
        if let Some(model) = &model
            && let Some(board) = of_model(model)
        {
            return (board, format!("detected from its model, \"{model}\""));
        }
        let (board, is_known) = of_architecture(self.architecture);
        let mut why = format!("detected from the processor, {}", self.architecture);
        if !is_known {
            why.push_str(", which has no board of its own");
        }
        if let Some(model) = model {
            why.push_str(&format!("; the model \"{model}\" is not known"));
        }
        (board, why)
    }
}

/// On one line, without the NUL at its end; `None` if there is nothing to be read.
fn read_model(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MODEL_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\0').trim();
    let text = text.replace(|c: char| c.is_control() || c == '"', " ");
    (!text.is_empty()).then_some(text)
}

fn of_model(model: &str) -> Option<Board> {
    let name = model.strip_prefix("Raspberry Pi ")?;
    let known = MODELS.iter().find(|(begin, _)| name.starts_with(begin));
    known.map(|(_, board)| *board)
}

/// And whether it is the one for that architecture.
fn of_architecture(architecture: &str) -> (Board, bool) {
    match architecture {
        "aarch64" => (Board::GenericArm64, true),
        "arm" => (Board::GenericArmv7, true),
        "x86_64" => (Board::X86_64, true),
        _ => (Board::GenericArm64, false),
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
pub(crate) fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least that the cgroups of a process, a number or `self`, allow it: systemd's `MemoryMax=` and
/// what containers set.
pub(crate) fn memory_limit(root: &Path, process: &str) -> Option<u64> {
    let groups = fs::read_to_string(root.join(format!("proc/{process}/cgroup")));
    let files = memory_limit_files(&groups.unwrap_or_default());
    let folder = root.join("sys/fs/cgroup");
    let limits = files
        .iter()
        .filter_map(|file| fs::read_to_string(folder.join(file)).ok());
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    limits.filter(|limit| *limit < NO_LIMIT).min()
}

/// Files below /sys/fs/cgroup that may hold a limit of memory, from what is in /proc/PID/cgroup: of
/// the group and of all above it, in both versions of cgroups.
fn memory_limit_files(cgroup: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            "memory" => ("memory/", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_matches('/');
        loop {
            let slash = if path.is_empty() { "" } else { "/" };
            files.push(format!("{folder}{path}{slash}{file}"));
            if path.is_empty() {
                break;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine with these files.
    fn found(architecture: &str, files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let sources = Sources {
            root: root.path(),
            architecture,
            memory_bytes: None,
        };
        sources.machine()
    }

    #[test]
    fn board_is_known_by_its_model() {
        for (model, board) in [
            ("Raspberry Pi Zero 2 W Rev 1.0", Board::PiZero2W),
            ("Raspberry Pi 3 Model B Rev 1.2", Board::Pi3),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", Board::Pi3),
            ("Raspberry Pi 3 Model A Plus Rev 1.0", Board::PiZero2W),
            ("Raspberry Pi Compute Module 3 Plus Rev 1.0", Board::Pi3),
            ("Raspberry Pi 4 Model B Rev 1.4", Board::Pi4),
            ("Raspberry Pi 400 Rev 1.0", Board::Pi4),
            ("Raspberry Pi Compute Module 4S Rev 1.0", Board::Pi4),
            ("Raspberry Pi 5 Model B Rev 1.0", Board::Pi5),
            ("Raspberry Pi 500 Rev 1.0", Board::Pi5),
            ("Raspberry Pi Compute Module 5 Rev 1.0", Board::Pi5),
        ] {
            let text = format!("{model}\0");
            for file in MODEL_FILES {
                let machine = found("aarch64", &[(file, &text)]);
                assert_eq!(machine.board, board, "{model}");
                let why = format!("detected from its model, \"{model}\"");
                assert_eq!(machine.why, why);
            }
        }
    }

    #[test]
    fn unknown_machine_is_a_generic_one() {
        for (architecture, board) in [
            ("aarch64", Board::GenericArm64),
            ("arm", Board::GenericArmv7),
            ("x86_64", Board::X86_64),
            ("riscv64", Board::GenericArm64),
        ] {
            let machine = found(architecture, &[]);
            assert_eq!(machine.board, board);
            assert!(machine.why.contains(architecture), "{}", machine.why);
            assert_eq!((machine.memory, machine.memory_limit), (None, None));
        }
        for model in [
            "Raspberry Pi 2 Model B Rev 1.1\0",
            "Raspberry Pi Model B Plus Rev 1.2\0",
            "linux,dummy-virt\0",
            "\u{1b}[1m\n\"\0",
        ] {
            let machine = found("arm", &[(MODEL_FILES[0], model)]);
            assert_eq!(machine.board, Board::GenericArmv7, "{model}");
            assert!(machine.why.contains("is not known"), "{}", machine.why);
            assert!(!machine.why.contains(char::is_control), "{:?}", machine.why);
        }
    }

    #[test]
    fn memory_is_that_of_the_machine_and_of_the_narrowest_cgroup() {
        let meminfo = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:   524288 kB\n");
        let machine = found("aarch64", &[meminfo]);
        assert_eq!(machine.memory, Some(ByteCount::new(512 * MIB)));
        assert_eq!(machine.memory_limit, None);
        for (own, above) in [
            ("max", "314572800"),
            ("314572800", "max"),
            ("400000000", "314572800"),
        ] {
            for (own, above) in [(own, above), (above, own)] {
                let machine = found(
                    "aarch64",
                    &[
                        meminfo,
                        ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                        ("sys/fs/cgroup/a.slice/b.service/memory.max", own),
                        ("sys/fs/cgroup/a.slice/memory.max", above),
                    ],
                );
                let limit = Some(ByteCount::new(300 * MIB));
                assert_eq!(machine.memory_limit, limit, "{own} {above}");
            }
        }
        let version_1 = [
            ("proc/self/cgroup", "4:memory:/a\n0::/\n"),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(found("arm", &version_1).memory_limit, None);
    }

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(
            memory_total("MemFree: 1 kB\nMemTotal:   2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(memory_total("MemTotal: x kB"), None);
        assert_eq!(
            memory_limit_files("4:memory:/a/b\n3:cpu:/a\n0::/system.slice\nnonsense"),
            [
                "memory/a/b/memory.limit_in_bytes",
                "memory/a/memory.limit_in_bytes",
                "memory/memory.limit_in_bytes",
                "system.slice/memory.max",
                "memory.max"
            ]
        );
    }

    #[test]
    fn memory_of_this_machine_is_seen_with_and_without_proc() {
        let machine = detect();
        assert!(machine.memory >= Some(ByteCount::new(64 * MIB)));
        let sources = Sources {
            root: Path::new("/nowhere"),
            architecture: "x86_64",
            memory_bytes: Some(7 * MIB),
        };
        assert_eq!(sources.machine().memory, Some(ByteCount::new(7 * MIB)));
    }
}
