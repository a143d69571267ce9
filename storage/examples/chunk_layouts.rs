//! Measures which layout of batches in a sled segment costs how many bytes, for commits of one to a few hundred
//! messages over few and many partitions. Its table stands in `docs/decisions/0003-chunk-layout.md`.
//!
//! ```text
//! cargo run --release -p storage --example chunk_layouts [-- --payload-mib 4]
//! ```
#![allow(clippy::print_stdout, reason = "a measuring program prints its table")]
#![allow(
    clippy::unwrap_used,
    reason = "a measuring program may stop at the first error"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "indices stay below the lengths just set"
)]
#![allow(clippy::cast_possible_truncation, reason = "small counts")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

const RECORD_BYTES: usize = 200;
/// What a record costs beside its payload in a batch: lengths, key, headers.
const RECORD_OVERHEAD_BYTES: usize = 60;
const BATCH_OVERHEAD_BYTES: usize = 61 + 20;
const VALUE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// One tree per partition and chunk; one value per commit and partition.
    TreePerPartition,
    /// One tree per chunk, shared by the partitions; one value per commit and partition.
    SharedTree,
    /// One tree per chunk, shared by the partitions; one value per commit with the batches of all partitions.
    CommitValue,
}

/// When a chunk is full.
#[derive(Clone, Copy, Debug)]
struct ChunkRule {
    items_min: usize,
    bytes_min: usize,
    /// A chunk is also full at this many bytes, whatever its items.
    bytes_max: usize,
    /// A chunk of `items_min` items is also full when its bytes reach this many for each tree that the segment has:
    /// a new tree makes sled write the list of all trees again.
    bytes_per_tree: usize,
}

impl ChunkRule {
    fn full(self, items: usize, bytes: usize, trees: usize) -> bool {
        let enough = if self.bytes_per_tree > 0 {
            self.bytes_min.min(self.bytes_per_tree * trees)
        } else {
            self.bytes_min
        };
        (items >= self.items_min && bytes >= enough) || bytes >= self.bytes_max
    }
}

struct Io {
    written: u64,
    dirtied: u64,
}

fn io() -> Io {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name))
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    Io {
        written: field("wchar:"),
        dirtied: field("write_bytes:"),
    }
}

fn rss_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / (1024.0 * 1024.0)
}

fn cpu_us() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10_000.0
}

fn directory_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        sum += if meta.is_dir() {
            directory_bytes(&entry.path())
        } else {
            meta.blocks() * 512
        };
    }
    sum
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }
    fn fill(&mut self, out: &mut Vec<u8>, n: usize) {
        while out.len() < n {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(n);
    }
}

#[derive(Default)]
struct Chunk {
    number: u32,
    items: usize,
    bytes: usize,
    tree: Option<sled::Tree>,
}

struct Segment {
    db: sled::Db,
    rule: ChunkRule,
    chunks: HashMap<u32, Chunk>,
    trees: usize,
}

impl Segment {
    fn insert(&mut self, group: u32, key: &[u8], value: Vec<u8>) {
        let chunk = self.chunks.entry(group).or_default();
        if chunk.tree.is_none() || self.rule.full(chunk.items, chunk.bytes, self.trees) {
            let mut name = group.to_be_bytes().to_vec();
            name.extend_from_slice(&chunk.number.to_be_bytes());
            chunk.tree = Some(self.db.open_tree(name).unwrap());
            chunk.number += 1;
            chunk.items = 0;
            chunk.bytes = 0;
            self.trees += 1;
        }
        chunk.items += 1;
        chunk.bytes += value.len();
        chunk.tree.as_ref().unwrap().insert(key, value).unwrap();
    }
}

/// A commit's batches, of random bytes, by partition.
fn batches_of_commit(rng: &mut Rng, partitions: u32, messages: usize) -> Vec<(u32, Vec<u8>)> {
    let mut per_partition: HashMap<u32, usize> = HashMap::new();
    for _ in 0..messages {
        let partition = (rng.next() % u64::from(partitions)) as u32;
        *per_partition.entry(partition).or_default() += 1;
    }
    let mut batches: Vec<(u32, Vec<u8>)> = per_partition
        .into_iter()
        .map(|(partition, count)| {
            let mut value = Vec::new();
            let bytes = BATCH_OVERHEAD_BYTES + count * (RECORD_BYTES + RECORD_OVERHEAD_BYTES);
            rng.fill(&mut value, bytes);
            (partition, value)
        })
        .collect();
    batches.sort();
    batches
}

fn insert_commit(segment: &mut Segment, layout: Layout, commit: u64, batches: Vec<(u32, Vec<u8>)>) {
    if layout == Layout::CommitValue {
        let all: Vec<u8> = batches.into_iter().flat_map(|(_, value)| value).collect();
        for (piece, part) in all.chunks(VALUE_BYTES_MAX).enumerate() {
            let key = [&commit.to_be_bytes()[..], &(piece as u16).to_be_bytes()].concat();
            segment.insert(0, &key, part.to_vec());
        }
        return;
    }
    for (partition, value) in batches {
        let key = [&commit.to_be_bytes()[..], &partition.to_be_bytes()].concat();
        let group = if layout == Layout::TreePerPartition {
            partition + 1
        } else {
            0
        };
        segment.insert(group, &key, value);
    }
}

fn run(
    layout: Layout,
    rule: ChunkRule,
    partitions: u32,
    messages: usize,
    payload_bytes: usize,
) -> String {
    let folder = tempfile::tempdir_in(".").unwrap();
    let db = sled::Config::new()
        .path(folder.path().join("db"))
        .segment_size(1024 * 1024)
        .cache_capacity(8 * 1024 * 1024)
        .flush_every_ms(None)
        .open()
        .unwrap();
    let mut segment = Segment {
        db,
        rule,
        chunks: HashMap::new(),
        trees: 0,
    };
    let mut rng = Rng(7);
    let before = io();
    let cpu_before = cpu_us();
    let (mut payload, mut commit) = (0usize, 0u64);
    while payload < payload_bytes {
        commit += 1;
        payload += messages * RECORD_BYTES;
        let batches = batches_of_commit(&mut rng, partitions, messages);
        insert_commit(&mut segment, layout, commit, batches);
        segment.db.flush().unwrap();
    }
    let after = io();
    let payload = payload as f64;
    let line = format!(
        "| {layout:?} | {}/{}K/{}..{}K | {partitions} | {messages} | {commit} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} |",
        rule.items_min,
        rule.bytes_min / 1024,
        rule.bytes_per_tree,
        rule.bytes_max / 1024,
        segment.trees,
        (after.written - before.written) as f64 / payload,
        (after.dirtied - before.dirtied) as f64 / payload,
        directory_bytes(folder.path()) as f64 / payload,
        (cpu_us() - cpu_before) / (payload / RECORD_BYTES as f64),
        rss_mib(),
    );
    let blobs = fs::read_dir(folder.path().join("db/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "the layout made blob files");
    assert!(
        storage::fence::calls() >= commit,
        "each commit was synced through the fence"
    );
    line
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "--one") {
        // One row in a process of its own, so that memory figures do not mix.
        let n: Vec<usize> = arguments[2]
            .split(',')
            .map(|x| x.parse().unwrap())
            .collect();
        let layout = [
            Layout::TreePerPartition,
            Layout::SharedTree,
            Layout::CommitValue,
        ][n[0]];
        let rule = ChunkRule {
            items_min: n[1],
            bytes_min: n[2] * 1024,
            bytes_per_tree: n[3],
            bytes_max: n[4] * 1024,
        };
        println!("{}", run(layout, rule, n[5] as u32, n[6], n[7]));
        return;
    }
    let mib: f64 = arguments
        .iter()
        .skip_while(|a| *a != "--payload-mib")
        .nth(1)
        .map_or(4.0, |v| v.parse().unwrap());
    println!(
        "| layout | chunk items/bytes min..max | partitions | messages/commit | commits | trees | write() B/B | dirtied B/B | disk B/B | CPU us/message | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let program = std::env::current_exe().unwrap();
    for messages in [1, 10, 100, 1000] {
        for partitions in [4, 32, 256] {
            for (items_min, kib_min, bytes_per_tree, kib_max) in [
                (9, 32, 0, 128),
                (9, 0, 0, 128),
                (9, 32, 8, 128),
                (9, 32, 32, 128),
            ] {
                for layout in 0..3 {
                    let bytes =
                        (mib * 1024.0 * 1024.0) as usize / if messages == 1 { 4 } else { 1 };
                    let spec = format!(
                        "{layout},{items_min},{kib_min},{bytes_per_tree},{kib_max},{partitions},{messages},{bytes}"
                    );
                    let out = std::process::Command::new(&program)
                        .args(["--one", &spec])
                        .output()
                        .unwrap();
                    print!("{}", String::from_utf8_lossy(&out.stdout));
                    if !out.status.success() {
                        println!(
                            "| {spec} failed: {} |",
                            String::from_utf8_lossy(&out.stderr)
                        );
                    }
                }
            }
        }
    }
}
