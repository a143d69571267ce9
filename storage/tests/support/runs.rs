//! A folder as text: sled's files are mostly the same byte again and again.
//!
//! ```text
//! folder PATH             an empty folder
//! file PATH               what follows is its content
//! run COUNT BYTE          COUNT times the byte, in hexadecimal digits
//! hex DIGITS              bytes as they are
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Shorter repetitions are written out.
const RUN_MIN: usize = 24;
const LINE_BYTES: usize = 48;

/// The folder as text, but for what a process says of itself.
pub(crate) fn pack(folder: &Path) -> String {
    let mut text = String::new();
    pack_below(folder, "", &mut text);
    text
}

fn pack_below(folder: &Path, prefix: &str, text: &mut String) {
    let mut names = super::template::names(folder);
    names.sort();
    if names.is_empty() {
        writeln!(text, "folder {}", prefix.trim_end_matches('/')).unwrap();
    }
    for name in names.iter().filter(|name| *name != "LOCK") {
        let (path, shown) = (folder.join(name), format!("{prefix}{name}"));
        if path.is_dir() {
            pack_below(&path, &format!("{shown}/"), text);
        } else {
            writeln!(text, "file {shown}").unwrap();
            pack_bytes(&fs::read(&path).unwrap(), text);
        }
    }
}

fn pack_bytes(bytes: &[u8], text: &mut String) {
    let mut literal = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        let (same, after) = rest.split_at(run);
        rest = after;
        if run < RUN_MIN {
            literal.extend_from_slice(same);
        } else {
            flush(&mut literal, text);
            writeln!(text, "run {run} {first:02x}").unwrap();
        }
    }
    flush(&mut literal, text);
}

fn flush(literal: &mut Vec<u8>, text: &mut String) {
    for line in literal.chunks(LINE_BYTES) {
        text.push_str("hex ");
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    literal.clear();
}

/// Makes the folder again.
pub(crate) fn unpack(text: &str, folder: &Path) {
    let mut file = None;
    for line in text.lines() {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            "folder" => fs::create_dir_all(folder.join(rest)).unwrap(),
            "file" => {
                save(file.replace((folder.join(rest), Vec::new())));
            }
            _ => {
                let (_, bytes): &mut (_, Vec<u8>) = file.as_mut().unwrap();
                match (what, rest.split_once(' ')) {
                    ("run", Some((count, byte))) => {
                        let byte = u8::from_str_radix(byte, 16).unwrap();
                        bytes.resize(bytes.len() + count.parse::<usize>().unwrap(), byte);
                    }
                    ("hex", None) => bytes.extend(unhex(rest)),
                    _ => panic!("{line}"),
                }
            }
        }
    }
    save(file);
}

fn unhex(digits: &str) -> impl Iterator<Item = u8> + '_ {
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
}

fn save(file: Option<(std::path::PathBuf, Vec<u8>)>) {
    if let Some((path, bytes)) = file {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
