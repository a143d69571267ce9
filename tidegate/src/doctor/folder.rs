//! The data folder, looked at without opening it: nothing in it is locked, written or recovered.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::Serialize;
use storage::FOLDER_FORMAT;

use super::finding::{Finding, Level};

/// How the names of the doctor's own temporary folders begin.
pub(super) const TEMPORARY_PREFIX: &str = ".tidegate-doctor-";
/// The data folder of the unit in systemd/, and where that unit keeps what must survive a restart.
const UNIT: (&str, &str) = ("/var/lib/tidegate", "/run/tidegate");
const STORE_FAILURE: &str = "store-failure";
const TEXT_BYTES_MAX: u64 = 4096;
const ENTRIES_MAX: usize = 10_000;

/// What is at the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Presence {
    #[default]
    Missing,
    /// A folder that the first start takes.
    Empty,
    /// It has a FORMAT file, with this text.
    Ours(String),
    /// Something else is in it, beginning with this name.
    Foreign(String),
    /// A file, or the path leads through one.
    NoFolder,
    /// It cannot be looked at; why.
    Hidden(String),
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Folder {
    pub(super) presence: Presence,
    /// Why this user may not write there, if so.
    pub(super) not_writable: Option<String>,
    /// The file system refuses every user.
    pub(super) is_read_only: bool,
    /// The process that has it open, by /proc/locks.
    pub(super) held_by: Option<u32>,
    /// Entries of quarantine/; `None` if they cannot be seen.
    pub(super) quarantined: Option<usize>,
    /// What the file `store-failure` says that a gateway leaves whose store failed.
    pub(super) store_failure: Option<String>,
    /// Temporary folders that a doctor left behind.
    pub(super) leftovers: Vec<String>,
}

/// Looks at a folder. `locks` is the text of /proc/locks.
pub(super) fn look(path: &Path, locks: &str) -> Folder {
    let names = match names(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Folder::default(),
        Err(error) => {
            let is_file = error.kind() == io::ErrorKind::NotADirectory;
            return Folder {
                presence: if is_file {
                    Presence::NoFolder
                } else {
                    Presence::Hidden(error.to_string())
                },
                ..Folder::default()
            };
        }
    };
    let leftovers: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with(TEMPORARY_PREFIX))
        .cloned()
        .collect();
    let may_write = rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    Folder {
        presence: presence(path, &names),
        not_writable: may_write
            .err()
            .map(|errno| io::Error::from(errno).to_string()),
        is_read_only: may_write == Err(rustix::io::Errno::ROFS),
        held_by: lock_holder(path, locks),
        quarantined: self::names(&path.join("quarantine")).map_or_else(
            |error| (error.kind() == io::ErrorKind::NotFound).then_some(0),
            |names| Some(names.len()),
        ),
        store_failure: store_failure_files(path).find_map(|file| text(&file).ok()),
        leftovers,
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(path)?.take(ENTRIES_MAX);
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(TEXT_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn presence(path: &Path, names: &[String]) -> Presence {
    match text(&path.join("FORMAT")) {
        Ok(text) => Presence::Ours(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What an interrupted first start leaves, and what the doctor does.
            let harmless = ["LOCK", "FORMAT.new", "lost+found"];
            let other = names.iter().find(|name| {
                !harmless.contains(&name.as_str()) && !name.starts_with(TEMPORARY_PREFIX)
            });
            other.map_or(Presence::Empty, |name| Presence::Foreign(name.clone()))
        }
        Err(error) => Presence::Hidden(error.to_string()),
    }
}

fn store_failure_files(path: &Path) -> impl Iterator<Item = PathBuf> {
    let (data, runtime) = UNIT;
    let of_unit = path.starts_with(data).then(|| PathBuf::from(runtime));
    [path.join("run")]
        .into_iter()
        .chain(of_unit)
        .map(|folder| folder.join(STORE_FAILURE))
}

fn lock_holder(path: &Path, locks: &str) -> Option<u32> {
    let lock = path.join("LOCK");
    let found = fs::metadata(&lock).ok()?;
    let device = found.st_dev();
    // As it was when it was written: `process 123 (tidegate)`.
    let written = text(&lock).unwrap_or_default();
    let written = written.split(' ').nth(1).and_then(|pid| pid.parse().ok());
    holder(
        locks,
        (rustix::fs::major(device), rustix::fs::minor(device)),
        found.st_ino(),
        written,
    )
}

/// Who holds a flock on that inode. On some file systems (btrfs) /proc/locks has another device
/// number; there the process has to be the one that is `expected`.
fn holder(locks: &str, device: (u32, u32), inode: u64, expected: Option<u32>) -> Option<u32> {
    // 1: FLOCK  ADVISORY  WRITE 3482 fe:00:393246 0 EOF
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid: u32 = fields.nth(2)?.parse().ok()?;
        let mut place = fields.next()?.split(':');
        let mut hexadecimal = || u32::from_str_radix(place.next()?, 16).ok();
        let found = (hexadecimal()?, hexadecimal()?);
        let is_inode = place.next()?.parse() == Ok(inode);
        (is_inode && (found == device || expected == Some(pid))).then_some(pid)
    })
}

/// What it means.
pub(super) fn judge(folder: &Folder) -> Vec<Finding> {
    let mut findings = vec![judge_presence(&folder.presence)];
    if let Some(why) = &folder.not_writable {
        let finding = Finding::new(
            "folder",
            Level::Warning,
            format!("it cannot be written: {why}"),
        );
        findings.push(if folder.is_read_only {
            Finding {
                level: Level::Problem,
                ..finding
            }
            .meaning("the gateway cannot store anything")
            .remedy("mount the file system read-write")
        } else {
            finding
                .meaning("by this user; if the gateway runs as this user, it ends with status 78")
                .remedy("call it as the user that the gateway runs as, or give the folder to it")
        });
    }
    if let Some(pid) = folder.held_by {
        let seen = format!("in use by process {pid}");
        findings
            .push(Finding::ok("folder", seen).meaning("what was measured shared the card with it"));
    }
    findings.extend(judge_past(folder));
    findings
}

fn judge_past(folder: &Folder) -> Vec<Finding> {
    let mut findings = Vec::new();
    match folder.quarantined {
        Some(0) => {}
        Some(count) => findings.push(
            Finding::new(
                "folder",
                Level::Warning,
                format!("quarantine/ has {count} entries"),
            )
            .meaning("files were damaged and put aside; the gap ledger has what was lost")
            .remedy("see `tidegate status`; remove them when nobody needs them any more"),
        ),
        None if matches!(folder.presence, Presence::Ours(_)) => findings.push(Finding::new(
            "folder",
            Level::Note,
            "whether anything is in quarantine/ cannot be seen by this user",
        )),
        None => {}
    }
    if let Some(text) = &folder.store_failure {
        findings.push(
            Finding::new("folder", Level::Warning, format!("{STORE_FAILURE}: {text}"))
                .meaning("a write or sync failed lately; when it fails again, nothing is stored")
                .remedy("look into the kernel's log; if the disk is not full, replace the card"),
        );
    }
    if !folder.leftovers.is_empty() {
        let seen = format!(
            "left by a doctor that was killed: {}",
            folder.leftovers.join(", ")
        );
        findings.push(Finding::new("folder", Level::Note, seen).remedy("remove it"));
    }
    findings
}

fn judge_presence(presence: &Presence) -> Finding {
    let finding = |level, seen: String| Finding::new("folder", level, seen);
    match presence {
        Presence::Missing => finding(Level::Note, String::from("it is not there yet"))
            .meaning("the first start makes it; measured was where it will be"),
        Presence::Empty => Finding::ok("folder", "it is empty").meaning("the first start takes it"),
        Presence::Foreign(name) => {
            finding(Level::Problem, format!("it has no FORMAT, but `{name}`"))
                .meaning("it is no data folder of Tidegate, which will refuse it (status 78)")
                .remedy("name an empty or a new folder")
        }
        Presence::NoFolder => finding(Level::Problem, String::from("it is no folder"))
            .meaning("the gateway refuses it (status 78)")
            .remedy("name an empty or a new folder"),
        Presence::Hidden(why) => finding(Level::Warning, format!("it cannot be looked at: {why}"))
            .remedy("call it as the user that the gateway runs as, or as root"),
        Presence::Ours(text) => judge_format(text),
    }
}

fn judge_format(text: &str) -> Finding {
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    let is_ours = text.starts_with("tidegate data folder");
    let format = value("format ").and_then(|number| number.parse::<u32>().ok());
    let needs = value("needs tidegate ").unwrap_or("an unknown version");
    match format.filter(|_| is_ours) {
        Some(format @ 1..=FOLDER_FORMAT) => {
            Finding::ok("folder", format!("format {format}, needs tidegate {needs}"))
        }
        Some(format) if format > 0 => {
            let seen = format!("format {format}, needs tidegate {needs}");
            Finding::new("folder", Level::Problem, seen)
                .meaning(format!(
                    "this version reads up to format {FOLDER_FORMAT} and refuses it (status 78)"
                ))
                .remedy(format!("use tidegate {needs} or newer"))
        }
        _ => Finding::new("folder", Level::Problem, "its FORMAT file is none of ours")
            .meaning("the gateway refuses the folder (status 78)")
            .remedy("put FORMAT back from a backup, or name another folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::expect::{find, worst};
    use super::*;

    fn levels(path: &Path) -> Level {
        worst(&judge(&look(path, "")))
    }

    #[test]
    fn folder_is_told_by_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(look(&path.join("none"), "").presence, Presence::Missing);
        assert_eq!(look(path, "").presence, Presence::Empty);
        fs::create_dir(path.join(".tidegate-doctor-x")).unwrap();
        fs::create_dir(path.join("lost+found")).unwrap();
        assert_eq!(look(path, "").presence, Presence::Empty);
        assert_eq!(
            find(&judge(&look(path, "")), "was killed").level,
            Level::Note
        );
        fs::write(path.join("photo"), "").unwrap();
        assert_eq!(levels(path), Level::Problem);
        assert_eq!(levels(&path.join("photo")), Level::Problem);
        fs::remove_dir(path.join(".tidegate-doctor-x")).unwrap();
        for (text, level) in [
            (
                "tidegate data folder\nformat 1\nneeds tidegate 0.1.0\n",
                Level::Ok,
            ),
            (
                "tidegate data folder\nformat 999\nneeds tidegate 9.0.0\n",
                Level::Problem,
            ),
            ("tidegate data folder\nformat 0\n", Level::Problem),
            ("another\nformat 1\n", Level::Problem),
        ] {
            fs::write(path.join("FORMAT"), text).unwrap();
            assert_eq!(levels(path), level, "{text}");
        }
    }

    #[test]
    fn damage_of_the_past_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(
            path.join("FORMAT"),
            "tidegate data folder\nformat 1\nneeds tidegate 0.1.0",
        )
        .unwrap();
        fs::create_dir_all(path.join("quarantine/log-7")).unwrap();
        fs::create_dir(path.join("run")).unwrap();
        fs::write(path.join("run/store-failure"), "sync failed\n").unwrap();
        let findings = judge(&look(path, ""));
        assert_eq!(find(&findings, "quarantine/ has 1").level, Level::Warning);
        assert_eq!(find(&findings, "sync failed").level, Level::Warning);
    }

    #[test]
    fn failure_of_the_unit_is_looked_for_where_it_keeps_it() {
        let files = |path: &str| store_failure_files(Path::new(path)).collect::<Vec<_>>();
        assert_eq!(files("/data"), [Path::new("/data/run/store-failure")]);
        let expected = [
            "/var/lib/tidegate/run/store-failure",
            "/run/tidegate/store-failure",
        ];
        assert_eq!(files("/var/lib/tidegate"), expected.map(PathBuf::from));
    }

    #[test]
    fn holder_is_found_among_the_locks_of_the_kernel() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fe:01:77 0 EOF
3: FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 14 fe:00:78 0 EOF
rubbish
";
        assert_eq!(holder(locks, (0xfe, 0), 77, None), Some(13));
        assert_eq!(holder(locks, (0xfe, 0), 78, None), None);
        assert_eq!(holder(locks, (0, 0x30), 77, Some(12)), Some(12));
        assert_eq!(holder(locks, (0, 0x30), 77, Some(99)), None);
    }

    #[test]
    fn folder_that_cannot_be_written_is_told() {
        let mut folder = Folder {
            presence: Presence::Empty,
            not_writable: Some(String::from("Permission denied")),
            ..Folder::default()
        };
        assert_eq!(worst(&judge(&folder)), Level::Warning);
        folder.is_read_only = true;
        assert_eq!(worst(&judge(&folder)), Level::Problem);
    }
}
