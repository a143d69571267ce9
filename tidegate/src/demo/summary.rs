//! The end of the demonstration: the balance as a table for people, all of it as JSON for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::acts::Faults;
use super::balance::Report;
use super::display::thousands;
use super::stage::Stage;
use crate::cli::demo::DemoOptions;

/// See the module's documentation. The names in JSON are kept from version to version.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    passed: bool,
    seed: u64,
    devices: u16,
    seconds: u16,
    upstream: Cluster,
    faults: Faults,
    balance: Report,
}

/// Where the records are.
#[derive(Debug, Serialize)]
struct Cluster {
    address: String,
    is_model: bool,
    topics: Vec<String>,
}

impl Summary {
    pub(super) fn new(
        options: &DemoOptions,
        seed: u64,
        stage: &Stage,
        faults: Faults,
        balance: Report,
    ) -> Self {
        let topics = stage.upstream.topics().iter();
        Self {
            passed: balance.checks.iter().all(|check| check.passed),
            seed,
            devices: options.devices,
            seconds: options.seconds,
            upstream: Cluster {
                address: stage.upstream.address().to_owned(),
                is_model: stage.upstream.is_model(),
                topics: topics.map(|topic| topic.name.to_string()).collect(),
            },
            faults,
            balance,
        }
    }

    /// The balance, for people.
    pub(super) fn table(&self) -> String {
        let Faults {
            kills,
            uplink_cuts,
            answers_lost,
        } = self.faults;
        let mut out = format!(
            "\nThe balance after {kills} kills, {uplink_cuts} cuts of the uplink and \
             {answers_lost} lost answers\n"
        );
        // Writing into a string does not fail.
        for Row(level, name, count, note) in self.rows() {
            let indent = 2 + 2 * level;
            let width = 30 - indent;
            let line = format!(
                "{:indent$}{name:<width$}{:>10}   {note}",
                "",
                thousands(count)
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
        for check in &self.balance.checks {
            let verdict = if check.passed { "ok " } else { "OFF" };
            let _ = writeln!(out, "  {verdict}  {:<30}{}", check.name, check.detail);
        }
        out.push_str(if self.passed {
            "\nThe balance is right: every acknowledged message is upstream, once and in order."
        } else {
            "\nThe balance is OFF."
        });
        out
    }

    /// What was published, and where it is.
    fn rows(&self) -> Vec<Row> {
        let balance = &self.balance;
        let published = balance.acknowledged + balance.unacknowledged + balance.qos0_sent;
        let mut rows = vec![
            Row::new(0, "published by the devices", published),
            Row::new(1, "QoS 1, acknowledged", balance.acknowledged),
            Row::new(1, "QoS 1, not acknowledged", balance.unacknowledged),
            Row::new(1, "QoS 0", balance.qos0_sent),
            Row::new(0, "records upstream", balance.upstream_records),
            Row::new(1, "acknowledged messages", balance.acknowledged_upstream),
        ];
        let resends = thousands(balance.resends);
        let note = format!("QoS 1: {resends} were sent again, as no answer had come");
        rows.push(Row(1, "copies that devices sent", balance.copies, note));
        let gone = thousands(balance.qos0_sent - balance.qos0_upstream);
        let note = format!("{gone} did not, which QoS 0 allows");
        rows.push(Row(1, "QoS 0 that arrived", balance.qos0_upstream, note));
        rows.push(Row::new(
            0,
            "waiting on the gateway",
            balance.gateway.waiting,
        ));
        rows.push(Row::new(0, "lost, says the gateway", balance.gateway.lost));
        rows
    }

    /// Prints all of it, as JSON, on standard output.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("write the summary")?;
        writeln!(io::stdout(), "{text}").context("print the summary")
    }

    /// Fails if the balance is off, and says why.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let failed = self.balance.checks.iter().filter(|check| !check.passed);
        let failed: Vec<_> = failed
            .map(|check| format!("\"{}\" does not hold: {}", check.name, check.detail))
            .collect();
        if !failed.is_empty() {
            bail!("the balance is off: {}", failed.join("; "));
        }
        Ok(())
    }
}

/// A row of the table: how far it is indented, its name, the number, and what to know about it.
struct Row(usize, &'static str, u64, String);

impl Row {
    fn new(level: usize, name: &'static str, count: u64) -> Self {
        Self(level, name, count, String::new())
    }
}
