//! The commands run, leave nothing behind, and fail when they should. Seconds, not hours: what they
//! measure here says nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::collections::BTreeMap;
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

type Sample = BTreeMap<String, f64>;

/// What has a value in each line.
fn samples(csv: &str) -> Vec<Sample> {
    let mut lines = csv.lines().map(|line| line.split(','));
    let names: Vec<&str> = lines.next().unwrap().collect();
    let sample = |values: std::str::Split<'_, char>| {
        let values = names.iter().zip(values).filter(|(_, v)| !v.is_empty());
        let parsed = values.map(|(name, value)| ((*name).to_owned(), value.parse().unwrap()));
        parsed.collect()
    };
    lines.map(sample).collect()
}

/// Figures that every machine must find, wide as the bounds are: no counter stands still, counts what
/// is another's, or has another unit. On a memory file system nothing becomes dirty.
fn check(sample: &Sample, retained_mib: f64, publishers: f64) {
    for (name, range) in [
        ("live_payload_mib", 0.1..=retained_mib * 1.5),
        ("disk_per_live", 1.0..=20.0),
        ("disk_per_live_payload", 1.0..=20.0),
        ("written_per_payload", 1.0..=10.0),
        ("dirtied_per_payload", 0.0..=40.0),
        ("bare_written_per_payload", 1.05..=1.2),
        ("bare_dirtied_per_payload", 0.0..=20.0),
        ("cpu_us_per_record", 0.5..=10_000.0),
        ("bare_cpu_us_per_record", 0.1..=10_000.0),
        ("records_per_commit", 1.0..=publishers),
        ("syncs_per_commit", 1.0..=20.0),
        ("rss_mib", 2.0..=1000.0),
        ("segments", 1.0..=40.0),
        ("commits", 10.0..=4096.0),
        ("open_databases", 1.0..=10.0),
    ] {
        let found = sample[name];
        assert!(range.contains(&found), "{name} is {found}: {sample:?}");
    }
    let [live, payload, disk] = ["live_mib", "live_payload_mib", "disk_mib"].map(|n| sample[n]);
    assert!(
        payload < live && live < payload * 1.2 && live <= disk,
        "{sample:?}"
    );
    let (store, bare) = (
        sample["dirtied_per_payload"],
        sample["bare_dirtied_per_payload"],
    );
    assert_eq!(store == 0.0, bare == 0.0, "{sample:?}");
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
    let samples = samples(&fs::read_to_string(&csv).unwrap());
    assert_eq!(samples.len(), 4);
    for (number, sample) in samples.iter().enumerate() {
        check(sample, 4.0, 20.0);
        let is_reopened = number % 2 == 1;
        assert_eq!(sample.contains_key("open_ms"), is_reopened, "{number}");
    }
    // Nothing was evacuated yet: what the bare files do is not counted as the store's.
    let first = ["written_per_payload", "syncs_per_commit"].map(|name| samples[0][name]);
    assert!(first.iter().all(|figure| *figure < 1.6), "{first:?}");
    let grows = |name| samples.is_sorted_by(|one, other| one[name] < other[name]);
    assert!(grows("payload_mib") && grows("hours"));
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

#[test]
fn rare_topic_is_found_by_both_ways_of_reading() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "rare",
        "--log-mib",
        "8",
        "--segment-mib",
        "1",
        "--size",
        "500",
    ];
    let output = run(&arguments, dir.path());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches(" 20 found").count(), 2, "{said}");
    assert_eq!(left_in(dir.path()), 0);
}
