//! The short form of `cargo xtask power-cut`: some images of every workload, more of the broker's, and
//! both controls.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise, and shows what the simulator printed"
)]

use std::process::{Command, Output};

/// Runs the simulator; what it printed is shown if the test fails.
fn run(arguments: &[&str]) -> (Output, String) {
    let keep = concat!(env!("CARGO_TARGET_TMPDIR"), "/power-cut");
    let output = Command::new(env!("CARGO_BIN_EXE_power-cut"))
        .args(["run", "--keep", keep])
        .args(arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    (output, printed)
}

/// The number of bad images that the last lines tell.
fn bad(printed: &str) -> usize {
    let line = printed.lines().rfind(|line| line.contains(" bad of "));
    let number = line.unwrap().split(' ').next().unwrap();
    number.parse().unwrap()
}

#[test]
fn every_promise_is_kept_in_images_of_every_workload() {
    let (output, printed) = run(&["--images", "180"]);
    assert!(output.status.success());
    assert_eq!(bad(&printed), 0);
    for workload in [
        "gentle",
        "rough",
        "rolling",
        "retention",
        "metadata",
        "tiny",
        "sessions",
        "recovery",
        "broker",
    ] {
        let row = printed.lines().find(|line| line.starts_with(workload));
        let images = row.unwrap().split_whitespace().nth(1);
        assert_eq!(images, Some("20"), "{workload}");
    }
    // As long as it meets no evacuation, its zeros say nothing of one.
    let (_, printed) = run(&["--images", "80", "--workload", "retention"]);
    let row = printed.lines().find(|line| line.starts_with("retention"));
    let met = row.unwrap().split_whitespace().skip(2).take(2);
    assert!(met.map(str::parse::<usize>).any(|met| met.unwrap() > 0));
}

#[test]
fn promises_of_the_broker_are_kept_at_every_step() {
    let (output, printed) = run(&["--images", "80", "--workload", "broker"]);
    assert!(output.status.success());
    assert_eq!(bad(&printed), 0);
    // A step that was not met proves nothing.
    let rows = printed
        .lines()
        .skip_while(|line| !line.starts_with("broker:"));
    let rows: Vec<_> = rows.skip(1).take_while(|l| l.starts_with("  ")).collect();
    assert!(rows.len() > 20);
    for row in rows {
        let images = row.split_whitespace().last().unwrap();
        assert_ne!(images.parse::<usize>().unwrap(), 0, "{row}");
    }
}

#[test]
fn images_of_the_broker_are_bad_when_the_fence_does_not_count() {
    let (output, printed) = run(&[
        "--images",
        "20",
        "--workload",
        "broker",
        "--control",
        "flush",
    ]);
    assert!(output.status.success());
    assert!(printed.contains("acknowledged message lost"));
    assert!(bad(&printed) >= 5);
}

#[test]
fn images_are_bad_when_the_fence_does_not_count() {
    let (output, printed) = run(&["--images", "30", "--control", "flush"]);
    assert!(output.status.success());
    assert!(bad(&printed) >= 5);
}

/// sled reuses what it believes stable before such a sync can come.
#[test]
fn images_are_bad_when_only_a_sync_after_the_commit_counts() {
    // About one of a hundred is bad: those in which what was evacuated has its name and not its content.
    let finds = |seed: &&str| {
        let (output, printed) = run(&[
            "--images",
            "200",
            "--workload",
            "retention",
            "--control",
            "own-fdatasync",
            "--seed",
            seed,
        ]);
        assert_eq!(output.status.success(), bad(&printed) > 0, "{printed}");
        bad(&printed) > 0
    };
    assert!(["1", "2", "3", "4", "5"].iter().any(finds));
}

#[test]
fn workload_that_does_not_exist_is_refused() {
    let (output, _) = run(&["--workload", "rainy"]);
    assert_eq!(output.status.code(), Some(2));
}
