//! One contestant writes its records; what that cost its process.
//!
//! Tidegate decides what a commit is, as it does in the product: what has come while the last one was
//! synced. It writes the number of records of each down, and the others get the same. There, too,
//! devices hand their records to a thread that commits, and wait for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use storage::{LogOptions, Store, StoreOptions};

use crate::contestants::{Contestant, Engine, Entry, MEMORY_BYTES};
use crate::folder;
use crate::publishers::Publishers;
use crate::records::Records;
use crate::usage::{self, Usage};

const PARTITIONS: u16 = 4;

#[derive(Args, Debug)]
pub(crate) struct OneRun {
    #[arg(long, value_enum)]
    pub(crate) contestant: Contestant,
    /// An empty folder
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Where Tidegate writes the sizes of its commits, and the others find them
    #[arg(long)]
    pub(crate) commits: PathBuf,
    #[arg(long)]
    pub(crate) size: u32,
    #[arg(long)]
    pub(crate) publishers: u16,
    #[arg(long)]
    pub(crate) records: u64,
}

/// What it cost, from the first record to the last; closing included in the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) records: u64,
    pub(crate) commits: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) written_bytes: u64,
    pub(crate) dirtied_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
}

impl Figures {
    pub(crate) fn line(&self) -> String {
        let Self {
            records,
            commits,
            seconds,
            cpu_seconds,
            written_bytes,
            dirtied_bytes,
            syncs,
            disk_bytes,
            rss_peak_bytes,
        } = self;
        format!(
            "{records} {commits} {seconds} {cpu_seconds} {written_bytes} {dirtied_bytes} {syncs} \
             {disk_bytes} {rss_peak_bytes}"
        )
    }

    pub(crate) fn of_line(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let count = |word: Option<&str>| word?.parse::<u64>().ok();
        let figures = Self {
            records: count(words.next())?,
            commits: count(words.next())?,
            seconds: words.next()?.parse().ok()?,
            cpu_seconds: words.next()?.parse().ok()?,
            written_bytes: count(words.next())?,
            dirtied_bytes: count(words.next())?,
            syncs: count(words.next())?,
            disk_bytes: count(words.next())?,
            rss_peak_bytes: count(words.next())?,
        };
        words.next().is_none().then_some(figures)
    }
}

/// Runs one contestant in this process.
///
/// # Errors
/// It fails.
pub(crate) fn run(run: &OneRun) -> anyhow::Result<Figures> {
    let records = Records::new(run.publishers, run.size);
    let mut figures = match run.contestant {
        Contestant::Tidegate => of_tidegate(run, &records)?,
        _ => of_engine(run, &records)?,
    };
    figures.disk_bytes = folder::allocated_bytes(&run.data)?;
    (_, figures.rss_peak_bytes) = usage::memory()?;
    Ok(figures)
}

fn of_tidegate(run: &OneRun, records: &Records) -> anyhow::Result<Figures> {
    let log = LogOptions {
        retention_bytes: u64::MAX / 4,
        ..LogOptions::new("default", PARTITIONS)
    };
    let options = StoreOptions {
        segment_bytes: MEMORY_BYTES,
        ..StoreOptions::default()
    };
    let (store, threads) = Store::open(&run.data, options, &[log]).context("open the store")?;
    let log = store.log("default").context("there is no log")?.id;
    let meter = Meter::begin()?;
    let mut publishers = Publishers::new(run.publishers);
    let mut commits = Vec::new();
    loop {
        if publishers.published() < run.records {
            publishers.publish(&store, records, &[log], |_| 0)?;
        }
        let groups = publishers.wait(&store)?;
        if groups.is_empty() {
            break;
        }
        commits.extend(groups.iter().map(|group| group.records.len()));
    }
    let (seconds, cpu_seconds) = meter.so_far()?;
    drop(store);
    threads.close();
    let lines: Vec<String> = commits.iter().map(ToString::to_string).collect();
    let figures = meter.end(seconds, cpu_seconds, &commits)?;
    fs::write(&run.commits, lines.join("\n")).context("write down the commits")?;
    Ok(figures)
}

fn of_engine(run: &OneRun, records: &Records) -> anyhow::Result<Figures> {
    let commits = sizes_of_commits(&run.commits)?;
    let mut engine = Engine::open(run.contestant, &run.data)?;
    let meter = Meter::begin()?;
    let (seconds, cpu_seconds) = thread::scope(|scope| -> anyhow::Result<(f64, f64)> {
        let (give, given) = sync_channel::<Vec<Entry>>(1);
        let (tell, told) = sync_channel::<()>(1);
        let writer = scope.spawn(move || -> anyhow::Result<Engine> {
            for entries in given {
                engine.commit(&entries)?;
                if tell.send(()).is_err() {
                    break;
                }
            }
            Ok(engine)
        });
        let mut number = 0;
        for size in &commits {
            let entries = entries(records, number, *size, run.publishers);
            number += *size as u64;
            if give.send(entries).is_err() || told.recv().is_err() {
                break;
            }
        }
        drop(give);
        let so_far = meter.so_far()?;
        match writer.join() {
            Ok(engine) => drop(engine?),
            Err(_) => bail!("{} panicked", run.contestant.name()),
        }
        Ok(so_far)
    })?;
    meter.end(seconds, cpu_seconds, &commits)
}

fn entries(records: &Records, first: u64, count: usize, publishers: u16) -> Vec<Entry> {
    let entry = |number: u64| {
        let publisher = u16::try_from(number % u64::from(publishers.max(1))).unwrap_or_default();
        let partition = publisher % PARTITIONS;
        let mut key = [0; 10];
        let (of_partition, of_number) = key.split_at_mut(2);
        of_partition.copy_from_slice(&partition.to_be_bytes());
        of_number.copy_from_slice(&number.to_be_bytes());
        let mut value = Vec::new();
        records.encode(number, publisher, partition, &mut value);
        Entry { key, value }
    };
    (first..first + count as u64).map(entry).collect()
}

fn sizes_of_commits(file: &Path) -> anyhow::Result<Vec<usize>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let sizes = text.lines().map(str::parse);
    sizes.collect::<Result<_, _>>().context("sizes of commits")
}

/// Counters at the first record.
struct Meter {
    usage: Usage,
    began: Instant,
}

impl Meter {
    fn begin() -> anyhow::Result<Self> {
        Ok(Self {
            usage: Usage::of_process()?,
            began: Instant::now(),
        })
    }

    /// Seconds and seconds of CPU; closing is no part of them.
    fn so_far(&self) -> anyhow::Result<(f64, f64)> {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu = (Usage::of_process()? - self.usage).cpu;
        Ok((seconds, cpu.as_secs_f64()))
    }

    fn end(&self, seconds: f64, cpu_seconds: f64, commits: &[usize]) -> anyhow::Result<Figures> {
        let used = Usage::of_process()? - self.usage;
        Ok(Figures {
            records: commits.iter().map(|size| *size as u64).sum(),
            commits: commits.len() as u64,
            seconds,
            cpu_seconds,
            written_bytes: used.written_bytes,
            dirtied_bytes: used.dirtied_bytes,
            syncs: used.syncs,
            ..Figures::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_survive_their_line() {
        let figures = Figures {
            records: 1,
            seconds: 0.25,
            rss_peak_bytes: 9,
            ..Figures::default()
        };
        assert_eq!(Figures::of_line(&figures.line()), Some(figures));
        assert_eq!(Figures::of_line("1 2 3"), None);
        assert_eq!(Figures::of_line(&(figures.line() + " 4")), None);
    }

    #[test]
    fn every_contestant_writes_the_records_that_tidegate_wrote() {
        let folder = tempfile::tempdir().unwrap();
        for contestant in Contestant::ALL {
            let data = folder.path().join(contestant.name());
            fs::create_dir(&data).unwrap();
            let one = OneRun {
                contestant,
                data,
                commits: folder.path().join("commits"),
                size: 100,
                publishers: 10,
                records: 200,
            };
            let figures = run(&one).unwrap();
            assert!((200..210).contains(&figures.records), "{figures:?}");
            assert!(figures.written_bytes > 200 * 100, "{figures:?}");
            assert!(
                figures.syncs >= figures.commits,
                "{contestant:?}: {figures:?}"
            );
        }
    }
}
