//! Kafka's own log files: for each partition a folder LOG-PARTITION, in it files of record batches
//! one behind the other, each named after the offset of its first record.
//!
//! A partition's folder is written under a name with a dot in front, and gets its own when
//! everything is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use record_batch::BatchHeader;

use super::{GapLine, Writer, check_free, sync_folder};
use crate::admin::ExportBatch;

/// Bytes after which a new file begins: Kafka's own default (`log.segment.bytes`). Its positions in
/// a file are 32 bits wide.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes that wait for a write, of each partition.
const BUFFER_BYTES: usize = 16 * 1024;

/// See the module's documentation.
pub(super) struct KafkaFiles {
    folder: PathBuf,
    log: String,
    force: bool,
    partitions: BTreeMap<u16, Partition>,
}

struct Partition {
    path: PathBuf,
    file: BufWriter<File>,
    name: PathBuf,
    base_offset: i64,
    bytes: u64,
}

impl Drop for KafkaFiles {
    fn drop(&mut self) {
        for partition in self.partitions.values() {
            // What is not whole goes; if it cannot, its name says what it is.
            let _ = fs::remove_dir_all(&partition.path);
        }
    }
}

impl KafkaFiles {
    /// Refuses at once to replace what is there of `partition`, or of any without one.
    pub(super) fn new(
        folder: &Path,
        log: &str,
        partition: Option<u16>,
        force: bool,
    ) -> anyhow::Result<Self> {
        let read = || format!("read {}", folder.display());
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.with_context(read)?),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry.with_context(read)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name
                .strip_prefix(log)
                .and_then(|name| name.strip_prefix('-'));
            let number = number.and_then(|number| number.parse::<u16>().ok());
            if number.is_some_and(|number| partition.is_none_or(|wanted| wanted == number)) {
                check_free(&entry.path(), force)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            log: log.to_owned(),
            force,
            partitions: BTreeMap::new(),
        })
    }

    fn target(&self, partition: u16) -> PathBuf {
        self.folder.join(format!("{}-{partition}", self.log))
    }

    fn begin(&self, partition: u16, base_offset: i64) -> anyhow::Result<Partition> {
        check_free(&self.target(partition), self.force)?;
        let (log, process) = (&self.log, std::process::id());
        let name = format!(".{log}-{partition}.{process}.partial");
        let path = self.folder.join(name);
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let (name, file) = create(&path, base_offset)?;
        Ok(Partition {
            path,
            file,
            name,
            base_offset,
            bytes: 0,
        })
    }
}

fn create(folder: &Path, base_offset: i64) -> anyhow::Result<(PathBuf, BufWriter<File>)> {
    let name = folder.join(format!("{base_offset:020}.log"));
    let file = File::create_new(&name).with_context(|| format!("create {}", name.display()))?;
    Ok((name, BufWriter::with_capacity(BUFFER_BYTES, file)))
}

impl Partition {
    fn write(&mut self, base_offset: i64, batch: &[u8]) -> anyhow::Result<()> {
        let is_far = i32::try_from(base_offset.saturating_sub(self.base_offset)).is_err();
        let is_full = self.bytes + batch.len() as u64 > FILE_BYTES_MAX;
        if self.bytes > 0 && (is_full || is_far) {
            self.end_file()?;
            (self.name, self.file) = create(&self.path, base_offset)?;
            (self.base_offset, self.bytes) = (base_offset, 0);
        }
        self.bytes += batch.len() as u64;
        let written = self.file.write_all(batch);
        written.with_context(|| format!("write {}", self.name.display()))
    }

    fn end_file(&mut self) -> anyhow::Result<()> {
        let written = self.file.flush();
        let written = written.and_then(|()| self.file.get_ref().sync_all());
        written.with_context(|| format!("write {}", self.name.display()))
    }
}

impl Writer for KafkaFiles {
    fn batch(&mut self, batch: &ExportBatch) -> anyhow::Result<()> {
        let base_offset = BatchHeader::parse(&batch.data)?.base_offset;
        if !self.partitions.contains_key(&batch.partition) {
            let begun = self.begin(batch.partition, base_offset)?;
            self.partitions.insert(batch.partition, begun);
        }
        match self.partitions.get_mut(&batch.partition) {
            Some(partition) => partition.write(base_offset, &batch.data),
            None => Ok(()),
        }
    }

    fn gap(&mut self, _: &GapLine<'_>) -> anyhow::Result<()> {
        // Offsets that are not there are no news to Kafka.
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        for partition in self.partitions.values_mut() {
            partition.end_file()?;
        }
        if self.partitions.is_empty() {
            return Ok(());
        }
        while let Some((number, partition)) = self.partitions.pop_first() {
            let target = self.target(number);
            let kept = || format!("write {}", target.display());
            let earlier = partition.path.with_extension("replaced");
            let replaces = self.force && target.exists();
            if replaces {
                fs::rename(&target, &earlier).with_context(kept)?;
            }
            if let Err(error) = fs::rename(&partition.path, &target) {
                if replaces {
                    // If this fails, too, its name says what it is.
                    let _ = fs::rename(&earlier, &target);
                }
                return Err(error).with_context(kept);
            }
            if replaces {
                fs::remove_dir_all(&earlier).with_context(kept)?;
            }
        }
        sync_folder(&self.folder.join("."))
    }
}
