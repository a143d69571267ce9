//! Measures what lingering changes: bytes to flash for a byte of payload, syncs for a message, waits.
//! Its table stands in `docs/decisions/0011-flash.md`.
//!
//! Each publisher sends a message a tenth of a second, spread evenly, and waits for it to be durable.
//! The settings take turns in each round, and the table shows medians; where nothing was published,
//! what would be for a byte or a message is left out.
//!
//! ```text
//! cargo run --release -p storage --example linger [-- ROUNDS SECONDS]
//! cargo run --release -p storage --example linger -- quiet SECONDS
//! ```
#![allow(clippy::print_stdout, reason = "a measuring program prints its table")]
#![allow(
    clippy::unwrap_used,
    reason = "a measuring program may stop at the first error"
)]

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use storage::{LogOptions, Message, Store, StoreOptions};

const PAYLOAD_BYTES: usize = 200;
const PUBLISHERS: [usize; 3] = [1, 10, 100];
const LINGER_MS: [u64; 4] = [0, 5, 20, 50];

/// What a run came to.
#[derive(Clone, Copy)]
struct Figures {
    dirtied: f64,
    written: f64,
    syncs: f64,
    wait_ms: f64,
    wakes_per_second: f64,
}

/// Voluntary context switches of the store's own threads.
fn wakes() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let counts = ["committer", "keeper", "evacuator"].contains(&name.trim());
        counts.then(|| line.trim().parse::<u64>().ok()).flatten()
    };
    tasks.filter_map(|task| of(task.unwrap())).sum()
}

fn message(publisher: usize) -> Message {
    Message {
        topic: "plant/line/sensor".into(),
        client_id: format!("device {publisher}").into(),
        payload: vec![b'7'; PAYLOAD_BYTES].into(),
        qos: 1,
        ..Message::default()
    }
}

/// Publishes every `pause` until `end`; gives the waits.
fn publish(
    store: &Store,
    number: usize,
    first: Duration,
    pause: Duration,
    end: Instant,
) -> Vec<f64> {
    let log = store.log("a").unwrap().id;
    let (message, key) = (message(number), format!("device {number}"));
    let mut next = Instant::now() + first;
    let mut waits = Vec::new();
    while next < end {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let appended = store.append(log, key.as_bytes(), &message).unwrap();
        store.wait_durable(appended.commit).unwrap();
        waits.push(begun.elapsed().as_secs_f64() * 1000.0);
        next += pause;
    }
    waits
}

fn run(publishers: usize, linger_ms: u64, pause: Duration, time: Duration) -> Figures {
    let folder = tempfile::tempdir_in(".").unwrap();
    let log = LogOptions {
        linger: Duration::from_millis(linger_ms),
        ..LogOptions::new("a", 4)
    };
    let (store, threads) =
        Store::open(&folder.path().join("data"), StoreOptions::default(), &[log]).unwrap();
    let (before, woken) = (store.status().flash.since_start, wakes());
    let end = Instant::now() + time;
    let publishing: Vec<_> = (0..publishers)
        .map(|number| {
            let store = store.clone();
            let first = pause * u32::try_from(number).unwrap() / u32::try_from(publishers).unwrap();
            thread::spawn(move || publish(&store, number, first, pause, end))
        })
        .collect();
    let mut waits: Vec<f64> = publishing
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let (after, woken) = (store.status().flash.since_start, wakes() - woken);
    threads.close();
    let payload = (after.payload_bytes - before.payload_bytes) as f64;
    let dirtied = after.dirtied_bytes.unwrap() - before.dirtied_bytes.unwrap();
    Figures {
        dirtied: dirtied as f64 / payload,
        written: (after.written_bytes - before.written_bytes) as f64 / payload,
        syncs: (after.syncs - before.syncs) as f64 / (after.records - before.records) as f64,
        wait_ms: median(&mut waits),
        wakes_per_second: woken as f64 / time.as_secs_f64(),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(publishers: usize, linger_ms: u64, runs: &[Figures]) {
    let of = |figure: fn(&Figures) -> f64| median(&mut runs.iter().map(figure).collect::<Vec<_>>());
    let cells = [
        (of(|f| f.dirtied), 1),
        (of(|f| f.written), 2),
        (of(|f| f.syncs), 2),
        (of(|f| f.wait_ms), 1),
        (of(|f| f.wakes_per_second), 2),
    ];
    let cells = cells.map(|(value, digits)| match value.is_nan() {
        true => "-".to_owned(),
        false => format!("{value:.digits$}"),
    });
    println!("| {publishers} | {linger_ms} | {} |", cells.join(" | "));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| {
        let text = arguments.get(index);
        text.map_or(default, |text| text.parse().unwrap())
    };
    println!(
        "| publishers | linger ms | dirtied B/B | written B/B | syncs/message | wait ms | wakes/s |"
    );
    println!("|---|---|---|---|---|---|---|");
    if arguments.first().is_some_and(|first| first == "quiet") {
        let time = Duration::from_secs(number(1, 60));
        row(1, 0, &[run(1, 0, Duration::from_secs(1), time)]);
        row(0, 0, &[run(0, 0, Duration::from_secs(1), time)]);
        return;
    }
    let (rounds, time) = (number(0, 3), Duration::from_secs(number(1, 4)));
    let mut runs: BTreeMap<(usize, u64), Vec<Figures>> = BTreeMap::new();
    for _ in 0..rounds {
        for publishers in PUBLISHERS {
            for linger_ms in LINGER_MS {
                let figures = run(publishers, linger_ms, Duration::from_millis(100), time);
                runs.entry((publishers, linger_ms))
                    .or_default()
                    .push(figures);
            }
        }
    }
    for ((publishers, linger_ms), runs) in runs {
        row(publishers, linger_ms, &runs);
    }
}
