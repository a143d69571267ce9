//! `storage-bench turnover`: what a log costs that is full and goes on for years.
//!
//! Three logs with ages of an hour, a day and two weeks share the segments of one data folder. Time
//! is a clock of our own that goes on with every record, so that together they keep as many bytes
//! as is asked for; then so much is written that these turn over many times. Bare files get the
//! same records with the same commits in the same process, from one thread whose counters are its
//! own.

mod bare_files;
mod clock;
pub(crate) mod samples;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use storage::{LogId, LogOptions, LogPartition, Store, StoreOptions, StoreThreads};

use crate::cli::{Shape, TurnoverOptions};
use crate::publishers::Publishers;
use crate::records::Records;
use crate::threads::ThreadTimes;
use crate::usage::{self, Usage};
use crate::{figure, folder};
use bare_files::BareFiles;
use clock::SoakClock;
use samples::Sample;

const HOUR: Duration = Duration::from_secs(3600);
/// Name and age of each log.
const LOGS: [(&str, Duration); 3] = [
    ("hour", HOUR),
    ("day", HOUR.saturating_mul(24)),
    ("weeks", HOUR.saturating_mul(24 * 14)),
];
const PARTITIONS: u16 = 4;
/// The keeper looks around every half second: it has to have done what it can before it is judged.
const SETTLE: Duration = Duration::from_millis(700);
const SETTLES_MAX: u32 = 12;

impl Shape {
    /// Of a hundred records, how many go to each log.
    fn shares(self) -> [u64; 3] {
        match self {
            Self::ShortHeavy => [70, 20, 10],
            Self::Equal => [34, 33, 33],
        }
    }

    fn log_of(self, record: u64) -> usize {
        let [hour, day, _] = self.shares();
        // 37 has no factor of 100: every hundred records are dealt out evenly.
        match record.wrapping_mul(37) % 100 {
            at if at < hour => 0,
            at if at < hour + day => 1,
            _ => 2,
        }
    }

    /// Hours that pass while as much is published as all logs keep together.
    fn hours_of(self, retained_bytes: u64, bytes: u64) -> f64 {
        let kept_per_byte_an_hour: f64 = self
            .shares()
            .iter()
            .zip(LOGS)
            .map(|(share, (_, age))| figure(*share) / 100.0 * age.as_secs_f64() / 3600.0)
            .sum();
        figure(bytes) * kept_per_byte_an_hour / figure(retained_bytes)
    }
}

/// The folder that is soaked, closed and opened again now and then.
struct Soak<'a> {
    options: &'a TurnoverOptions,
    data: PathBuf,
    clock: Arc<SoakClock>,
    records: Arc<Records>,
    store: Store,
    threads: StoreThreads,
    logs: Vec<LogId>,
    bare: BareFiles,
    threads_used: ThreadTimes,
    /// Commit bytes and records of stores that were closed.
    stored: (u64, u64),
    acknowledged: u64,
}

/// Measures, writes CSV, prints the verdict; whether every target was met.
///
/// # Errors
/// Anything fails.
pub(crate) fn run(options: &TurnoverOptions) -> anyhow::Result<bool> {
    let bytes = options.retained_mib << 20;
    // Three times what is kept, and the bare files.
    let temporary = folder::create(&options.dir, bytes * 3 + (256 << 20))?;
    let mut soak = Soak::begin(options, temporary.path())?;
    let samples = soak.turn_over(bytes, bytes * options.turnovers)?;
    eprint!("{}", soak.threads_used());
    soak.threads.close();
    if let Some(csv) = &options.csv {
        let text = samples::to_csv(&samples);
        fs::write(csv, text).with_context(|| format!("write {}", csv.display()))?;
    }
    let steady_after = options.shape.hours_to_be_steady();
    let verdict = verdict::judge(&samples, steady_after, options.size);
    println!("{verdict}");
    Ok(verdict.is_met())
}

impl Shape {
    /// After so many hours the oldest log is full.
    fn hours_to_be_steady(self) -> f64 {
        LOGS.map(|(_, age)| age.as_secs_f64() / 3600.0)
            .into_iter()
            .fold(0.0, f64::max)
    }
}

impl<'a> Soak<'a> {
    fn begin(options: &'a TurnoverOptions, place: &Path) -> anyhow::Result<Self> {
        let data = place.join("data");
        let bare_folder = place.join("bare-files");
        fs::create_dir(&bare_folder)?;
        let clock = Arc::new(SoakClock::default());
        let records = Arc::new(Records::new(options.publishers, options.size));
        let (store, threads) = open(options, &data, &clock)?;
        let logs = log_ids(&store)?;
        let file_bytes = options.segment_mib << 20;
        let bare = BareFiles::start(&bare_folder, file_bytes, Arc::clone(&records))?;
        Ok(Self {
            options,
            data,
            clock,
            records,
            store,
            threads,
            logs,
            bare,
            threads_used: ThreadTimes::default(),
            stored: (0, 0),
            acknowledged: 0,
        })
    }

    fn turn_over(&mut self, retained: u64, total: u64) -> anyhow::Result<Vec<Sample>> {
        let shape = self.options.shape;
        let size = u64::from(self.options.size);
        let step_bytes = (total / u64::from(self.options.samples)).max(1);
        let pause_bytes = self.options.segment_mib << 20;
        let (mut next_sample, mut next_pause) = (step_bytes, pause_bytes);
        let mut publishers = Publishers::new(self.options.publishers);
        let mut samples: Vec<Sample> = Vec::new();
        self.threads_used.look()?;
        let mut before = (self.usage_of_store(&publishers)?, self.bare.usage());
        while publishers.published() * size < total {
            let log_of = |record| shape.log_of(record);
            publishers.publish(&self.store, &self.records, &self.logs, log_of)?;
            for group in publishers.wait(&self.store)? {
                self.acknowledged += group.records.len() as u64;
                self.bare.commit(group)?;
            }
            let bytes = publishers.published() * size;
            self.clock.advance_to_hours(shape.hours_of(retained, bytes));
            if bytes >= next_pause {
                // A year is not written in a minute: the keeper gets the time that it would have.
                next_pause = bytes + pause_bytes;
                thread::sleep(Duration::from_millis(self.options.pause_ms));
            }
            if bytes >= next_sample {
                next_sample += step_bytes;
                self.drain(&mut publishers)?;
                let sample = self.sample(samples.len(), &publishers, &mut before)?;
                eprintln!("{}", sample.line(retained));
                samples.push(sample);
            }
        }
        self.drain(&mut publishers)?;
        self.bare.stop()?;
        Ok(samples)
    }

    /// Waits until nothing is on its way.
    fn drain(&mut self, publishers: &mut Publishers) -> anyhow::Result<()> {
        loop {
            let groups = publishers.wait(&self.store)?;
            if groups.is_empty() {
                return self.bare.wait();
            }
            for group in groups {
                self.acknowledged += group.records.len() as u64;
                self.bare.commit(group)?;
            }
        }
    }

    /// All that this process does but for the bare files; of this thread's time only publishing,
    /// because the rest is measuring and opening.
    fn usage_of_store(&self, publishers: &Publishers) -> anyhow::Result<Usage> {
        let cpu_of_measuring = usage::cpu_of_thread().saturating_sub(publishers.append_cpu());
        let all = Usage::of_process()? - self.bare.usage_of_thread();
        Ok(Usage {
            cpu: all.cpu.saturating_sub(cpu_of_measuring),
            ..all
        })
    }

    /// Processor time by thread, for whoever asks where it went.
    fn threads_used(&self) -> String {
        let records = figure(self.acknowledged.max(1));
        let line = |(name, time): (&str, Duration)| {
            let per_record = time.as_secs_f64() * 1e6 / records;
            format!("thread {name:<16} {per_record:8.3} us of CPU a record\n")
        };
        let times = self.threads_used.most_first();
        times.into_iter().map(line).collect()
    }

    fn sample(
        &mut self,
        number: usize,
        publishers: &Publishers,
        before: &mut (Usage, Usage),
    ) -> anyhow::Result<Sample> {
        let every = usize::from(self.options.reopen_every.max(1));
        let open_ms = if number % every == every - 1 {
            Some(self.reopen()?.as_secs_f64() * 1000.0)
        } else {
            None
        };
        let disk_bytes = self.settle()?;
        let (rss_bytes, _) = usage::memory()?;
        let (store, bare) = (self.usage_of_store(publishers)?, self.bare.usage());
        self.threads_used.look()?;
        let (used, bare_used) = (store - before.0, bare - before.1);
        *before = (store, bare);
        let counters = self.store.counters();
        let stored_bytes = self.stored.0 + counters.commit_bytes();
        let stored_records = self.stored.1 + counters.records();
        let live_records = self.live_records();
        let status = self.store.status();
        Ok(Sample {
            hours: self.clock.hours(),
            records: self.acknowledged,
            payload_bytes: self.acknowledged * u64::from(self.options.size),
            live_payload_bytes: live_records * u64::from(self.options.size),
            live_bytes: live_records * stored_bytes / stored_records.max(1),
            disk_bytes,
            store: used,
            bare: bare_used,
            rss_bytes,
            open_ms,
            segments: status.segments as u64,
            open_databases: status.segments_open as u64,
        })
    }

    /// Records at or behind the start of their log.
    fn live_records(&self) -> u64 {
        let partitions = self.logs.iter().flat_map(|log| {
            let log = *log;
            (0..PARTITIONS).map(move |number| LogPartition {
                log,
                partition: storage::PartitionId(number),
            })
        });
        partitions
            .map(|partition| {
                let end = self.store.high_watermark(partition);
                end.since(self.store.log_start(partition))
            })
            .sum()
    }

    /// Lets the keeper finish; then what the folder takes.
    fn settle(&self) -> anyhow::Result<u64> {
        let mut before = u64::MAX;
        for _ in 0..SETTLES_MAX {
            thread::sleep(SETTLE);
            let bytes = folder::allocated_bytes(&self.data)?;
            if bytes == before {
                break;
            }
            before = bytes;
        }
        Ok(before)
    }

    /// Closes the store and opens it again.
    fn reopen(&mut self) -> anyhow::Result<Duration> {
        let counters = self.store.counters();
        self.stored.0 += counters.commit_bytes();
        self.stored.1 += counters.records();
        // A store of its own takes the place meanwhile: the folder must be let go of.
        let spare = self.data.with_file_name("spare");
        let (store, threads) = open(self.options, &spare, &self.clock)?;
        self.threads_used.look()?;
        let old = std::mem::replace(&mut self.threads, threads);
        drop(std::mem::replace(&mut self.store, store));
        old.close();
        let began = Instant::now();
        let (store, threads) = open(self.options, &self.data, &self.clock)?;
        let elapsed = began.elapsed();
        self.store = store;
        std::mem::replace(&mut self.threads, threads).close();
        fs::remove_dir_all(&spare)?;
        self.logs = log_ids(&self.store)?;
        Ok(elapsed)
    }
}

fn open(
    options: &TurnoverOptions,
    data: &Path,
    clock: &Arc<SoakClock>,
) -> anyhow::Result<(Store, StoreThreads)> {
    let logs = LOGS.map(|(name, age)| LogOptions {
        retention_bytes: u64::MAX / 4,
        retention_age: Some(age),
        ..LogOptions::new(name, PARTITIONS)
    });
    let evacuation = options.evacuation_mib.map(|mib| mib << 20);
    let store_options = StoreOptions {
        segment_bytes: options.segment_mib << 20,
        evacuation_bytes_per_second: evacuation.unwrap_or(u64::MAX),
        clock: Arc::<SoakClock>::clone(clock),
        ..StoreOptions::default()
    };
    Store::open(data, store_options, &logs).context("open the store")
}

fn log_ids(store: &Store) -> anyhow::Result<Vec<LogId>> {
    let id = |(name, _): (&str, Duration)| store.log(name).map(|log| log.id);
    let ids: Option<Vec<LogId>> = LOGS.into_iter().map(id).collect();
    ids.context("the logs are not there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_dealt_out_as_the_shape_says() {
        for shape in [Shape::ShortHeavy, Shape::Equal] {
            let mut found = [0; 3];
            for record in 0..1000 {
                found[shape.log_of(record)] += 1;
            }
            assert_eq!(found, shape.shares().map(|share| share * 10), "{shape:?}");
        }
    }

    #[test]
    fn logs_keep_together_what_was_asked_for() {
        for shape in [Shape::ShortHeavy, Shape::Equal] {
            let hours = shape.hours_of(1000, 1_000_000);
            let an_hour = 1_000_000.0 / hours;
            let kept: f64 = shape
                .shares()
                .iter()
                .zip([1.0, 24.0, 336.0])
                .map(|(share, hours)| figure(*share) / 100.0 * an_hour * hours)
                .sum();
            assert!((kept - 1000.0).abs() < 1.0, "{shape:?}: {kept}");
        }
    }
}
