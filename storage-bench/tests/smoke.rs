//! The commands run, leave nothing behind, and fail when they should. Seconds, not hours: what they
//! measure here says nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storage-bench"))
        .args(arguments)
        .args(["--dir".as_ref(), dir.as_os_str()])
        .output()
        .unwrap()
}

fn left_in(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn turnover_that_was_too_short_fails_and_still_writes_what_can_be_drawn() {
    let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (csv, svg) = (kept.path().join("soak.csv"), kept.path().join("soak.svg"));
    let arguments = "turnover --retained-mib 4 --turnovers 1 --segment-mib 1 --samples 4 \
                     --reopen-every 2 --pause-ms 0 --publishers 20 --csv";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.push(csv.to_str().unwrap());
    let output = run(&arguments, dir.path());
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}{errors}");
    assert!(text.contains("targets are missed"), "{text}{errors}");
    assert_eq!(left_in(dir.path()), 0);
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 5);
    let plotted = Command::new(env!("CARGO_BIN_EXE_storage-bench"))
        .args([
            "plot".as_ref(),
            csv.as_os_str(),
            "--svg".as_ref(),
            svg.as_os_str(),
        ])
        .status()
        .unwrap();
    assert!(plotted.success());
    assert!(fs::read_to_string(&svg).unwrap().ends_with("</svg>\n"));
}

#[test]
fn scan_reads_everything_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "scan",
        "--large-mib",
        "6",
        "--small-mib",
        "3",
        "--segment-mib",
        "1",
    ];
    let output = run(&arguments, dir.path());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    // Whether the target was met depends on the machine; that there are figures does not.
    assert_eq!(
        text.matches("of memory at most while it is read").count(),
        2,
        "{text}{errors}"
    );
    assert_eq!(left_in(dir.path()), 0);
}

#[test]
fn quiet_gateway_that_does_not_start_is_a_failure_with_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["quiet", "--seconds", "1", "--program", "/bin/false"];
    let output = run(&arguments, dir.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("does not come up"), "{errors}");
    assert_eq!(left_in(dir.path()), 0);
}

#[test]
fn disk_that_is_too_small_is_a_failure_with_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["scan", "--large-mib", "1048576"], dir.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("not measured:") && errors.contains("the measurement needs 1230."),
        "{errors}"
    );
    assert_eq!(left_in(dir.path()), 0);
}
