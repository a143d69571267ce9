//! The unit files, judged by systemd's own tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command_line::{self, Ended};
use tests::supervised::ExitCode;
use tests::{program, skip};

/// Exposure that the sandbox may leave, in tenths; 0 is none, 100 all.
const EXPOSURE_MAX: &str = "20";

pub(crate) fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd")
        .join(name)
}

/// `systemd-analyze` on a unit, in which another program stands in for the one that is not installed here.
fn analyze(arguments: &[&str], name: &str) -> Option<Ended> {
    let analyze = skip::unless(program::require("systemd-analyze", "systemd"))?;
    let folder = tempfile::tempdir().unwrap();
    for file in ["tidegate.service", "tidegate.socket"] {
        let text = fs::read_to_string(unit(file)).unwrap();
        let text = text.replace("/usr/bin/tidegate", "/bin/true");
        fs::write(folder.path().join(file), text).unwrap();
    }
    if arguments.contains(&"verify") {
        copy_drop_ins(&folder.path().join("tidegate.service.d"));
    }
    let mut command = Command::new(analyze);
    command.args(arguments).arg(folder.path().join(name));
    Some(command_line::run(&command).unwrap())
}

fn copy_drop_ins(to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(unit("drop-ins")).unwrap() {
        let from = entry.unwrap();
        let text = fs::read_to_string(from.path()).unwrap();
        let text = text.replace("/usr/bin/tidegate", "/bin/true");
        fs::write(to.join(from.file_name()), text).unwrap();
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    for name in ["tidegate.service", "tidegate.socket"] {
        let arguments = ["verify", "--man=no", "--recursive-errors=no"];
        let Some(ended) = analyze(&arguments, name) else {
            return;
        };
        let lines = ended.stderr.lines();
        let about_it: Vec<_> = lines
            .filter(|line| line.contains("tidegate.") || line.contains(".conf"))
            .collect();
        assert!(
            ended.code == ExitCode(0) && about_it.is_empty(),
            "{about_it:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn sandbox_leaves_no_more_exposure_than_is_promised() {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let arguments = ["security", "--offline=true", "--no-pager", &threshold];
    let Some(ended) = analyze(&arguments, "tidegate.service") else {
        return;
    };
    let verdict = ended.stdout.lines().last().unwrap_or_default();
    assert!(
        verdict.contains("Overall exposure level"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.code, ExitCode(0), "{verdict}");
}
