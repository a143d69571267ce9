//! The process is killed with SIGKILL while it writes; what it had acknowledged must be there.
//!
//! The child is this very test program, which writes as fast as it can and prints what is durable.
//! `TIDEGATE_CRASH_ROUNDS` sets the number of kills (default 15), `TIDEGATE_SEED` the times of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use storage::{JournalKey, JournalKind, LogOptions, LogPartition, Store};
use support::{append, open, read_from};

const FOLDER: &str = "TIDEGATE_CRASH_FOLDER";

fn logs() -> [LogOptions; 2] {
    // Small, so that segments roll and are removed while the process is killed.
    let small = |name: &str, partitions| LogOptions {
        retention_bytes: 3 << 20,
        ..LogOptions::new(name, partitions)
    };
    [small("a", 4), small("b", 1)]
}

fn journal_key() -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, b"crash test")
}

/// What the killed process does; a test only by form.
#[test]
fn write_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let (store, _threads) = open(Path::new(&folder), &logs());
    let mut number = 0_u64;
    let mut out = std::io::stdout().lock();
    loop {
        let mut appended = Vec::new();
        for _ in 0..(number % 50) + 1 {
            number += 1;
            let log = if number.is_multiple_of(5) { "b" } else { "a" };
            let size = usize::try_from(number * 7919 % 1500).unwrap();
            let payload = format!("{number} {}", "x".repeat(size));
            appended.push(append(
                &store,
                log,
                &format!("key {}", number % 11),
                &payload,
            ));
        }
        let value = number.to_be_bytes().to_vec();
        store
            .put_journal_entry(journal_key(), Some(value), Duration::ZERO)
            .unwrap();
        store.wait_durable(appended.last().unwrap().commit).unwrap();
        for at in appended {
            let LogPartition { log, partition } = at.partition;
            writeln!(out, "acked {} {} {}", log.0, partition.0, at.offset.0).unwrap();
        }
        out.flush().unwrap();
    }
}

/// Runs the child for a while, kills it, and returns the end of what it acknowledged by partition.
fn write_and_kill(folder: &Path, after: Duration) -> BTreeMap<(u16, u16), u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "write_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut ends = BTreeMap::new();
        for line in out.lines().map_while(Result::ok) {
            let mut words = line.split(' ');
            if words.next() != Some("acked") {
                continue;
            }
            let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let [log, partition, offset] = numbers[..] else {
                continue;
            };
            let partition = (
                u16::try_from(log).unwrap(),
                u16::try_from(partition).unwrap(),
            );
            ends.insert(partition, offset + 1);
        }
        ends
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn check(store: &Store, acknowledged: &BTreeMap<(u16, u16), u64>) -> BTreeMap<(u16, u16), u64> {
    let mut ends = BTreeMap::new();
    for log in store.logs() {
        for partition in log.partitions() {
            let name = (partition.log.0, partition.partition.0);
            let (start, end) = (store.log_start(partition), store.high_watermark(partition));
            let acknowledged = acknowledged.get(&name).copied().unwrap_or(0);
            assert!(
                end.0 >= acknowledged,
                "{partition}: {end} < {acknowledged} acknowledged"
            );
            let records = read_from(store, partition, start.0);
            let offsets: Vec<u64> = records.iter().map(|(offset, _)| *offset).collect();
            assert_eq!(
                offsets,
                (start.0..end.0).collect::<Vec<_>>(),
                "{partition}: dense"
            );
            for (offset, payload) in records {
                let (number, rest) = payload.split_once(' ').unwrap();
                let number: usize = number.parse().unwrap();
                assert_eq!(rest.len(), number * 7919 % 1500, "{partition} at {offset}");
            }
            ends.insert(name, end.0);
        }
    }
    ends
}

#[test]
fn acknowledged_records_survive_sigkill() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let rounds = number("TIDEGATE_CRASH_ROUNDS", 15);
    let mut seed = number("TIDEGATE_SEED", 20_261_122);
    println!("seed {seed}, {rounds} rounds");
    let folder = tempfile::tempdir().unwrap();
    let mut ends: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    let mut journal = 0;
    for round in 0..rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The shortest ones hit the opening itself.
        let after = Duration::from_millis((seed >> 33) % 400);
        let acknowledged = write_and_kill(folder.path(), after);
        // Without the child's retention, which would move the start while it is looked at.
        let kept = [LogOptions::new("a", 4), LogOptions::new("b", 1)];
        let (store, threads) = open(folder.path(), &kept);
        let unexpected = store.recovery_events().iter().map(ToString::to_string);
        let unexpected: Vec<_> = unexpected
            .filter(|event| !event.contains("not finished"))
            .collect();
        assert_eq!(unexpected, [] as [String; 0], "round {round}");
        let found = check(&store, &acknowledged);
        for (partition, end) in &ends {
            assert!(
                found[partition] >= *end,
                "round {round}: offsets of {partition:?} went back"
            );
        }
        ends = found;
        let value = store.journal_entry(&journal_key());
        let value = value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
        if !acknowledged.is_empty() {
            assert!(value > 0, "round {round}: the journal entry is there");
        }
        journal = journal.max(value);
        threads.close();
    }
    println!(
        "{} records, journal up to {journal}",
        ends.values().sum::<u64>()
    );
    assert!(
        ends.values().sum::<u64>() > 0,
        "something was written at all"
    );
}
