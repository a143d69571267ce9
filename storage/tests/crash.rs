//! The process is killed with SIGKILL while it writes; what it had acknowledged must be there.
//!
//! The child is this very test program, which writes as fast as it can and prints what is durable.
//! Its logs are kept for so different a time that segments are evacuated again and again; in two of
//! three rounds it is killed when there is an unfinished copy, or a finished one beside what it was
//! made of. `TIDEGATE_CRASH_ROUNDS` sets the number of kills (default 15), `TIDEGATE_SEED` their times.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use storage::{JournalKey, JournalKind, LogOptions, LogPartition, Store, StoreOptions};
use support::halves::{directories, is_covered};
use support::{again, append, options, read_from};

const FOLDER: &str = "TIDEGATE_CRASH_FOLDER";
const LIFE: &str = "TIDEGATE_CRASH_LIFE";
/// How long a round waits at most for the state in which the process is to be killed.
const AIM_WITHIN: Duration = Duration::from_secs(5);

/// Small, so that segments roll, are evacuated and are removed while the process is killed.
fn logs() -> [LogOptions; 3] {
    let kept = |name: &str, partitions, retention_bytes| LogOptions {
        retention_bytes,
        ..LogOptions::new(name, partitions)
    };
    [
        kept("short", 4, 1 << 19),
        kept("middle", 2, 2 << 20),
        kept("long", 1, 1 << 30),
    ]
}

/// Nothing moves while it is looked at.
fn looking() -> (StoreOptions, [LogOptions; 3]) {
    let options = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    let logs = logs().map(|log| LogOptions {
        retention_bytes: 1 << 30,
        ..log
    });
    (options, logs)
}

fn journal_key() -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, b"crash test")
}

/// Cold entries that change with each group: one comes, one goes. They move into the metadata meanwhile.
fn changed_sessions((life, number): Written) -> [(JournalKey, Option<Vec<u8>>); 2] {
    let key = |number: u64| {
        let name = (number % 30).to_string();
        JournalKey::new(JournalKind::Session, name.as_bytes())
    };
    let value = format!("{life} {number:>2000}").into_bytes();
    [(key(number), Some(value)), (key(number + 15), None)]
}

/// What a record is recognized by: the process that wrote it, and a number.
type Written = (u64, u64);

fn payload((life, number): Written) -> String {
    let size = usize::try_from(number * 7919 % 1500).unwrap();
    let letter = char::from(b'a' + u8::try_from((life + number) % 26).unwrap());
    format!("{life} {number} {}", letter.to_string().repeat(size))
}

fn log_for(number: u64) -> &'static str {
    match number % 12 {
        0 => "long",
        1..3 => "middle",
        _ => "short",
    }
}

/// What the killed process does; a test only by form.
#[test]
fn write_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let life: u64 = std::env::var(LIFE).unwrap().parse().unwrap();
    // Slow copies are met in the middle, fast ones at their other steps.
    let evacuation_bytes_per_second = if life.is_multiple_of(2) {
        1 << 21
    } else {
        1 << 30
    };
    let options = StoreOptions {
        evacuation_bytes_per_second,
        ..options()
    };
    let (store, _threads) = Store::open(Path::new(&folder), options, &logs()).unwrap();
    let mut number = 0_u64;
    let mut out = std::io::stdout().lock();
    loop {
        let mut appended = Vec::new();
        for _ in 0..(number % 50) + 1 {
            number += 1;
            let key = format!("key {}", number % 11);
            let at = append(&store, log_for(number), &key, &payload((life, number)));
            appended.push((number, at));
        }
        let value = format!("{life} {number}").into_bytes();
        let mut entries = vec![(journal_key(), Some(value))];
        entries.extend(changed_sessions((life, number)));
        let put = store.put_journal_entries(entries, Duration::ZERO);
        let put = put.unwrap();
        store.wait_durable(put).unwrap();
        for (number, at) in appended {
            assert!(at.commit <= put, "{} is behind {put}", at.commit);
            let LogPartition { log, partition } = at.partition;
            let offset = at.offset.0;
            writeln!(out, "acked {} {} {offset} {number}", log.0, partition.0).unwrap();
        }
        out.flush().unwrap();
    }
}

/// What the folder looks like when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Whatever it looks like.
    AnyTime,
    /// There is a copy that is not complete.
    Copying,
    /// There is a complete copy beside some of what it was made of.
    Switching,
}

/// What an evacuation was doing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    copying: bool,
    /// The copy is complete, and all of its sources are there.
    switching: bool,
    /// … but not all of them any more.
    removing: bool,
}

impl Steps {
    fn of(folder: &Path) -> Self {
        let mut steps = Self::default();
        if !folder.join("log").is_dir() {
            return steps;
        }
        let names = directories(folder);
        for name in names.iter().filter(|name| name.contains('.')) {
            if name.ends_with(".new") {
                steps.copying = true;
                continue;
            }
            let sources = |other: &&String| {
                *other != name && !other.ends_with(".new") && is_covered(name, other)
            };
            let ids = |name: &str| {
                let (first, rest) = name.split_once('-').unwrap();
                let last = rest.split_once('.').unwrap().0;
                last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1
            };
            let left = names
                .iter()
                .filter(sources)
                .map(|source| match source.contains('.') {
                    true => ids(source),
                    false => 1,
                });
            match left.sum::<u64>() {
                0 => {}
                left if left < ids(name) => steps.removing = true,
                _ => steps.switching = true,
            }
        }
        steps
    }

    fn are(&self, aim: Aim) -> bool {
        match aim {
            Aim::AnyTime => true,
            Aim::Copying => self.copying,
            Aim::Switching => self.switching || self.removing,
        }
    }
}

/// What is known of every partition: what is at which offset.
type Known = BTreeMap<(u16, u16), BTreeMap<u64, Written>>;

fn start(folder: &Path, life: u64) -> Child {
    again::command()
        .args([
            "--exact",
            "write_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs the child, kills it `after` it looks as `aim` says, and adds what it acknowledged to `known`.
/// Returns the last number of these.
fn write_and_kill(folder: &Path, life: u64, aim: Aim, after: Duration, known: &mut Known) -> u64 {
    let mut child = start(folder, life);
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in out.lines().map_while(Result::ok) {
            let Some(rest) = line.strip_prefix("acked ") else {
                continue;
            };
            let numbers: Vec<u64> = rest
                .split(' ')
                .map_while(|word| word.parse().ok())
                .collect();
            // The last line may be cut off.
            if let [log, partition, offset, number] = numbers[..] {
                acknowledged.push((log, partition, offset, number));
            }
        }
        acknowledged
    });
    let end = Instant::now() + AIM_WITHIN;
    while aim != Aim::AnyTime && !Steps::of(folder).are(aim) && Instant::now() < end {
        thread::sleep(Duration::from_micros(300));
    }
    thread::sleep(after);
    assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut last = 0;
    for (log, partition, offset, number) in reader.join().unwrap() {
        let partition = (log.try_into().unwrap(), partition.try_into().unwrap());
        let earlier = known
            .entry(partition)
            .or_default()
            .insert(offset, (life, number));
        assert_eq!(earlier, None, "{partition:?}: {offset} is used again");
        last = number;
    }
    last
}

/// Everything that is known is there and the same, and what is there becomes known.
fn check(store: &Store, known: &mut Known) {
    assert_eq!(store.gaps(), []);
    for log in store.logs() {
        for partition in log.partitions() {
            let known = known
                .entry((partition.log.0, partition.partition.0))
                .or_default();
            let (start, end) = (store.log_start(partition), store.high_watermark(partition));
            if log.name == "long" {
                assert_eq!(start.0, 0, "all of it is kept");
            }
            if let Some((last, _)) = known.last_key_value() {
                assert!(
                    end.0 > *last,
                    "{partition}: {last} is lost, the end is {end}"
                );
            }
            let records = read_from(store, partition, start.0);
            let offsets: Vec<u64> = records.iter().map(|(offset, _)| *offset).collect();
            let expected: Vec<_> = (start.0..end.0).collect();
            assert_eq!(offsets, expected, "{partition}: dense");
            for (offset, found) in records {
                let mut words = found.splitn(3, ' ').map_while(|word| word.parse().ok());
                let written = (words.next().unwrap(), words.next().unwrap());
                assert_eq!(found, payload(written), "{partition} at {offset}");
                assert_eq!(log_for(written.1), log.name, "{partition} at {offset}");
                let earlier = *known.entry(offset).or_insert(written);
                assert_eq!(earlier, written, "{partition}: {offset} was another one");
            }
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn acknowledged_records_survive_sigkill() {
    let rounds = from_environment("TIDEGATE_CRASH_ROUNDS", 15);
    let mut seed = from_environment("TIDEGATE_SEED", 20_261_122);
    println!("seed {seed}, {rounds} rounds");
    let folder = tempfile::tempdir().unwrap();
    let mut known = Known::new();
    let mut newest: Written = (0, 0);
    let (mut copying, mut switching, mut removing, mut moved) = (0, 0, 0, 0);
    // Until it was killed at both kinds of steps; how soon this is hangs on the machine.
    for round in 0..rounds * 4 {
        if round >= rounds && copying > 0 && switching + removing > 0 {
            break;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (aim, within_ms) = match round % 3 {
            // The shortest ones hit the opening itself.
            0 => (Aim::AnyTime, 400),
            1 => (Aim::Copying, 20),
            _ => (Aim::Switching, 5),
        };
        let after = Duration::from_millis((seed >> 33) % within_ms);
        let life = round + 1;
        let last = write_and_kill(folder.path(), life, aim, after, &mut known);
        if last > 0 {
            newest = (life, last);
        }
        let steps = Steps::of(folder.path());
        copying += u64::from(steps.copying);
        switching += u64::from(steps.switching);
        removing += u64::from(steps.removing);
        let (options, logs) = looking();
        let (store, threads) = Store::open(folder.path(), options, &logs).unwrap();
        let left = directories(folder.path());
        let after = Steps::of(folder.path());
        assert_eq!(after, Steps::default(), "round {round}: {left:?}");
        let unexpected = store.recovery_events().iter().map(ToString::to_string);
        let unexpected: Vec<_> = unexpected
            .filter(|event| !event.contains("not finished"))
            .collect();
        assert_eq!(unexpected, [] as [String; 0], "round {round}");
        check(&store, &mut known);
        let journal = store.journal_entry(&journal_key()).map_or((0, 0), |value| {
            let text = String::from_utf8(value).unwrap();
            let (life, number) = text.split_once(' ').unwrap();
            (life.parse().unwrap(), number.parse().unwrap())
        });
        assert!(
            journal >= newest,
            "round {round}: {journal:?} is before {newest:?}"
        );
        newest = journal;
        if newest > (0, 0) {
            for (key, value) in changed_sessions(newest) {
                assert_eq!(store.journal_entry(&key), value, "round {round}: {key}");
            }
        }
        let in_journal = store.journal_entries(JournalKind::Session).into_iter();
        let in_journal = in_journal.filter(|(_, value)| !value.is_empty()).count();
        moved += u64::from(store.cold_entries(JournalKind::Session).count() > in_journal);
        threads.close();
    }
    let records: usize = known.values().map(BTreeMap::len).sum();
    println!(
        "{records} records; killed while copying {copying} times, switching {switching}, \
         removing {removing}, with sessions in the metadata {moved}"
    );
    assert!(moved > 0, "no session was ever moved");
    assert!(copying > 0, "never killed while a copy was under way");
    assert!(
        switching + removing > 0,
        "never killed between a copy and the end of its sources"
    );
}
