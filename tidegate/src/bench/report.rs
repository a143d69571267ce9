//! What is printed in the end: a table for people, or JSON whose fields are kept from version to
//! version (docs/bench.md).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::figure::{Figure, MEBIBYTES, Summary, summarise};
use super::statistics::{figure, ratio};
use super::table::{grouped, number, table};
use super::{folder, publish, start};
use crate::cli::bench::{BenchPublishOptions, BenchStartOptions, Contestant};

/// Version of the JSON: raised when a field changes its meaning or goes.
const FORMAT: u32 = 1;

const PUBLISH_FIGURES: [Figure<publish::Round>; 9] = [
    Figure {
        name: "messages_per_second",
        words: "messages/s",
        scale: 1.0,
        of: |round| Some(round.messages_per_second),
    },
    Figure {
        name: "cpu_us_per_message",
        words: "CPU µs/message",
        scale: 1.0,
        of: |round| Some(round.cpu_us_per_message),
    },
    Figure {
        name: "written_bytes_per_payload_byte",
        words: "bytes written/payload byte",
        scale: 1.0,
        of: |round| Some(round.written_bytes_per_payload_byte),
    },
    Figure {
        name: "dirtied_bytes_per_payload_byte",
        words: "bytes dirtied/payload byte",
        scale: 1.0,
        of: |round| Some(round.dirtied_bytes_per_payload_byte),
    },
    Figure {
        name: "rss_bytes",
        words: "memory, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_bytes)),
    },
    Figure {
        name: "rss_peak_bytes",
        words: "memory at most, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_peak_bytes)),
    },
    Figure {
        name: "messages_per_commit",
        words: "messages/commit",
        scale: 1.0,
        of: |round| round.messages_per_commit,
    },
    Figure {
        name: "load_cpu_us_per_message",
        words: "CPU µs/message of the load",
        scale: 1.0,
        of: |round| round.load_cpu_us_per_message,
    },
    Figure {
        name: "seconds",
        words: "seconds",
        scale: 1.0,
        of: |round| Some(round.seconds),
    },
];

const START_FIGURES: [Figure<start::Round>; 19] = [
    Figure {
        name: "log_bytes",
        words: "log, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.log_bytes)),
    },
    Figure {
        name: "data_folder_bytes",
        words: "data folder, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.data_folder_bytes)),
    },
    Figure {
        name: "start_to_connack_seconds",
        words: "start to first CONNACK, ms",
        scale: 1000.0,
        of: |round| Some(round.start_to_connack_seconds),
    },
    step(
        "step_process_seconds",
        "of that: until the process runs, ms",
        |round| round.steps.step_process_seconds,
    ),
    step(
        "step_configuration_seconds",
        "  configuration, ms",
        |round| round.steps.step_configuration_seconds,
    ),
    step(
        "step_lock_seconds",
        "  lock on the data folder, ms",
        |round| round.steps.step_lock_seconds,
    ),
    step(
        "step_metadata_seconds",
        "  metadata database opened, ms",
        |round| round.steps.step_metadata_seconds,
    ),
    step("step_index_seconds", "  index read, ms", |round| {
        round.steps.step_index_seconds
    }),
    step(
        "step_segments_seconds",
        "  unsealed segments read, ms",
        |round| round.steps.step_segments_seconds,
    ),
    step("step_store_seconds", "  store open, ms", |round| {
        round.steps.step_store_seconds
    }),
    step("step_listeners_seconds", "  listeners, ms", |round| {
        round.steps.step_listeners_seconds
    }),
    step("step_connack_seconds", "  first CONNACK, ms", |round| {
        round.steps.step_connack_seconds
    }),
    Figure {
        name: "start_cpu_seconds",
        words: "CPU of the start, ms",
        scale: 1000.0,
        of: |round| Some(round.start_cpu_seconds),
    },
    Figure {
        name: "rss_before_bytes",
        words: "memory before SIGKILL, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_before_bytes)),
    },
    Figure {
        name: "rss_peak_before_bytes",
        words: "memory at most before, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_peak_before_bytes)),
    },
    Figure {
        name: "rss_after_bytes",
        words: "memory after start, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_after_bytes)),
    },
    Figure {
        name: "rss_peak_after_bytes",
        words: "memory at most in start, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.rss_peak_after_bytes)),
    },
    Figure {
        name: "start_read_bytes",
        words: "bytes read, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.start_read_bytes)),
    },
    Figure {
        name: "start_fetched_bytes",
        words: "bytes fetched from disk, MiB",
        scale: MEBIBYTES,
        of: |round| Some(figure(round.start_fetched_bytes)),
    },
];

/// A step of the start, in milliseconds for people.
const fn step(
    name: &'static str,
    words: &'static str,
    of: fn(&start::Round) -> Option<f64>,
) -> Figure<start::Round> {
    Figure {
        name,
        words,
        scale: 1000.0,
        of,
    }
}

const WALL_CLOCK: &str = "Messages/s is wall clock, and the load shares the machine with what is \
                          measured.";
const MOSQUITTO: &str = "mosquitto acknowledges from memory and never syncs; its database is \
                         written once, after the load.";
const FILES: &str = "files: bare appends, one fdatasync for as many messages as the clients have \
                     in flight.";
const MEMORY: &str = "The folder is a memory file system: nothing is written and a sync costs \
                      nothing. Use --dir.";
const NO_BOARD: &str = "What holds for a board and its card is only what is measured there.";

/// The machine, as far as it matters.
#[derive(Debug, Serialize)]
struct Machine {
    architecture: &'static str,
    processors: u32,
    kernel: String,
    memory_file_system: bool,
    optimised_build: bool,
}

impl Machine {
    fn here(dir: &Path) -> Self {
        let kernel = rustix::system::uname();
        Self {
            architecture: std::env::consts::ARCH,
            processors: std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            kernel: kernel.release().to_string_lossy().into_owned(),
            memory_file_system: folder::is_memory(dir),
            optimised_build: !cfg!(debug_assertions),
        }
    }

    fn describe(&self) -> String {
        let processors = counted(self.processors, "processor");
        let build = if self.optimised_build {
            ""
        } else {
            ", NOT an optimised build"
        };
        format!(
            "tidegate {} on {}, {processors}, Linux {}{build}",
            env!("CARGO_PKG_VERSION"),
            self.architecture,
            self.kernel
        )
    }
}

/// `1 round`, `2 rounds`.
fn counted(count: impl Into<u128>, what: &str) -> String {
    match count.into() {
        1 => format!("1 {what}"),
        several => format!("{several} {what}s"),
    }
}

/// A contestant with its medians.
struct Column<'a> {
    measured: &'a publish::Measured,
    summary: Summary,
}

fn columns(all: &[publish::Measured]) -> Vec<Column<'_>> {
    let column = |measured: &'_ publish::Measured| summarise(&PUBLISH_FIGURES, &measured.rounds);
    all.iter()
        .map(|measured| Column {
            measured,
            summary: column(measured),
        })
        .collect()
}

/// How many times mosquitto's median goes into Tidegate's, by figure; `None` if one is missing.
fn ratios(columns: &[Column<'_>]) -> Option<BTreeMap<&'static str, f64>> {
    let summary = |contestant| {
        let found = columns
            .iter()
            .find(|c| c.measured.contestant == contestant)?;
        (!found.measured.rounds.is_empty()).then_some(&found.summary)
    };
    let (this, other) = (
        summary(Contestant::Tidegate)?,
        summary(Contestant::Mosquitto)?,
    );
    let ratio = |name| ratio(this.get(name).copied(), other.get(name).copied());
    let named = PUBLISH_FIGURES
        .iter()
        .map(|figure| (figure.name, ratio(figure.name)));
    Some(
        named
            .filter_map(|(name, ratio)| Some((name, ratio?)))
            .collect(),
    )
}

/// The JSON of `bench publish`.
pub(super) fn publish_json(options: &BenchPublishOptions, all: &[publish::Measured]) -> Value {
    let columns = columns(all);
    let contestants = columns.iter().map(|column| {
        json!({
            "name": publish::name(column.measured.contestant),
            "installed": !column.measured.rounds.is_empty(),
            "version": column.measured.version,
            "acknowledges": match column.measured.contestant {
                Contestant::Files | Contestant::Tidegate => "after sync",
                Contestant::Mosquitto => "from memory",
            },
            "rounds": column.measured.rounds,
            "summary": column.summary,
        })
    });
    json!({
        "format": FORMAT,
        "bench": "publish",
        "version": env!("CARGO_PKG_VERSION"),
        "machine": Machine::here(&options.output.dir),
        "options": {
            "clients": options.clients,
            "messages": options.messages,
            "size_bytes": options.size,
            "inflight": options.inflight,
            "rounds": options.rounds,
        },
        "contestants": contestants.collect::<Vec<_>>(),
        "ratio_to_mosquitto": ratios(&columns),
    })
}

/// The table of `bench publish`.
pub(super) fn publish_text(
    options: &BenchPublishOptions,
    all: &[publish::Measured],
) -> Result<String, std::fmt::Error> {
    let columns = columns(all);
    let ratios = ratios(&columns);
    let machine = Machine::here(&options.output.dir);
    let mut out = String::new();
    let BenchPublishOptions {
        clients,
        messages,
        size,
        inflight,
        rounds,
        ..
    } = options;
    let (clients, messages) = (counted(*clients, "client"), grouped(&messages.to_string()));
    writeln!(out, "{}", machine.describe())?;
    writeln!(
        out,
        "{clients}, {messages} messages of {size} bytes with QoS 1, {inflight} in flight \
         each; {}: median (min..max)\n",
        counted(*rounds, "round")
    )?;
    let mut head = vec![String::new()];
    head.extend(
        columns
            .iter()
            .map(|c| publish::name(c.measured.contestant).to_owned()),
    );
    if ratios.is_some() {
        head.push("tidegate/mosquitto".to_owned());
    }
    let mut rows = vec![head];
    for figure in &PUBLISH_FIGURES {
        let mut row = vec![figure.words.to_owned()];
        row.extend(columns.iter().map(|column| {
            if column.measured.rounds.is_empty() {
                "not installed".to_owned()
            } else {
                figure.cell(&column.summary)
            }
        }));
        if let Some(ratios) = &ratios {
            let ratio = ratios.get(figure.name);
            row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| number(*ratio)));
        }
        rows.push(row);
    }
    writeln!(out, "{}", table(&rows))?;
    let has = |contestant| all.iter().any(|m| m.contestant == contestant);
    let notes = [
        (true, WALL_CLOCK),
        (has(Contestant::Mosquitto), MOSQUITTO),
        (has(Contestant::Files), FILES),
        (machine.memory_file_system, MEMORY),
        (true, NO_BOARD),
    ];
    for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
        writeln!(out, "{note}")?;
    }
    Ok(out)
}

/// The JSON of `bench start`.
pub(super) fn start_json(options: &BenchStartOptions, measured: &start::Measured) -> Value {
    json!({
        "format": FORMAT,
        "bench": "start",
        "version": env!("CARGO_PKG_VERSION"),
        "machine": Machine::here(&options.output.dir),
        "options": {
            "bytes": options.bytes.get(),
            "messages": options.messages,
            "rounds": options.rounds,
        },
        "empty": {
            "start_to_connack_seconds": measured.empty_start.as_secs_f64(),
            "rss_bytes": measured.empty_rss_bytes,
        },
        "rounds": measured.rounds,
        "summary": summarise(&START_FIGURES, &measured.rounds),
    })
}

/// The table of `bench start`.
pub(super) fn start_text(
    options: &BenchStartOptions,
    measured: &start::Measured,
) -> Result<String, std::fmt::Error> {
    let machine = Machine::here(&options.output.dir);
    let summary = summarise(&START_FIGURES, &measured.rounds);
    let mut out = String::new();
    writeln!(out, "{}", machine.describe())?;
    writeln!(
        out,
        "a log of {}, killed while small messages are published ({} acknowledged before each \
         SIGKILL), started again; {}: median (min..max)\n",
        options.bytes,
        grouped(&options.messages.to_string()),
        counted(options.rounds, "round")
    )?;
    let row = |figure: &Figure<_>| vec![figure.words.to_owned(), figure.cell(&summary)];
    let rows: Vec<_> = START_FIGURES.iter().map(row).collect();
    writeln!(out, "{}", table(&rows))?;
    writeln!(
        out,
        "On an empty folder: {} ms to the first CONNACK, {} MiB of memory.",
        number(measured.empty_start.as_secs_f64() * 1000.0),
        number(figure(measured.empty_rss_bytes) * MEBIBYTES)
    )?;
    writeln!(
        out,
        "The process was killed, not the machine: what it reads is in the kernel's memory."
    )?;
    if machine.memory_file_system {
        writeln!(out, "{MEMORY}")?;
    }
    writeln!(out, "{NO_BOARD}")?;
    Ok(out)
}
