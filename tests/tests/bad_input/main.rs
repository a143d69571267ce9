//! Bad input from the network: each case has its defined answer and a line in the product's log;
//! the process lives, others do not notice, and nothing that was acknowledged is lost.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod bystanders;
mod first_packets;
mod greed;
mod packets;
mod pieces;

use tests::broker_process::{BrokerProcess, Options};
use tests::mqtt::{Client, Packet, Received};

use bystanders::Bystanders;

/// Longest line of the product's log that a message quotes.
const QUOTED_LINES: usize = 20;

/// A broker with bystanders, and the place in its log up to which it was looked at.
struct Scene {
    broker: BrokerProcess,
    bystanders: Bystanders,
    pid: u32,
    seen: usize,
}

impl Scene {
    /// The options with a log of everything that the broker notices.
    fn start(options: Options) -> Self {
        let filter = (
            String::from("TIDEGATE_LOG"),
            String::from("info,broker=debug"),
        );
        let options = Options {
            environment: vec![filter],
            ..options
        };
        let broker = BrokerProcess::start(options).unwrap();
        let bystanders = Bystanders::new(&broker);
        let pid = broker.pid().unwrap();
        Self {
            broker,
            bystanders,
            pid,
            seen: 0,
        }
    }

    /// Waits for a line with all of these texts that the product has logged since the last call.
    fn expect_line(&mut self, texts: &[&str]) {
        let seen = self.seen;
        let found =
            tests::deadline::wait_for("a line of the log", tests::deadline::PATIENCE, || {
                let log = self.broker.log();
                let new = log.get(seen..).unwrap_or_default();
                let matches = |line: &str| texts.iter().all(|text| line.contains(text));
                Ok(new.lines().any(matches).then_some(log.len()))
            });
        self.seen = found.unwrap_or_else(|error| {
            let log = self.broker.log();
            let new: Vec<&str> = log.get(seen..).unwrap_or_default().lines().collect();
            let last = new.get(new.len().saturating_sub(QUOTED_LINES)..);
            panic!("{error:#} with {texts:?}; new are {last:#?}");
        });
    }

    /// The others are served as before, by the same process.
    fn expect_undisturbed(&mut self) {
        self.bystanders.exchange();
        let status = self.broker.status().unwrap();
        assert_eq!(status["pid"], self.pid);
    }

    /// The process is the same, nothing panicked, and what the bystanders were told is safe is safe.
    fn finish(mut self) {
        self.expect_undisturbed();
        let log = self.broker.log();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
        self.bystanders.expect_logged(&self.broker);
        // SIGKILL, and what a folder holds that was never closed.
        self.broker.kill().unwrap();
        self.bystanders.expect_in_folder(self.broker.data_dir());
    }
}

/// What comes until the broker ends the connection.
fn receive_until_end(client: &mut Client) -> Vec<Packet> {
    let mut packets = Vec::new();
    loop {
        match client.receive_within(tests::deadline::PATIENCE).unwrap() {
            Received::Packet(packet) => packets.push(packet),
            Received::End => return packets,
            Received::Nothing => panic!("the connection is still open after {packets:?}"),
        }
    }
}

/// The resident memory of a process in bytes.
fn rss_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmRSS:")
}

/// What a process has been given, whether or not it has touched it.
fn allocated_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmData:")
}

fn memory_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
