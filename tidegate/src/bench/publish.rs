//! `tidegate bench publish`: the same QoS 1 messages to each contestant in turn, round by round, so
//! that what else the machine does meets all of them.

use anyhow::Context as _;
use serde::Serialize;

use super::broker::{self, Broker, TidegateOptions};
use super::files;
use super::folder::Folder;
use super::load::{Load, LoadOptions};
use super::progress::Progress;
use super::statistics::{figure, per};
use super::usage::Usage;
use crate::cli::bench::{BenchPublishOptions, Contestant};

/// What storing takes of each message beside its payload, at most: headers, the database's own.
const OVERHEAD_BYTES: u64 = 512;
/// Without this much, retention would remove what is measured.
const RETENTION_BYTES_MIN: u64 = 1 << 30;
/// The default of `limits.commit_queue_bytes_max`.
const COMMIT_BYTES_MAX: u32 = 8 << 20;
/// The default of `limits.receive_maximum`.
const RECEIVE_MAXIMUM: u16 = 64;

/// What one round has measured of one contestant. The fields are the schema of docs/bench.md.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    pub(super) messages: u64,
    pub(super) payload_bytes: u64,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    pub(super) cpu_us_per_message: f64,
    pub(super) written_bytes: u64,
    pub(super) written_bytes_per_payload_byte: f64,
    pub(super) dirtied_bytes: u64,
    pub(super) dirtied_bytes_per_payload_byte: f64,
    pub(super) socket_bytes: u64,
    pub(super) socket_bytes_subtracted: bool,
    pub(super) rss_bytes: u64,
    pub(super) rss_peak_bytes: u64,
    pub(super) messages_per_commit: Option<f64>,
    pub(super) load_cpu_us_per_message: Option<f64>,
}

/// All rounds of a contestant, or that it is not there.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) contestant: Contestant,
    /// Of a broker.
    pub(super) version: Option<String>,
    /// Empty if it is not installed.
    pub(super) rounds: Vec<Round>,
}

/// What was counted around a round, before it is put into figures.
#[derive(Clone, Copy, Debug)]
struct Counted {
    seconds: f64,
    usage: Usage,
    socket_bytes: u64,
    socket_bytes_subtracted: bool,
    commits: Option<u64>,
    load: Option<Usage>,
}

/// Measures.
///
/// # Errors
/// Anything fails: a figure of half a measurement is none.
pub(super) async fn run(options: &BenchPublishOptions) -> anyhow::Result<Vec<Measured>> {
    let folder = Folder::create(&options.output.dir, bytes_max(options))?;
    let mosquitto = broker::find_mosquitto();
    let mut all = contestants(
        options,
        mosquitto.as_ref().map(|(_, version)| version.as_str()),
    );
    for round in 1..=options.rounds {
        for measured in &mut all {
            let contestant = measured.contestant;
            if contestant == Contestant::Mosquitto && mosquitto.is_none() {
                continue;
            }
            let name = name(contestant);
            let what = format!("round {round}/{}: {name}", options.rounds);
            let mut progress = Progress::begin(what, u64::from(options.messages));
            let place = folder.subfolder(&format!("{name}-{round}"))?;
            let counted = match (contestant, &mosquitto) {
                (Contestant::Files, _) => measure_files(options, &place, &mut progress).await,
                (Contestant::Mosquitto, Some((program, _))) => {
                    let broker = Broker::start_mosquitto(program, &place, options.inflight).await?;
                    measure_broker(options, broker, &mut progress).await
                }
                (Contestant::Mosquitto | Contestant::Tidegate, _) => {
                    let receive_maximum = options.inflight.max(RECEIVE_MAXIMUM);
                    let retention = bytes_max(options).max(RETENTION_BYTES_MIN);
                    let place = place.clone();
                    let tidegate = TidegateOptions::new(place, receive_maximum, retention)?;
                    let (broker, _) = Broker::start_tidegate(&tidegate).await?;
                    measure_broker(options, broker, &mut progress).await
                }
            };
            let counted = counted.with_context(|| format!("measure {name}"))?;
            measured.rounds.push(counted.figures(options));
            // The next one finds the same free space.
            let removed = std::fs::remove_dir_all(&place);
            removed.with_context(|| format!("remove {}", place.display()))?;
        }
    }
    Ok(all)
}

/// Name of a contestant in table and JSON.
pub(super) fn name(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::Files => "files",
        Contestant::Mosquitto => "mosquitto",
        Contestant::Tidegate => "tidegate",
    }
}

/// Those that are wanted, each once.
fn contestants(options: &BenchPublishOptions, mosquitto: Option<&str>) -> Vec<Measured> {
    let all = [
        Contestant::Tidegate,
        Contestant::Mosquitto,
        Contestant::Files,
    ];
    let wanted = all.into_iter().filter(|one| options.only.contains(one));
    let measured = wanted.map(|contestant| Measured {
        contestant,
        version: match contestant {
            Contestant::Files => None,
            Contestant::Mosquitto => mosquitto.map(str::to_owned),
            Contestant::Tidegate => Some(env!("CARGO_PKG_VERSION").to_owned()),
        },
        rounds: Vec::new(),
    });
    measured.collect()
}

/// What a round may leave on disk; twice, because a database may be written anew.
fn bytes_max(options: &BenchPublishOptions) -> u64 {
    2 * u64::from(options.messages) * (u64::from(options.size) + OVERHEAD_BYTES)
}

/// Messages for one sync of bare files: as many as can be in flight, within what a commit may hold.
fn group(options: &BenchPublishOptions) -> u32 {
    let inflight = u32::from(options.clients) * u32::from(options.inflight);
    inflight.min(COMMIT_BYTES_MAX / options.size).max(1)
}

async fn measure_files(
    options: &BenchPublishOptions,
    folder: &std::path::Path,
    progress: &mut Progress,
) -> anyhow::Result<Counted> {
    let BenchPublishOptions { messages, size, .. } = *options;
    let written = files::measure(folder, messages, size, group(options), progress).await?;
    Ok(Counted {
        seconds: written.elapsed.as_secs_f64(),
        usage: written.usage,
        socket_bytes: 0,
        socket_bytes_subtracted: false,
        commits: Some(written.syncs),
        load: None,
    })
}

async fn measure_broker(
    options: &BenchPublishOptions,
    mut broker: Broker,
    progress: &mut Progress,
) -> anyhow::Result<Counted> {
    let socket_bytes_subtracted = broker.counts_sockets().await?;
    let load_options = LoadOptions {
        clients: options.clients,
        inflight: options.inflight,
        size: options.size,
    };
    let load = Load::connect(broker.mqtt(), load_options).await?;
    let commits_before = broker.store().await?.map(|store| store.commits);
    let (before, load_before) = (broker.usage()?, Usage::of_this_process()?);
    let mut running = load.start(u64::from(options.messages));
    let waited = running.wait(None, progress).await;
    let elapsed = waited.map_err(|error| broker.explain(&error))?;
    let load = Usage::of_this_process()?.since(load_before);
    broker.come_to_rest().await?;
    let usage = broker.usage()?.since(before);
    let commits_after = broker.store().await?.map(|store| store.commits);
    Ok(Counted {
        seconds: elapsed.as_secs_f64(),
        usage,
        socket_bytes: running.socket_bytes(),
        socket_bytes_subtracted,
        commits: commits_after
            .zip(commits_before)
            .map(|(after, before)| after - before),
        load: Some(load),
    })
}

impl Counted {
    fn figures(self, options: &BenchPublishOptions) -> Round {
        let messages = u64::from(options.messages);
        let payload_bytes = messages * u64::from(options.size);
        let (count, payload) = (figure(messages), figure(payload_bytes));
        let sockets = if self.socket_bytes_subtracted {
            self.socket_bytes
        } else {
            0
        };
        let written_bytes = self.usage.written_bytes.saturating_sub(sockets);
        let microseconds = |usage: Usage| usage.cpu().as_secs_f64() * 1e6;
        Round {
            messages,
            payload_bytes,
            seconds: self.seconds,
            messages_per_second: per(count, self.seconds),
            cpu_us_per_message: per(microseconds(self.usage), count),
            written_bytes,
            written_bytes_per_payload_byte: per(figure(written_bytes), payload),
            dirtied_bytes: self.usage.dirtied_bytes,
            dirtied_bytes_per_payload_byte: per(figure(self.usage.dirtied_bytes), payload),
            socket_bytes: self.socket_bytes,
            socket_bytes_subtracted: self.socket_bytes_subtracted,
            rss_bytes: self.usage.rss_bytes,
            rss_peak_bytes: self.usage.rss_peak_bytes,
            messages_per_commit: self.commits.map(|commits| per(count, figure(commits))),
            load_cpu_us_per_message: self.load.map(|load| per(microseconds(load), count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn options(line: &str) -> BenchPublishOptions {
        let line = format!("tidegate bench {line}");
        match Arguments::parse_from(line.split(' ')).command {
            Command::Bench(options) => options.publish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn contestants_come_once_and_in_their_order() {
        let options = options("--only files,tidegate,files");
        let names: Vec<_> = contestants(&options, None)
            .iter()
            .map(|measured| name(measured.contestant))
            .collect();
        assert_eq!(names, ["tidegate", "files"]);
    }

    #[test]
    fn group_is_what_is_in_flight_as_long_as_memory_allows() {
        assert_eq!(group(&options("--clients 3 --inflight 5")), 15);
        let large = "--clients 500 --inflight 1000 --size 131072";
        assert_eq!(group(&options(large)), 64);
    }

    #[test]
    fn acknowledgements_are_taken_off_what_was_written_only_if_they_are_in_it() {
        let options = options("--messages 1000 --size 100");
        let mut counted = Counted {
            seconds: 2.0,
            usage: Usage {
                written_bytes: 154_000,
                dirtied_bytes: 200_000,
                ..Usage::default()
            },
            socket_bytes: 4000,
            socket_bytes_subtracted: true,
            commits: Some(10),
            load: None,
        };
        let round = counted.figures(&options);
        assert_eq!((round.written_bytes, round.socket_bytes), (150_000, 4000));
        let figures = [
            round.messages_per_second,
            round.written_bytes_per_payload_byte,
            round.dirtied_bytes_per_payload_byte,
        ];
        assert_eq!(figures, [500.0, 1.5, 2.0]);
        assert_eq!(round.messages_per_commit, Some(100.0));
        counted.socket_bytes_subtracted = false;
        assert_eq!(counted.figures(&options).written_bytes, 154_000);
    }
}
