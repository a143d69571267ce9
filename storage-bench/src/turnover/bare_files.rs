//! Bare files beside the store: a thread that writes the same records with the same commits.
//!
//! It never falls far behind: what it has not written is bounded, and who gives it more waits.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::publishers::Group;
use crate::raw::RawLog;
use crate::records::Records;
use crate::usage::Usage;

/// Commits that may wait for it.
const WAITING_MAX: usize = 64;
/// Files are not read, so that few are enough.
const FILES_MAX: u32 = 4;
/// For all that waits to be written.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

enum Task {
    Commit(Group),
    /// Tell when all before it is done.
    Tell(SyncSender<()>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct BareFiles {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    used: Arc<Mutex<Usage>>,
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
                write(&received, &mut log, &records, &shared)
            })
            .context("start a thread")?;
        Ok(Self {
            tasks: Some(tasks),
            thread: Some(thread),
            used,
        })
    }

    pub(super) fn commit(&self, group: Group) -> anyhow::Result<()> {
        self.give(Task::Commit(group))
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
    pub(super) fn usage(&self) -> Usage {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
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

fn write(
    tasks: &Receiver<Task>,
    log: &mut RawLog,
    records: &Records,
    used: &Mutex<Usage>,
) -> anyhow::Result<()> {
    let mut syncs = 0;
    for task in tasks {
        match task {
            Task::Commit(group) => {
                syncs += 1;
                log.commit(|buffer| {
                    for (record, publisher, which) in group.records {
                        let partition = u16::try_from(which).unwrap_or_default();
                        records.encode(record, publisher, partition, buffer);
                    }
                })?;
            }
            Task::Tell(tell) => {
                let usage = Usage {
                    syncs,
                    ..Usage::of_thread()?
                };
                *used.lock().unwrap_or_else(PoisonError::into_inner) = usage;
                // Who has gone does not need to know.
                let _ = tell.send(());
            }
        }
    }
    Ok(())
}
