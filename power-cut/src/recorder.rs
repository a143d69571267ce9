//! Writes down what happens to the data folder, in the order in which it happens.
//!
//! Files are told apart by their inode, so that no table of descriptors can be out of date. A change
//! is made and written down under one lock; a sync is not, and covers what had been written down
//! when it began.
//!
//! Invariant: all changes of the folder are in the record. [`finish`] proves it: it makes the folder
//! again from the record and compares.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, c_int};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::expectation::{Acknowledgement, Expectation};
use crate::gateway::player::Did;
use crate::image;
use crate::random::Random;
use crate::sys;
use crate::trace::{BaseNode, Event, NodeId, ROOT, Trace};

static IS_RECORDING: AtomicBool = AtomicBool::new(false);
static RECORDING: Mutex<Option<Recording>> = Mutex::new(None);

/// Which syncs do not count, to see that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Control {
    /// sled's own flush: `sync_file_range` as the kernel has it, neither size nor drive cache
    Flush,
    /// As `flush`, but each acknowledgement waits for an fdatasync of every database
    OwnFdatasync,
}

/// What the kernel tells files apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

/// Which of the two syncs was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Fsync,
    Fdatasync,
}

#[derive(Debug)]
struct Recording {
    begun: Instant,
    root: PathBuf,
    device: u64,
    nodes: Vec<Node>,
    by_inode: HashMap<u64, NodeId>,
    control: Option<Control>,
    random: Random,
    /// A sync takes up to this: on a memory disk it would end at once, and nothing would overlap.
    sync_us_max: usize,
    trace: Trace,
}

#[derive(Debug, Default)]
struct Node {
    entries: BTreeMap<String, NodeId>,
    bytes: u64,
    /// It is called `db`: only the store's fence calls `fdatasync` on it.
    is_database: bool,
}

/// What to record and how.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) seed: u64,
    pub(crate) control: Option<Control>,
    pub(crate) sync_us_max: usize,
    pub(crate) before: Expectation,
}

fn recording() -> MutexGuard<'static, Option<Recording>> {
    RECORDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether anything is to be written down at all.
pub(crate) fn is_recording() -> bool {
    IS_RECORDING.load(Ordering::Acquire)
}

/// Begins with the folder as it is; it counts as durable.
pub(crate) fn begin(plan: Plan<'_>) -> Result<()> {
    let root = plan.folder.canonicalize().context("find the folder")?;
    let metadata = fs::metadata(&root).context("look at the folder")?;
    let mut begun = Recording {
        begun: Instant::now(),
        root: root.clone(),
        device: metadata.dev(),
        nodes: vec![Node::default()],
        by_inode: HashMap::from([(metadata.ino(), ROOT)]),
        control: plan.control,
        random: Random::new(plan.seed, 1),
        sync_us_max: plan.sync_us_max,
        trace: Trace {
            seed: plan.seed,
            before: plan.before,
            ..Trace::default()
        },
    };
    begun.take_base(&root, ROOT)?;
    *recording() = Some(begun);
    IS_RECORDING.store(true, Ordering::Release);
    Ok(())
}

/// Ends, and compares the record with the folder.
pub(crate) fn finish() -> Result<Trace> {
    // Locked until it is compared: whatever still closes files must wait.
    let mut locked = recording();
    let ended = locked.take().context("nothing is being recorded")?;
    let expected = image::whole(&ended.trace);
    let mut found = image::Tree::new();
    read_tree(&ended.root, Path::new(""), &mut found)?;
    IS_RECORDING.store(false, Ordering::Release);
    drop(locked);
    for (path, content) in &expected {
        let same = found.get(path) == Some(content);
        ensure!(same, "{} is not what was recorded", path.display());
    }
    for path in found.keys() {
        let known = expected.contains_key(path);
        ensure!(known, "{} was made by an unknown call", path.display());
    }
    Ok(ended.trace)
}

fn read_tree(root: &Path, below: &Path, found: &mut image::Tree) -> Result<()> {
    for entry in fs::read_dir(root.join(below)).context("read the folder")? {
        let entry = entry.context("read the folder")?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.insert(path.clone(), None);
            read_tree(root, &path, found)?;
        } else {
            found.insert(path, Some(fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Writes a promise of the store down.
pub(crate) fn acknowledge(acknowledgement: Acknowledgement) {
    if let Some(recording) = recording().as_mut() {
        if recording.control == Some(Control::OwnFdatasync) {
            recording.sync_databases();
        }
        let event = Event::Acknowledged(Box::new(acknowledgement));
        recording.push(event);
    }
}

/// Writes down what a client or the broker did, if anything is written down.
pub(crate) fn note(event: Event) {
    if let Some(recording) = recording().as_mut() {
        let is_promise = matches!(event, Event::Client(_, Did::Seen(..)));
        if is_promise && recording.control == Some(Control::OwnFdatasync) {
            recording.sync_databases();
        }
        recording.push(event);
    }
}

// What the file calls tell. Each makes the call itself, and gives what it gave.

/// A file is opened that may be made or emptied by it.
pub(crate) fn opening(
    directory: c_int,
    path: &Path,
    truncates: bool,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let mut locked = recording();
    let Some(recording) = locked.as_mut() else {
        return call();
    };
    let Some((parent, name)) = recording.place(directory, path) else {
        drop(locked);
        return call();
    };
    let known = recording.entry(parent, &name);
    let fd = call();
    if fd >= 0 {
        match known {
            None => recording.create(parent, name, sys::inode_of(fd), false),
            Some(node) if truncates => recording.resize(node, 0),
            Some(_) => {}
        }
    }
    fd
}

/// Bytes are written; the call also says where.
pub(crate) fn writing(
    inode: Option<Inode>,
    content: &[u8],
    call: impl FnOnce() -> (isize, u64),
) -> isize {
    let mut locked = recording();
    let Some((recording, node)) = known(&mut locked, inode) else {
        drop(locked);
        return call().0;
    };
    let (written, offset) = call();
    let length = usize::try_from(written).unwrap_or(0);
    if let Some(content) = content.get(..length).filter(|content| !content.is_empty()) {
        let data = recording.trace.keep(content);
        let end = offset.saturating_add(u64::try_from(length).unwrap_or(0));
        if let Some(node) = recording.nodes.get_mut(node) {
            node.bytes = node.bytes.max(end);
        }
        recording
            .trace
            .events
            .push(Event::Write { node, offset, data });
    }
    written
}

/// A file gets another size, which follows from the one that it has.
pub(crate) fn resizing(
    inode: Option<Inode>,
    bytes: impl FnOnce(u64) -> u64,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let mut locked = recording();
    let Some((recording, node)) = known(&mut locked, inode) else {
        drop(locked);
        return call();
    };
    let answer = call();
    if answer == 0 {
        let before = recording.nodes.get(node).map_or(0, |node| node.bytes);
        recording.resize(node, bytes(before));
    }
    answer
}

/// A file or directory is synced.
pub(crate) fn syncing(inode: Option<Inode>, sync: Call, call: impl FnOnce() -> c_int) -> c_int {
    let mut locked = recording();
    let Some((begun, node)) = known(&mut locked, inode) else {
        drop(locked);
        return call();
    };
    let covers = begun.trace.events.len();
    let is_database = begun.nodes.get(node).is_some_and(|node| node.is_database);
    let is_fence = sync == Call::Fdatasync && is_database;
    let counts = begun.control.is_none() || !is_fence;
    let microseconds = begun.random.below(begun.sync_us_max);
    drop(locked);
    thread::sleep(Duration::from_micros(
        u64::try_from(microseconds).unwrap_or(0),
    ));
    let answer = call();
    if answer == 0
        && counts
        && let Some(recording) = recording().as_mut()
    {
        recording.push(Event::Sync { node, covers });
    }
    answer
}

/// An entry gets another name.
pub(crate) fn renaming(
    from: (c_int, &Path),
    to: (c_int, &Path),
    call: impl FnOnce() -> c_int,
) -> c_int {
    let mut locked = recording();
    let Some(recording) = locked.as_mut() else {
        return call();
    };
    let places = recording
        .place(from.0, from.1)
        .zip(recording.place(to.0, to.1));
    let Some((from, to)) = places else {
        drop(locked);
        return call();
    };
    let answer = call();
    if answer == 0
        && let Some(node) = recording.take_entry(from.0, &from.1)
    {
        recording.put_entry(to.0, to.1.clone(), node);
        recording
            .trace
            .events
            .push(Event::Rename { from, to, node });
    }
    answer
}

/// An entry is removed.
pub(crate) fn removing(directory: c_int, path: &Path, call: impl FnOnce() -> c_int) -> c_int {
    let mut locked = recording();
    let Some(recording) = locked.as_mut() else {
        return call();
    };
    let Some((parent, name)) = recording.place(directory, path) else {
        drop(locked);
        return call();
    };
    let answer = call();
    if answer == 0 && recording.take_entry(parent, &name).is_some() {
        recording.push(Event::Remove { parent, name });
    }
    answer
}

/// A directory is made.
pub(crate) fn making(directory: c_int, path: &Path, call: impl FnOnce() -> c_int) -> c_int {
    let mut locked = recording();
    let Some(recording) = locked.as_mut() else {
        return call();
    };
    let Some((parent, name)) = recording.place(directory, path) else {
        drop(locked);
        return call();
    };
    let answer = call();
    if answer == 0 {
        let path = recording.path_of(directory, path);
        let made = fs::metadata(path).ok().map(|made| Inode {
            device: made.dev(),
            number: made.ino(),
        });
        recording.create(parent, name, made, true);
    }
    answer
}

fn known(
    recording: &mut Option<Recording>,
    inode: Option<Inode>,
) -> Option<(&mut Recording, NodeId)> {
    let recording = recording.as_mut()?;
    let inode = inode.filter(|inode| inode.device == recording.device)?;
    let node = recording.by_inode.get(&inode.number).copied()?;
    Some((recording, node))
}

impl Recording {
    fn push(&mut self, event: Event) {
        self.trace.push(event, self.begun.elapsed());
    }

    fn take_base(&mut self, path: &Path, parent: NodeId) -> Result<()> {
        for entry in fs::read_dir(path).context("read the folder")? {
            let entry = entry.context("read the folder")?;
            let name = text(&entry.file_name());
            let metadata = entry.metadata().context("look at a file")?;
            let content = if metadata.is_dir() {
                None
            } else {
                let content = fs::read(entry.path()).context("read a file")?;
                Some(self.trace.keep(&content))
            };
            let node = self.add_node(parent, name.clone(), metadata.ino());
            if let Some(node) = self.nodes.get_mut(node) {
                node.bytes = metadata.len();
            }
            self.trace.base.push(BaseNode {
                parent,
                name,
                content,
            });
            if metadata.is_dir() {
                self.take_base(&entry.path(), node)?;
            }
        }
        Ok(())
    }

    fn add_node(&mut self, parent: NodeId, name: String, inode: u64) -> NodeId {
        let node = self.nodes.len();
        self.nodes.push(Node {
            is_database: name == "db",
            ..Node::default()
        });
        self.by_inode.insert(inode, node);
        self.put_entry(parent, name, node);
        node
    }

    fn create(&mut self, parent: NodeId, name: String, inode: Option<Inode>, directory: bool) {
        let Some(inode) = inode else { return };
        let node = self.add_node(parent, name.clone(), inode.number);
        self.push(Event::Create {
            parent,
            name,
            node,
            directory,
        });
    }

    fn resize(&mut self, node: NodeId, bytes: u64) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        if std::mem::replace(&mut known.bytes, bytes) != bytes {
            self.push(Event::Resize { node, bytes });
        }
    }

    /// What stands behind a descriptor and a path: the directory and the name in it, if both are of
    /// the folder.
    fn place(&self, directory: c_int, path: &Path) -> Option<(NodeId, String)> {
        let (mut at, below) = if path.is_absolute() {
            (ROOT, path.strip_prefix(&self.root).ok()?)
        } else {
            let inode = sys::inode_of(directory)?;
            if inode.device != self.device {
                return None;
            }
            (*self.by_inode.get(&inode.number)?, path)
        };
        let name = text(below.file_name()?);
        for component in below.parent()?.components() {
            let Component::Normal(name) = component else {
                return None;
            };
            at = self.entry(at, &text(name))?;
        }
        Some((at, name))
    }

    /// The path as this process can use it.
    fn path_of(&self, directory: c_int, path: &Path) -> PathBuf {
        if path.is_absolute() {
            path.to_owned()
        } else {
            PathBuf::from(format!("/proc/self/fd/{directory}")).join(path)
        }
    }

    fn entry(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.nodes.get(parent)?.entries.get(name).copied()
    }

    fn take_entry(&mut self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.nodes.get_mut(parent)?.entries.remove(name)
    }

    fn put_entry(&mut self, parent: NodeId, name: String, node: NodeId) {
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.entries.insert(name, node);
        }
    }

    fn sync_databases(&mut self) {
        let covers = self.trace.events.len();
        let nodes = self.nodes.iter().enumerate();
        let databases = nodes.filter(|(_, node)| node.is_database);
        let syncs = databases.map(|(node, _)| Event::Sync { node, covers });
        for sync in syncs.collect::<Vec<_>>() {
            self.push(sync);
        }
    }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn plan(folder: &Path) -> Plan<'_> {
        Plan {
            folder,
            seed: 1,
            control: None,
            sync_us_max: 1,
            before: Expectation::default(),
        }
    }

    /// What the standard library does to files, in most of its ways.
    fn change(folder: &Path) {
        let sub = folder.join("sub");
        fs::create_dir(&sub).unwrap();
        let mut file = File::create(folder.join("new")).unwrap();
        file.write_all(b"content").unwrap();
        file.write_all_at(b"at", 9000).unwrap();
        file.set_len(5000).unwrap();
        file.sync_all().unwrap();
        fs::rename(folder.join("new"), sub.join("moved")).unwrap();
        fs::write(folder.join("known"), b"shorter").unwrap();
        fs::remove_file(folder.join("gone")).unwrap();
        fs::remove_dir_all(folder.join("below")).unwrap();
        fs::create_dir(folder.join("below")).unwrap();
    }

    /// One test, since a process has one recorder.
    #[test]
    fn record_is_whole_unless_an_unknown_call_changed_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("below/and/below")).unwrap();
        for name in ["known", "gone", "below/file", "below/and/file"] {
            fs::write(folder.join(name), b"something there before").unwrap();
        }
        begin(plan(folder)).unwrap();
        change(folder);
        let trace = finish().unwrap();
        assert!(trace.events.len() > 12, "{:?}", trace.events);

        // The store's `rename` brings the name of a snapshot to the flash, and no other.
        for (name, syncs) in [("snap.1", 1), ("other", 0)] {
            begin(plan(folder)).unwrap();
            fs::write(folder.join("generating"), b"snapshot").unwrap();
            fs::rename(folder.join("generating"), folder.join(name)).unwrap();
            let trace = finish().unwrap();
            let mut after = trace.events.iter();
            assert!(after.any(|event| matches!(event, Event::Rename { .. })));
            let is_synced = |event: &&Event| matches!(event, Event::Sync { node: ROOT, .. });
            assert_eq!(after.filter(is_synced).count(), syncs, "{name}");
        }

        begin(plan(folder)).unwrap();
        // The kernel copies; none of our calls is asked.
        fs::copy(folder.join("known"), folder.join("copy")).unwrap();
        let error = finish().unwrap_err().to_string();
        assert_eq!(error, "copy is not what was recorded");
    }
}
