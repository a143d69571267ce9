//! Damage that makes one of sled's I/O threads panic, after which no database of the process works.
//! The process must neither hang nor take healthy segments for damaged, and the next one must start.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use storage::{RecoveryEvent, Store};
use support::template::{logs, snapshots, template};
use support::{again, wait_for};

const FOLDER: &str = "TIDEGATE_IO_THREADS_FOLDER";
/// Exit status of a child that met what this is about.
const BROKEN: i32 = 9;

/// What the other process does; a test only by form.
#[test]
fn open_a_folder_elsewhere() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let error = Store::open(Path::new(&folder), support::options(), &logs()).unwrap_err();
    let is_broken = error.to_string().contains("start this process again");
    println!("{error}");
    std::process::exit(if is_broken { BROKEN } else { 1 });
}

/// A header of one of sled's own segments with the right checksum and an impossible number.
fn impossible_header() -> [u8; 20] {
    // CRC-32 of 16 zeros is 0xecbb4b55; sled stores it inverted.
    let mut header = [0; 20];
    header[..4].copy_from_slice(&(!0xecbb_4b55_u32).to_le_bytes());
    header
}

#[test]
fn next_start_succeeds_when_an_io_thread_panicked_during_this_one() {
    let active = template().active();
    for (segment, leaps) in [(active, true), (0, false)] {
        let copy = template().copy();
        let database = copy.segment(segment);
        for path in snapshots(&database) {
            fs::remove_file(path).unwrap();
        }
        let mut bytes = fs::read(database.join("db")).unwrap();
        bytes[..20].copy_from_slice(&impossible_header());
        fs::write(database.join("db"), bytes).unwrap();
        if segment != active {
            // Without the index every segment is read by the start.
            fs::remove_dir_all(copy.metadata()).unwrap();
        }

        let mut child = again::command()
            .args(["--exact", "open_a_folder_elsewhere", "--test-threads=1"])
            .env(FOLDER, copy.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut code = None;
        wait_for("the end of the other process", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(BROKEN));
        // What was put aside when sled had panicked, and as it was before.
        let name = &template().segments[segment].name;
        assert_eq!(
            copy.quarantined(),
            [name.clone(), format!("{name}.damaged")]
        );

        let outcome = copy.check(&[segment], segment != active);
        assert!(outcome.missing > 0, "{outcome:?}");
        assert_eq!(outcome.leapt, leaps, "{outcome:?}");
        let told = |event: &RecoveryEvent| {
            matches!(
                event,
                RecoveryEvent::SegmentMissing { .. } | RecoveryEvent::MetadataMissing
            )
        };
        assert!(outcome.events.iter().any(told), "{outcome:?}");
    }
}
