//! Bare files beside the store: a thread that writes the same records with the same commits.
//!
//! The devices hand each record over as they do to the store: encoded, under a lock. That time
//! counts as the bare files'.
//!
//! It never falls far behind: what it has not written is bounded, and who gives it more waits.

use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::publishers::Group;
use crate::raw::RawLog;
use crate::records::Records;
use crate::usage::{self, Usage};

/// Commits that may wait for it.
const WAITING_MAX: usize = 64;
/// Files are not read, so that few are enough.
const FILES_MAX: u32 = 4;
/// For all that waits to be written.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

enum Task {
    /// The records of one, encoded.
    Commit(Vec<u8>),
    /// Tell when all before it is done.
    Tell(SyncSender<()>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct BareFiles {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    used: Arc<Mutex<Usage>>,
    records: Arc<Records>,
    handed_over: Mutex<Vec<u8>>,
    hand_over_cpu: Duration,
}

impl BareFiles {
    pub(super) fn start(
        folder: &Path,
        file_bytes: u64,
        records: Arc<Records>,
    ) -> anyhow::Result<Self> {
        let (tasks, received) = sync_channel(WAITING_MAX);
        let used = Arc::new(Mutex::new(Usage::default()));
        let (folder, shared) = (folder.to_owned(), Arc::clone(&used));
        let thread = thread::Builder::new()
            .name("bare-files".to_owned())
            .spawn(move || {
                let mut log = RawLog::create(&folder, file_bytes, Some(FILES_MAX))?;
                write(&received, &mut log, &shared)
            })
            .context("start a thread")?;
        Ok(Self {
            tasks: Some(tasks),
            thread: Some(thread),
            used,
            records,
            handed_over: Mutex::new(Vec::new()),
            hand_over_cpu: Duration::ZERO,
        })
    }

    pub(super) fn commit(&mut self, group: Group) -> anyhow::Result<()> {
        let before = usage::cpu_of_thread();
        for (record, publisher, which) in group.records {
            let partition = u16::try_from(which).unwrap_or_default();
            let mut buffer = lock(&self.handed_over);
            self.records
                .encode(record, publisher, partition, &mut buffer);
        }
        let buffer = mem::take(&mut *lock(&self.handed_over));
        let given = self.give(Task::Commit(buffer));
        self.hand_over_cpu += usage::cpu_of_thread().saturating_sub(before);
        given
    }

    fn give(&self, task: Task) -> anyhow::Result<()> {
        let tasks = self.tasks.as_ref().context("the bare files are closed")?;
        tasks
            .send(task)
            .ok()
            .context("the thread of the bare files has ended")
    }

    /// Waits until everything is written.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let (tell, told) = sync_channel(1);
        self.give(Task::Tell(tell))?;
        told.recv_timeout(WAIT_LIMIT)
            .context("the bare files are not written in time")
    }

    /// What its thread had used when it was last waited for.
    pub(super) fn usage_of_thread(&self) -> Usage {
        *lock(&self.used)
    }

    /// The same, and handing over.
    pub(super) fn usage(&self) -> Usage {
        let of_thread = self.usage_of_thread();
        Usage {
            cpu: of_thread.cpu + self.hand_over_cpu,
            ..of_thread
        }
    }

    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.tasks = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => bail!("the thread of the bare files panicked"),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(tasks: &Receiver<Task>, log: &mut RawLog, used: &Mutex<Usage>) -> anyhow::Result<()> {
    let mut syncs = 0;
    for task in tasks {
        match task {
            Task::Commit(records) => {
                syncs += 1;
                log.commit(|buffer| buffer.extend_from_slice(&records))?;
            }
            Task::Tell(tell) => {
                let usage = Usage {
                    syncs,
                    ..Usage::of_thread()?
                };
                *lock(used) = usage;
                // Who has gone does not need to know.
                let _ = tell.send(());
            }
        }
    }
    Ok(())
}
