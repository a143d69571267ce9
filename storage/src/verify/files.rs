//! The files of a data folder, by their names alone: what sled must never have made, what does not
//! belong there, what an evacuation left, what stands in quarantine, and MARK.

use std::fs;
use std::path::Path;

use crate::mark::Mark;
use crate::segment_name::SegmentName;
use crate::store::Shared;
use crate::verify::{Finding, FindingKind, Severity, Source};

/// What a data folder has in it, and what a mount point may.
const KNOWN: [&str; 9] = [
    "FORMAT",
    "FORMAT.new",
    "LOCK",
    "MARK",
    "log",
    "lost+found",
    "meta",
    "quarantine",
    "run",
];
/// Things of one kind that are told one by one; a folder full of rubbish needs no more.
const TOLD_MAX: usize = 100;

/// What is found in the data folder `path`, which the store of `shared` has open or is a copy of.
pub(super) fn findings(path: &Path, shared: &Shared, source: Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in names(path, &mut found) {
        if !KNOWN.contains(&name.as_str()) {
            found.push(unknown(&name));
        }
    }
    database(&path.join("meta"), "meta", &mut found);
    for name in names(&path.join("log"), &mut found) {
        let shown = format!("log/{name}");
        if SegmentName::parse(&name).is_some() {
            database(&path.join("log").join(&name), &shown, &mut found);
        } else if let Some(copy) = SegmentName::parse_unfinished(&name) {
            let is_left = !shared.evacuations.holds(copy.first);
            // Whoever made it may have given it its name since.
            if is_left && path.join("log").join(&name).exists() {
                let what = format!("{shown} was not completed; the next start removes it");
                found.push(Finding::new(Severity::Note, FindingKind::Unknown, what));
            }
        } else {
            found.push(unknown(&shown));
        }
    }
    for name in names(&path.join("quarantine"), &mut found) {
        // A name that is taken gets a number behind it: `0000000012.1`.
        let is_segment = name.starts_with(|first: char| first.is_ascii_digit());
        let advice = match is_segment {
            true => format!(
                "; with the gateway stopped, `tidegate log export LOG --data DIR --quarantined \
                 {name}` reads what can still be read of it"
            ),
            false => String::new(),
        };
        let what = format!("quarantine/{name} was put aside{advice}");
        found.push(Finding::new(
            Severity::Warning,
            FindingKind::Quarantine,
            what,
        ));
    }
    mark(path, shared, source, &mut found);
    found
}

fn mark(path: &Path, shared: &Shared, source: Source, found: &mut Vec<Finding>) {
    let wrong = |severity, what: String| Finding::new(severity, FindingKind::Mark, what);
    let looked = Mark::look(&path.join("MARK"));
    // In this order: both grow while a gateway runs.
    let durable = shared.counters.durable();
    match looked {
        Ok(Some(mark)) if mark > durable => found.push(wrong(
            Severity::Error,
            format!("MARK says that commit {mark} was durable; the log ends at commit {durable}"),
        )),
        Ok(Some(_)) => {}
        // What recovery says of a folder says that already.
        Ok(None) if matches!(source, Source::Folder) => {}
        Ok(None) => found.push(wrong(
            Severity::Warning,
            "MARK is missing or damaged: nothing would prove where the log ended; it is written again \
             with the next commit"
                .to_owned(),
        )),
        Err(error) => found.push(wrong(
            Severity::Error,
            format!("MARK cannot be read: {error}"),
        )),
    }
}

/// The files of a database of sled's.
fn database(path: &Path, shown: &str, found: &mut Vec<Finding>) {
    for name in names(path, found) {
        let shown = format!("{shown}/{name}");
        match name.as_str() {
            "conf" | "db" => {}
            "blobs" => {
                let blobs = names(&path.join("blobs"), found).len();
                if blobs > 0 {
                    let what = format!(
                        "{shown} holds {blobs} files: values that sled never syncs; please report it"
                    );
                    found.push(Finding::new(Severity::Error, FindingKind::Blob, what));
                }
            }
            name if name.starts_with("snap.") && name.ends_with(".generating") => {
                let what = format!("{shown} was left behind; the next opening removes it");
                found.push(Finding::new(Severity::Note, FindingKind::Unknown, what));
            }
            name if name.starts_with("snap.") => {}
            _ => found.push(unknown(&shown)),
        }
    }
}

fn unknown(shown: &str) -> Finding {
    let what = format!("{shown} does not belong there; nothing of tidegate's touches it");
    Finding::new(Severity::Warning, FindingKind::Unknown, what)
}

/// The names in a directory, ascending; none if it is not there.
fn names(path: &Path, found: &mut Vec<Finding>) -> Vec<String> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                let what = format!("{} cannot be read: {error}", path.display());
                found.push(Finding::new(Severity::Error, FindingKind::Unknown, what));
            }
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if path.ends_with("quarantine") {
        names.truncate(TOLD_MAX);
    }
    names
}
