//! Crash images: what a power cut may leave of a recorded folder.
//!
//! What was synced when the power went is there. Of everything else, each 4 KiB block of a file
//! holds any of the contents that it had since, each file any of its sizes, each directory any of
//! its changes; [`Model`] says how these go together. docs/decisions/0012 has the reasons.
//!
//! Not for: what must be in an image, see `crate::check`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::gateway::step::Step;
use crate::random::Random;
use crate::trace::{Event, Extent, NodeId, ROOT, Trace};

const BLOCK_BYTES: usize = 4096;
/// The recordings of one folder, one after another, have seeds that follow a multiple of this.
pub(crate) const SEEDS_OF_A_FOLDER: u64 = 8;
/// Less than so many events after another is near it.
pub(crate) const NEAR_EVENTS: usize = 8;

/// Paths with their contents; `None` is a directory.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// How much of what was not synced is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// Nothing.
    Nothing,
    /// Everything: as after a kill of the process.
    Everything,
    /// Each block, size and entry for itself, with this chance in percent.
    Subset { data: u8, entries: u8 },
    /// Everything before an earlier event.
    Ordered { until: usize },
    /// As a journaling file system does: entries and sizes in order up to an event, and a sync of a
    /// file takes with it what was journaled before; blocks each for itself.
    Journaled { until: usize, data: u8 },
}

/// The events of a trace by what they are about.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    trace: &'a Trace,
    /// Writes and changes of size of each file, ascending.
    changes: BTreeMap<NodeId, Vec<usize>>,
    /// Events near which a cut is most likely to find something, by their kinds: the rare kinds would
    /// be missed otherwise.
    turns: BTreeMap<Turn, Vec<usize>>,
}

/// Those of the broker's files.
const FILE_TURNS: [Turn; 4] = [Turn::Resize, Turn::Create, Turn::Rename, Turn::Remove];

/// The kinds of events near which a cut is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Resize,
    Promise,
    Create,
    Rename,
    Remove,
    Step(Step),
}

/// Where the power goes, and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Events before this one have happened.
    pub(crate) at: usize,
    pub(crate) model: Model,
}

/// The folder as the record says that it is at the end.
pub(crate) fn whole(trace: &Trace) -> Tree {
    let cut = Cut {
        at: trace.events.len(),
        model: Model::Everything,
    };
    Index::new(trace).image(cut, &mut Random::new(0, 0))
}

/// Writes an image to where nothing may be yet.
pub(crate) fn write(tree: &Tree, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for (path, content) in tree {
        let path = folder.join(path);
        match content {
            None => fs::create_dir(&path),
            Some(content) => fs::write(&path, content),
        }
        .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

impl<'a> Index<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let mut changes: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let mut turns: BTreeMap<Turn, Vec<usize>> = BTreeMap::new();
        let mut turn = |kind, index| turns.entry(kind).or_default().push(index);
        for (index, event) in trace.events.iter().enumerate() {
            match event {
                Event::Write { node, .. } => changes.entry(*node).or_default().push(index),
                Event::Resize { node, .. } => {
                    changes.entry(*node).or_default().push(index);
                    turn(Turn::Resize, index);
                }
                Event::Sync { .. } => {}
                Event::Acknowledged(_) => turn(Turn::Promise, index),
                Event::Create { .. } => turn(Turn::Create, index),
                Event::Rename { .. } => turn(Turn::Rename, index),
                Event::Remove { .. } => turn(Turn::Remove, index),
                Event::Client(..) | Event::Broker(_) => {
                    if let Some(step) = event.step() {
                        turn(Turn::Step(step), index);
                    }
                }
            }
        }
        Self {
            trace,
            changes,
            turns,
        }
    }

    /// Where and how the power goes in image `number`, and what is left to chance in it.
    pub(crate) fn cut(&self, number: u64) -> (Cut, Random) {
        let mut random = Random::new(self.trace.seed, number.wrapping_add(1000));
        let events = self.trace.events.len();
        let at = match number % 8 {
            part @ 0..5 => {
                let turns = self.turns_in_turn(number / 8 * 5 + part);
                let turn = turns.get(random.below(turns.len()));
                turn.map_or(events, |turn| turn + random.below(NEAR_EVENTS))
            }
            5 => random.below(events + 1),
            // At any time, mostly in a pause.
            _ => {
                let times = &self.trace.times_us;
                let most = times.last().copied().unwrap_or(0);
                let time = random.next().checked_rem(most).unwrap_or(0);
                times.partition_point(|at| *at <= time)
            }
        };
        let at = at.min(events);
        // Not too far back: what is synced since has the last word anyway.
        let until = at.saturating_sub(random.below(200));
        let percent = [0, 10, 50, 90, 100];
        let mut chance = || {
            percent
                .get(random.below(percent.len()))
                .copied()
                .unwrap_or(0)
        };
        let (data, entries) = (chance(), chance());
        let model = match random.below(20) {
            0..3 => Model::Nothing,
            3 => Model::Everything,
            4..12 => Model::Subset { data, entries },
            12..15 => Model::Ordered { until },
            _ => Model::Journaled { until, data },
        };
        (Cut { at, model }, random)
    }

    /// The events of one kind: of each kind equally often, in each recording from another one on. Those
    /// of the same folder, whose seeds follow each other, go on with the kinds of those before.
    fn turns_in_turn(&self, number: u64) -> &[usize] {
        let has_steps = self.turns.keys().any(|turn| matches!(turn, Turn::Step(_)));
        let steps = Step::ALL.map(Turn::Step);
        let kinds: Vec<_> = match has_steps {
            true => FILE_TURNS.iter().chain(&steps).collect(),
            false => self.turns.keys().collect(),
        };
        let first = Random::new(self.trace.seed / SEEDS_OF_A_FOLDER, 5).next() % 1000;
        let first = usize::try_from(first + number).unwrap_or(0);
        let mut kinds = kinds
            .iter()
            .cycle()
            .skip(first % kinds.len().max(1))
            .take(kinds.len());
        let turns = kinds.find_map(|kind| self.turns.get(kind));
        turns.map_or(&[], Vec::as_slice)
    }

    /// What is left.
    pub(crate) fn image(&self, cut: Cut, random: &mut Random) -> Tree {
        let synced = self.synced(cut);
        let journaled = self.journaled(cut, &synced);
        let directories = self.directories(cut, &synced, journaled, random);
        let mut tree = Tree::new();
        let mut waiting = vec![(ROOT, PathBuf::new())];
        while let Some((directory, path)) = waiting.pop() {
            for (name, node) in directories.get(&directory).into_iter().flatten() {
                let path = path.join(name);
                if directories.contains_key(node) {
                    tree.insert(path.clone(), None);
                    waiting.push((*node, path));
                } else {
                    let content = self.content(*node, cut, &synced, journaled, random);
                    tree.insert(path, Some(content));
                }
            }
        }
        tree
    }

    fn events(&self, cut: Cut) -> impl Iterator<Item = (usize, &'a Event)> + use<'a> {
        self.trace.events.iter().enumerate().take(cut.at)
    }

    /// Of each file and directory, the event before which all of its own are durable.
    fn synced(&self, cut: Cut) -> BTreeMap<NodeId, usize> {
        let mut synced = BTreeMap::new();
        for (_, event) in self.events(cut) {
            if let Event::Sync { node, covers } = event {
                let most: &mut usize = synced.entry(*node).or_default();
                *most = (*most).max(*covers);
            }
        }
        synced
    }

    /// The event before which all changes of entries and sizes are there, if they are in order.
    fn journaled(&self, cut: Cut, synced: &BTreeMap<NodeId, usize>) -> Option<usize> {
        let Model::Journaled { until, .. } = cut.model else {
            return None;
        };
        // A sync commits the newest change of its file that the journal knows, hence all before it.
        let committed = self.events(cut).filter_map(|(index, event)| {
            let nodes = match event {
                Event::Create { parent, node, .. } => [Some(*parent), Some(*node)],
                Event::Resize { node, .. } | Event::Write { node, .. } => [Some(*node), None],
                Event::Rename { from, to, .. } => [Some(from.0), Some(to.0)],
                Event::Remove { parent, .. } => [Some(*parent), None],
                Event::Sync { .. }
                | Event::Acknowledged(_)
                | Event::Client(..)
                | Event::Broker(_) => [None, None],
            };
            let covered = |node| synced.get(&node).is_some_and(|covers| index < *covers);
            let is_committed = nodes.into_iter().flatten().any(covered);
            is_committed.then_some(index + 1)
        });
        Some(committed.max().unwrap_or(0).max(until))
    }

    /// The entries of each directory, whether anything leads to it or not.
    fn directories(
        &self,
        cut: Cut,
        synced: &BTreeMap<NodeId, usize>,
        journaled: Option<usize>,
        random: &mut Random,
    ) -> BTreeMap<NodeId, BTreeMap<&'a str, NodeId>> {
        let mut directories: BTreeMap<NodeId, BTreeMap<&str, NodeId>> = BTreeMap::new();
        directories.insert(ROOT, BTreeMap::new());
        for (index, base) in self.trace.base.iter().enumerate() {
            let node = index + 1;
            if base.content.is_none() {
                directories.insert(node, BTreeMap::new());
            }
            let parent = directories.entry(base.parent).or_default();
            parent.insert(&base.name, node);
        }
        for (index, event) in self.events(cut).filter(|(_, event)| event.is_of_entries()) {
            let covered = |node| synced.get(node).is_some_and(|covers| index < *covers);
            let is_synced = match event {
                Event::Create { parent, .. } | Event::Remove { parent, .. } => covered(parent),
                Event::Rename { from, to, .. } => covered(&from.0) && covered(&to.0),
                _ => false,
            };
            let is_there = is_synced
                || match cut.model {
                    Model::Nothing => false,
                    Model::Everything => true,
                    Model::Subset { entries, .. } => random.chance(entries),
                    Model::Ordered { until } => index < until,
                    Model::Journaled { until, .. } => index < journaled.unwrap_or(until),
                };
            if let Event::Create {
                node,
                directory: true,
                ..
            } = event
            {
                directories.entry(*node).or_default();
            }
            if is_there {
                apply(event, &mut directories);
            }
        }
        directories
    }

    fn content(
        &self,
        node: NodeId,
        cut: Cut,
        synced: &BTreeMap<NodeId, usize>,
        journaled: Option<usize>,
        random: &mut Random,
    ) -> Vec<u8> {
        let base = node
            .checked_sub(1)
            .and_then(|index| self.trace.base.get(index));
        let base = base.and_then(|base| base.content);
        let mut content = base.map_or_else(Vec::new, |at| self.trace.bytes(at).to_vec());
        let changes = self.changes.get(&node).map_or(&[][..], Vec::as_slice);
        let changes = changes.get(..changes.partition_point(|index| *index < cut.at));
        let changes = changes.unwrap_or_default();
        let durable = synced.get(&node).copied().unwrap_or(0);
        let kept = match cut.model {
            Model::Everything => cut.at,
            Model::Ordered { until } => durable.max(until),
            _ => durable,
        };
        let split = changes.partition_point(|index| *index < kept);
        let (kept, rest) = changes.split_at_checked(split).unwrap_or((changes, &[]));
        for index in kept {
            self.change(*index, &mut content, None);
        }
        match cut.model {
            Model::Subset { data, .. } => self.scatter(&mut content, rest, data, None, random),
            Model::Journaled { until, data } => {
                let until = journaled.unwrap_or(until);
                self.scatter(&mut content, rest, data, Some(until), random);
            }
            _ => {}
        }
        content
    }

    /// Lets each block have any of the contents that `changes` gave it, and the file any size; or
    /// the size of the last change before `sized`.
    fn scatter(
        &self,
        content: &mut Vec<u8>,
        changes: &[usize],
        percent: u8,
        sized: Option<usize>,
        random: &mut Random,
    ) {
        let mut bytes = content.len();
        let mut sizes = Vec::new();
        let mut blocks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in changes {
            let Some((touched, size)) = self.extent(*index, bytes) else {
                continue;
            };
            bytes = size;
            sizes.push((*index, bytes));
            for block in touched {
                blocks.entry(block).or_default().push(*index);
            }
        }
        let chosen = match sized {
            Some(until) => sizes.partition_point(|(index, _)| *index < until),
            None => how_many(sizes.len(), percent, random),
        };
        let last = chosen.checked_sub(1).and_then(|last| sizes.get(last));
        let size = last.map_or(content.len(), |(_, size)| *size);
        let largest = sizes.iter().map(|(_, size)| *size).max().unwrap_or(0);
        content.resize(content.len().max(largest), 0);
        for (block, changes) in blocks {
            let there = how_many(changes.len(), percent, random);
            for index in changes.into_iter().take(there) {
                self.change(index, content, Some(block));
            }
        }
        content.resize(size, 0);
    }

    /// The blocks that a change touches and the size that it leaves of a file of `bytes`.
    fn extent(&self, index: usize, bytes: usize) -> Option<(std::ops::Range<usize>, usize)> {
        let (from, to, size) = match self.trace.events.get(index)? {
            Event::Write { offset, data, .. } => {
                let from = usize::try_from(*offset).ok()?;
                let to = from.checked_add(data.length)?;
                (from, to, bytes.max(to))
            }
            Event::Resize { bytes: new, .. } => {
                let new = usize::try_from(*new).ok()?;
                // What is cut off is zeros if the file ever grows again.
                (new.min(bytes), bytes, new)
            }
            _ => return None,
        };
        Some((from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES), size))
    }

    /// Applies a change to a whole file, or to one block of a file that is large enough already.
    fn change(&self, index: usize, content: &mut Vec<u8>, block: Option<usize>) {
        match self.trace.events.get(index) {
            Some(Event::Write { offset, data, .. }) => {
                let Ok(offset) = usize::try_from(*offset) else {
                    return;
                };
                let end = offset.saturating_add(data.length);
                if block.is_none() && content.len() < end {
                    content.resize(end, 0);
                }
                self.copy(*data, offset, content, block);
            }
            Some(Event::Resize { bytes, .. }) => {
                let Ok(bytes) = usize::try_from(*bytes) else {
                    return;
                };
                let Some(block) = block else {
                    content.resize(bytes, 0);
                    return;
                };
                let from = bytes.max(block * BLOCK_BYTES);
                let to = content.len().min((block + 1) * BLOCK_BYTES);
                if let Some(gone) = content.get_mut(from..to) {
                    gone.fill(0);
                }
            }
            _ => {}
        }
    }

    fn copy(&self, data: Extent, offset: usize, content: &mut [u8], block: Option<usize>) {
        let all = (offset, offset.saturating_add(data.length));
        let (from, to) = block.map_or(all, |block| {
            let (first, last) = (block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
            (all.0.max(first), all.1.min(last))
        });
        let source = self.trace.bytes(data);
        let source = source.get(from.saturating_sub(offset)..to.saturating_sub(offset));
        if let Some((target, source)) = content.get_mut(from..to).zip(source) {
            target.copy_from_slice(source);
        }
    }
}

/// How many of the changes of one thing are there: all with a chance of `percent`, else any number.
fn how_many(changes: usize, percent: u8, random: &mut Random) -> usize {
    if random.chance(percent) {
        changes
    } else if random.chance(percent) {
        random.below(changes + 1)
    } else {
        0
    }
}

fn apply<'a>(event: &'a Event, directories: &mut BTreeMap<NodeId, BTreeMap<&'a str, NodeId>>) {
    match event {
        Event::Create {
            parent, name, node, ..
        } => {
            directories.entry(*parent).or_default().insert(name, *node);
        }
        Event::Rename { from, to, node } => {
            let old = directories.entry(from.0).or_default();
            if old.get(from.1.as_str()) == Some(node) {
                old.remove(from.1.as_str());
            }
            directories.entry(to.0).or_default().insert(&to.1, *node);
        }
        Event::Remove { parent, name } => {
            directories
                .entry(*parent)
                .or_default()
                .remove(name.as_str());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::BaseNode;

    const FILE: NodeId = 1;

    /// A folder with the durable file `a` of two blocks of the byte 0, and these events after it.
    fn trace(events: impl FnOnce(&mut Trace) -> Vec<Event>) -> Trace {
        let mut trace = Trace::default();
        let content = Some(trace.keep(&[0; 2 * BLOCK_BYTES]));
        trace.base.push(BaseNode {
            parent: ROOT,
            name: "a".to_owned(),
            content,
        });
        for event in events(&mut trace) {
            trace.push(event, Duration::ZERO);
        }
        trace
    }

    fn write(trace: &mut Trace, offset: u64, byte: u8, bytes: usize) -> Event {
        let data = trace.keep(&vec![byte; bytes]);
        Event::Write {
            node: FILE,
            offset,
            data,
        }
    }

    fn sync(node: NodeId, covers: usize) -> Event {
        Event::Sync { node, covers }
    }

    fn create(name: &str, node: NodeId) -> Event {
        Event::Create {
            parent: ROOT,
            name: name.to_owned(),
            node,
            directory: false,
        }
    }

    fn images(trace: &Trace, model: Model) -> Vec<Tree> {
        let at = trace.events.len();
        let index = Index::new(trace);
        let image = |seed| index.image(Cut { at, model }, &mut Random::new(seed, 0));
        (0..300).map(image).collect()
    }

    /// First bytes of the blocks of `a`.
    fn blocks(tree: &Tree) -> Vec<u8> {
        let content = tree[Path::new("a")].as_ref().unwrap();
        content.chunks(BLOCK_BYTES).map(|block| block[0]).collect()
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.keys().map(|path| path.to_str().unwrap()).collect()
    }

    const SUBSET: Model = Model::Subset {
        data: 50,
        entries: 50,
    };

    #[test]
    fn sync_keeps_what_was_written_before_it_began() {
        let trace = trace(|t| {
            vec![
                write(t, 0, 1, 10),
                // Began before the second write, and ended after it.
                write(t, BLOCK_BYTES as u64, 2, 10),
                sync(FILE, 1),
            ]
        });
        assert_eq!(blocks(&images(&trace, Model::Nothing)[0]), [1, 0]);
        assert_eq!(blocks(&images(&trace, Model::Everything)[0]), [1, 2]);
        let ordered = Model::Ordered { until: 0 };
        assert_eq!(blocks(&images(&trace, ordered)[0]), [1, 0]);
        for tree in images(&trace, SUBSET) {
            assert_eq!(blocks(&tree)[0], 1);
        }
    }

    #[test]
    fn blocks_and_sizes_come_each_for_itself() {
        let trace = trace(|t| {
            let two = write(t, 0, 1, 2 * BLOCK_BYTES);
            let again = write(t, 0, 2, BLOCK_BYTES);
            let grow = write(t, 2 * BLOCK_BYTES as u64, 3, BLOCK_BYTES);
            vec![two, again, grow]
        });
        let mut seen: Vec<Vec<u8>> = images(&trace, SUBSET).iter().map(blocks).collect();
        seen.sort();
        seen.dedup();
        for expected in [
            vec![0, 0],
            vec![2, 0],
            vec![0, 1],
            vec![1, 1],
            vec![0, 0, 3],
            vec![2, 1, 0],
        ] {
            assert!(seen.contains(&expected), "{expected:?} of {seen:?}");
        }
        // Four contents of two blocks, without the third, with it, and with zeros in its place.
        assert!(seen.iter().all(|blocks| blocks[1] < 2), "{seen:?}");
    }

    #[test]
    fn what_was_cut_off_is_zeros_when_the_file_grows_again() {
        let trace = trace(|t| {
            let resize = |bytes| Event::Resize { node: FILE, bytes };
            let shorter = resize(BLOCK_BYTES as u64);
            vec![
                write(t, 0, 1, 2 * BLOCK_BYTES),
                sync(FILE, 1),
                shorter,
                resize(2 * BLOCK_BYTES as u64),
            ]
        });
        assert_eq!(blocks(&images(&trace, Model::Everything)[0]), [1, 0]);
        let mut seen: Vec<Vec<u8>> = images(&trace, SUBSET).iter().map(blocks).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [vec![1], vec![1, 0], vec![1, 1]]);
    }

    #[test]
    fn new_file_has_an_entry_when_its_directory_was_synced() {
        let trace = trace(|_| vec![create("b", 2), sync(2, 1), create("c", 3), sync(ROOT, 1)]);
        assert_eq!(names(&images(&trace, Model::Nothing)[0]), ["a", "b"]);
        let trace = self::trace(|_| vec![create("b", 2), sync(2, 1)]);
        assert_eq!(names(&images(&trace, Model::Nothing)[0]), ["a"]);
        // A journaling file system takes the entry along.
        let journaled = Model::Journaled { until: 0, data: 0 };
        assert_eq!(names(&images(&trace, journaled)[0]), ["a", "b"]);
    }

    #[test]
    fn renamed_file_has_one_of_its_names() {
        let trace = trace(|_| {
            let (from, to) = ((ROOT, "a".to_owned()), (ROOT, "b".to_owned()));
            vec![Event::Rename {
                from,
                to,
                node: FILE,
            }]
        });
        let mut seen: Vec<Vec<String>> = images(&trace, SUBSET)
            .iter()
            .map(|tree| names(tree).into_iter().map(str::to_owned).collect())
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [["a"], ["b"]]);
    }

    #[test]
    fn image_comes_again_by_its_number() {
        let trace = trace(|t| (0..50).map(|n| write(t, n * 3000, 1, 5000)).collect());
        let index = Index::new(&trace);
        let made = |number| {
            let (cut, mut random) = index.cut(number);
            (cut, index.image(cut, &mut random))
        };
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
    }
}
