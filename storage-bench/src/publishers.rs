//! Devices that publish with QoS 1: each sends its next record when the last one is durable. What
//! waits while a commit is synced goes into the next one, as in the product.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use storage::{AppendError, CommitNumber, LogId, Store};

use crate::records::Records;
use crate::usage;

/// The records of one commit, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// Number of the record, its publisher, and which of the logs it went to.
    pub(crate) records: Vec<(u64, u16, usize)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Publishers {
    idle: Vec<u16>,
    in_flight: VecDeque<(CommitNumber, u64, u16, usize)>,
    next_record: u64,
    append_cpu: Duration,
}

impl Publishers {
    pub(crate) fn new(count: u16) -> Self {
        Self {
            idle: (0..count).collect(),
            in_flight: VecDeque::new(),
            next_record: 0,
            append_cpu: Duration::ZERO,
        }
    }

    /// Records given to the store so far.
    pub(crate) fn published(&self) -> u64 {
        self.next_record
    }

    /// Processor time that publishing took on the threads of the devices.
    pub(crate) fn append_cpu(&self) -> Duration {
        self.append_cpu
    }

    /// Lets every device publish that waits for nothing, to the log that `log_of` says for the
    /// number of the record.
    pub(crate) fn publish(
        &mut self,
        store: &Store,
        records: &Records,
        logs: &[LogId],
        log_of: impl Fn(u64) -> usize,
    ) -> anyhow::Result<()> {
        let before = usage::cpu_of_thread();
        let result = self.append(store, records, logs, log_of);
        self.append_cpu += usage::cpu_of_thread().saturating_sub(before);
        result
    }

    fn append(
        &mut self,
        store: &Store,
        records: &Records,
        logs: &[LogId],
        log_of: impl Fn(u64) -> usize,
    ) -> anyhow::Result<()> {
        while let Some(publisher) = self.idle.pop() {
            let record = self.next_record;
            let which = log_of(record);
            let log = *logs.get(which).context("no such log")?;
            let message = records.message(record, publisher).context("no publisher")?;
            match store.append(log, &message.client_id, &message) {
                Ok(appended) => {
                    let sent = (appended.commit, record, publisher, which);
                    self.in_flight.push_back(sent);
                    self.next_record += 1;
                }
                Err(AppendError::QueueFull) => {
                    self.idle.push(publisher);
                    return Ok(());
                }
                Err(error) => return Err(error).context("append"),
            }
        }
        Ok(())
    }

    /// Waits for the next commit; what became durable, commit by commit.
    pub(crate) fn wait(&mut self, store: &Store) -> anyhow::Result<Vec<Group>> {
        let Some((first, ..)) = self.in_flight.front() else {
            return Ok(Vec::new());
        };
        store.wait_durable(*first).context("wait for a commit")?;
        let durable = store.durable();
        let mut groups = Vec::new();
        let mut last = None;
        while let Some(&(commit, record, publisher, which)) = self.in_flight.front()
            && commit <= durable
        {
            self.in_flight.pop_front();
            if last.replace(commit) != Some(commit) {
                groups.push(Group::default());
            }
            if let Some(group) = groups.last_mut() {
                group.records.push((record, publisher, which));
            }
            self.idle.push(publisher);
        }
        Ok(groups)
    }
}
