//! What the balance comes to: one line for each check, and the numbers.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Balance, Findings, Found};
use crate::demo::display::thousands;
use crate::demo::message::client_id;

/// What the gateway says of itself in the end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct GatewayBooks {
    pub(crate) replicated: u64,
    pub(crate) waiting: u64,
    pub(crate) lost: u64,
}

/// A check.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) detail: String,
}

/// The outcome.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
    /// Messages of QoS 1 that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Messages of QoS 1 that were not.
    pub(crate) unacknowledged: u64,
    /// Those that were acknowledged and are upstream.
    pub(crate) acknowledged_upstream: u64,
    /// Records in the cluster.
    pub(crate) upstream_records: u64,
    /// Messages that devices gave to a second or later connection.
    pub(crate) resends: u64,
    /// Those of them that are upstream once more.
    pub(crate) copies: u64,
    pub(crate) qos0_sent: u64,
    pub(crate) qos0_upstream: u64,
    /// What the gateway says of itself.
    pub(crate) gateway: GatewayBooks,
}

/// What is added up over all topics.
#[derive(Debug, Default)]
struct Sums {
    acknowledged: u64,
    unacknowledged: u64,
    missing: Findings,
    copies: u64,
    unexplained: Findings,
    qos0_sent: u64,
    qos0_upstream: u64,
}

impl Balance {
    /// Draws the line under it.
    ///
    /// `wrong_states` are the topics whose retained message is not the device's last one.
    pub(in crate::demo) fn close(
        mut self,
        gateway: GatewayBooks,
        wrong_states: &[String],
    ) -> Report {
        let sums = self.sums();
        let resends = self.devices.iter().map(|books| books.resends).sum();
        let twice_before = self.twice.count;
        self.twice.count += sums.unexplained.count;
        self.twice
            .examples
            .extend(sums.unexplained.examples.clone());
        let distinct = self.tg_ids.len() as u64;
        let checks = vec![
            self.settled(&sums, gateway),
            check(
                "nothing acknowledged is lost",
                &sums.missing,
                || {
                    let count = thousands(sums.acknowledged);
                    format!("{count} messages were acknowledged to devices, and all are upstream")
                },
                |count| {
                    let all = thousands(sums.acknowledged);
                    format!("{count} of {all} acknowledged messages are not upstream")
                },
            ),
            check(
                "order is kept",
                &self.out_of_order,
                || "each topic of each device, by first occurrence".to_owned(),
                |count| format!("{count} messages are upstream after later ones"),
            ),
            check(
                "nothing twice",
                &self.twice,
                || {
                    let (records, ids) = (thousands(self.records), thousands(distinct));
                    format!("{records} records upstream, {ids} different tg-ids")
                },
                |_| {
                    let repeated = thousands(twice_before);
                    let copies = thousands(sums.unexplained.count);
                    format!("{repeated} records repeat a tg-id, {copies} copies no device has sent")
                },
            ),
            check(
                "nothing invented",
                &self.unknown,
                || "every record is, byte for byte, what a device sent".to_owned(),
                |count| format!("{count} records upstream are no device's message"),
            ),
            retained(wrong_states),
            self.books_agree(gateway),
        ];
        Report {
            checks,
            acknowledged: sums.acknowledged,
            unacknowledged: sums.unacknowledged,
            acknowledged_upstream: sums.acknowledged - sums.missing.count,
            upstream_records: self.records,
            resends,
            copies: sums.copies,
            qos0_sent: sums.qos0_sent,
            qos0_upstream: sums.qos0_upstream,
            gateway,
        }
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for books in &self.devices {
            let client = client_id(books.device);
            let mut copies = 0;
            for topic in &books.topics {
                let name = topic.kind.topic(books.device);
                let Some(tally) = self.tallies.get(&name) else {
                    continue;
                };
                let again = |found: &Found| u64::from(found.times.saturating_sub(1));
                let again: u64 = tally.found.iter().map(again).sum();
                if !topic.kind.is_acknowledged() {
                    let present = tally.found.iter().filter(|found| found.times > 0);
                    sums.qos0_sent += topic.published;
                    sums.qos0_upstream += present.count() as u64;
                    for _ in 0..again {
                        let told = || format!("{client} {name}, which is of QoS 0");
                        sums.unexplained.add(told);
                    }
                    continue;
                }
                copies += again;
                sums.acknowledged += topic.acknowledged;
                sums.unacknowledged += topic.published - topic.acknowledged;
                for (number, found) in (1..=topic.acknowledged).zip(&tally.found) {
                    if found.times == 0 {
                        let gap = || tally.gap(number);
                        sums.missing
                            .add(|| format!("{client} {name} message {number}: {}", gap()));
                    }
                }
            }
            sums.copies += copies;
            for _ in books.resends..copies {
                let told = || format!("{client}: {copies} copies, {} resends", books.resends);
                sums.unexplained.add(told);
            }
        }
        sums
    }

    /// Whether everything came to rest before it was counted.
    fn settled(&self, sums: &Sums, gateway: GatewayBooks) -> Check {
        let mut problems = Vec::new();
        if sums.unacknowledged > 0 {
            let count = thousands(sums.unacknowledged);
            problems.push(format!("{count} messages were not acknowledged in time"));
        }
        if gateway.waiting > 0 {
            let count = thousands(gateway.waiting);
            problems.push(format!("{count} records still wait on the gateway"));
        }
        for books in &self.devices {
            if let Some(complaint) = &books.complaint {
                problems.push(format!("{}: {complaint}", client_id(books.device)));
            }
        }
        problems.truncate(super::EXAMPLES_MAX);
        let detail = if problems.is_empty() {
            "every device is acknowledged, and nothing waits on the gateway".to_owned()
        } else {
            problems.join("; ")
        };
        Check {
            name: "everything has arrived",
            passed: problems.is_empty(),
            detail,
        }
    }

    fn books_agree(&self, gateway: GatewayBooks) -> Check {
        let (ours, theirs) = (thousands(gateway.replicated), thousands(self.records));
        let mut detail = format!("replicated, says the gateway: {ours}; upstream: {theirs}");
        if gateway.lost > 0 {
            let lost = thousands(gateway.lost);
            let _ = write!(detail, "; lost, says the gateway: {lost}");
        }
        Check {
            name: "the gateway's books agree",
            passed: gateway.replicated == self.records && gateway.lost == 0,
            detail,
        }
    }
}

fn retained(wrong_states: &[String]) -> Check {
    let detail = if wrong_states.is_empty() {
        "a new subscriber gets the last state of each device".to_owned()
    } else {
        let count = thousands(wrong_states.len() as u64);
        let examples = wrong_states.iter().take(super::EXAMPLES_MAX);
        let examples: Vec<_> = examples.map(String::as_str).collect();
        format!("{count} are not: {}", examples.join("; "))
    };
    Check {
        name: "retained states are the last",
        passed: wrong_states.is_empty(),
        detail,
    }
}

fn check(
    name: &'static str,
    findings: &Findings,
    passed: impl FnOnce() -> String,
    failed: impl FnOnce(String) -> String,
) -> Check {
    let detail = if findings.count == 0 {
        passed()
    } else {
        let examples = findings.examples.join("; ");
        format!("{}: {examples}", failed(thousands(findings.count)))
    };
    Check {
        name,
        passed: findings.count == 0,
        detail,
    }
}
