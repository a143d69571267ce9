//! The file system that the data folder lies in: read from `/proc/self/mountinfo`, and judged.

use serde::Serialize;

use super::finding::{Finding, Level};

/// A line of `/proc/self/mountinfo`; see proc_pid_mountinfo(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) mount_point: String,
    /// Its type, such as `ext4`.
    pub(super) file_system: String,
    /// What is mounted, such as `/dev/mmcblk0p2`.
    pub(super) source: String,
    /// Options of the mount and of the file system.
    pub(super) options: Vec<String>,
    /// `major:minor` of the device.
    pub(super) device_number: String,
}

/// What lies in memory.
const MEMORY: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];
/// What is somewhere else.
const NETWORK: [&str; 12] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "gfs2",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "virtiofs",
];
/// What the kernel makes up.
const NO_STORAGE: [&str; 8] = [
    "cgroup", "cgroup2", "debugfs", "devtmpfs", "efivarfs", "proc", "sysfs", "tracefs",
];
/// Without a journal of their own.
const FAT: [&str; 3] = ["exfat", "msdos", "vfat"];

/// The mount that has `path`, which is absolute and has no links in it: the last one of those with
/// the longest mount point, since later mounts cover earlier ones.
pub(super) fn of_path(mountinfo: &str, path: &str) -> Option<Mount> {
    let mut found: Option<Mount> = None;
    for mount in mountinfo.lines().filter_map(parse) {
        let is_longer = found
            .as_ref()
            .is_none_or(|found| mount.mount_point.len() >= found.mount_point.len());
        if is_longer && is_below(path, &mount.mount_point) {
            found = Some(mount);
        }
    }
    found
}

fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse(line: &str) -> Option<Mount> {
    // 27 1 254:0 / /mount/point rw,noatime shared:1 - ext4 /dev/root rw,errors=remount-ro
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let device_number = mount.next()?;
    let mount_point = mount.nth(1)?;
    let mount_options = mount.next()?;
    let mut file_system = file_system.split(' ');
    let (kind, source) = (file_system.next()?, file_system.next()?);
    let mut options: Vec<String> = Vec::new();
    for option in mount_options
        .split(',')
        .chain(file_system.next().unwrap_or_default().split(','))
    {
        if !option.is_empty() && !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount {
        mount_point: unescape(mount_point),
        file_system: kind.to_owned(),
        source: unescape(source),
        options,
        device_number: device_number.to_owned(),
    })
}

/// Blanks and the like are written as octal numbers there.
fn unescape(text: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

impl Mount {
    /// Whether files there are only memory, so that no measurement says anything of a card.
    pub(super) fn is_memory(&self) -> bool {
        MEMORY.contains(&self.file_system.as_str())
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    fn is_network(&self) -> bool {
        NETWORK.contains(&self.file_system.as_str())
            || self.file_system == "fuse"
            || self.file_system.starts_with("fuse.")
    }
}

/// What the file system means.
pub(super) fn judge(mount: Option<&Mount>) -> Vec<Finding> {
    let Some(mount) = mount else {
        let seen = "the file system of the folder cannot be found in /proc/self/mountinfo";
        return vec![
            Finding::new("file system", Level::Warning, seen)
                .meaning("nothing can be said of it: /proc may be hidden here"),
        ];
    };
    let mut findings = vec![judge_type(mount)];
    findings.extend(judge_options(mount));
    findings
}

fn judge_type(mount: &Mount) -> Finding {
    let kind = mount.file_system.as_str();
    let seen = format!("{kind} at {}, from {}", mount.mount_point, mount.source);
    let finding = |level| Finding::new("file system", level, seen.clone());
    if mount.is_memory() {
        return finding(Level::Problem)
            .meaning("that is memory: what is stored here does not survive a reboot")
            .remedy("name a data_dir on flash or disk");
    }
    if kind == "overlay" {
        return finding(Level::Problem)
            .meaning(
                "what is stored here does not survive: it goes with the container, and where the \
                 upper layer is memory (a read-only root), with the reboot",
            )
            .remedy("put the data folder on a volume or a partition of its own");
    }
    if mount.is_network() {
        return finding(Level::Problem)
            .meaning(
                "a file system over a network or of another program: whether its locks hold and \
                 its syncs reach a disk is not in the hands of this machine",
            )
            .remedy("name a data_dir on a local file system");
    }
    if NO_STORAGE.contains(&kind) {
        return finding(Level::Problem)
            .meaning("nothing can be stored there")
            .remedy("name a data_dir on flash or disk");
    }
    if FAT.contains(&kind) {
        return finding(Level::Warning)
            .meaning("it has no journal: a power cut can damage folders that nobody was writing")
            .remedy("make an ext4 there");
    }
    match kind {
        "ext4" | "xfs" | "f2fs" => Finding::ok("file system", seen),
        "btrfs" | "bcachefs" | "zfs" => finding(Level::Note)
            .meaning("it copies what it changes: every commit writes more than on ext4"),
        _ => finding(Level::Note).meaning("Tidegate is not tested on it; ext4 is what it knows"),
    }
}

fn judge_options(mount: &Mount) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mount.has("ro") {
        findings.push(
            Finding::new(
                "file system",
                Level::Problem,
                "it is mounted read-only (ro)",
            )
            .meaning(
                "nothing can be stored; ext4 also does this by itself after an error of the \
                     card",
            )
            .remedy("look into the kernel's log, check the file system, mount it read-write"),
        );
    }
    for option in ["nobarrier", "barrier=0", "fsync_mode=nobarrier"] {
        if mount.has(option) {
            findings.push(
                Finding::new(
                    "file system",
                    Level::Problem,
                    format!("mount option {option}"),
                )
                .meaning(
                    "a sync does not empty the device's cache: a power cut loses messages that \
                         were acknowledged, and can leave a store that does not open",
                )
                .remedy(format!("remove {option} from /etc/fstab")),
            );
        }
    }
    if mount.has("data=writeback") {
        findings.push(
            Finding::new("file system", Level::Warning, "mount option data=writeback")
                .meaning("after a power cut files can hold old data of others")
                .remedy("use the default, data=ordered"),
        );
    }
    if mount.has("sync") {
        findings.push(
            Finding::new("file system", Level::Note, "mount option sync").meaning(
                "every write waits for the device: Tidegate syncs by itself, this only wears",
            ),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::expect::{find, worst};
    use super::*;

    const MOUNTINFO: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
25 24 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=24684092k
30 27 179:2 / /var/lib/tide\\040gate rw,noatime - ext4 /dev/mmcblk0p2 rw,nobarrier,data=writeback
31 27 179:3 / /var/lib/tide rw - f2fs /dev/mmcblk0p3 rw
not a line of it
";

    fn mount(kind: &str, options: &str) -> Mount {
        parse(&format!("1 1 1:1 / / {options} - {kind} source {options}")).unwrap()
    }

    #[test]
    fn mount_is_found_when_its_name_has_a_blank_or_begins_like_another() {
        let found = of_path(MOUNTINFO, "/var/lib/tide gate/data").unwrap();
        assert_eq!(found.source, "/dev/mmcblk0p2");
        assert_eq!(found.device_number, "179:2");
        assert_eq!(
            of_path(MOUNTINFO, "/var/lib/tide").unwrap().file_system,
            "f2fs"
        );
        assert_eq!(
            of_path(MOUNTINFO, "/var/lib/tidegate").unwrap().mount_point,
            "/"
        );
        assert_eq!(
            of_path(MOUNTINFO, "/dev/shm/x").unwrap().file_system,
            "tmpfs"
        );
        assert_eq!(of_path("", "/"), None);
    }

    #[test]
    fn later_mount_covers_an_earlier_one() {
        let two = "1 1 1:1 / /data rw - ext4 /dev/a rw\n2 1 1:2 / /data rw - xfs /dev/b rw\n";
        assert_eq!(of_path(two, "/data/x").unwrap().source, "/dev/b");
    }

    #[test]
    fn what_is_stored_in_memory_or_over_a_network_is_a_problem() {
        for (kind, word) in [
            ("tmpfs", "does not survive a reboot"),
            ("ramfs", "does not survive a reboot"),
            ("overlay", "does not survive"),
            ("nfs4", "locks"),
            ("cifs", "locks"),
            ("9p", "locks"),
            ("fuse.sshfs", "locks"),
            ("sysfs", "nothing can be stored"),
        ] {
            let findings = judge(Some(&mount(kind, "rw")));
            assert_eq!(find(&findings, word).level, Level::Problem, "{kind}");
        }
    }

    #[test]
    fn options_that_make_a_sync_worthless_are_a_problem() {
        for option in ["nobarrier", "barrier=0", "fsync_mode=nobarrier", "ro"] {
            let findings = judge(Some(&mount("ext4", &format!("rw,{option}"))));
            assert_eq!(worst(&findings), Level::Problem, "{option}");
            assert!(find(&findings, "mount").seen.contains(option), "{option}");
        }
        let findings = judge(Some(&mount("ext4", "rw,data=writeback")));
        assert_eq!(worst(&findings), Level::Warning);
        let findings = judge(Some(&mount("ext4", "rw,barrier=1,errors=remount-ro")));
        assert_eq!(worst(&findings), Level::Ok);
    }

    #[test]
    fn file_systems_are_told_apart() {
        for (kind, level) in [
            ("ext4", Level::Ok),
            ("btrfs", Level::Note),
            ("minix", Level::Note),
            ("vfat", Level::Warning),
        ] {
            assert_eq!(worst(&judge(Some(&mount(kind, "rw")))), level, "{kind}");
        }
        assert_eq!(worst(&judge(None)), Level::Warning);
    }
}
