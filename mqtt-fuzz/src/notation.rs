//! The text form of seeds, which a person can read and change.
//!
//! ```text
//! = name of the seed              what it holds; a new seed begins here
//! begin 5                         connect, 3.1.1 or 5 come first, or narrow limits
//! chunk 7                         chunks of so many bytes, 1 to 64; left out: 8
//! refused PacketIdZero            the rule that it breaks; else it is decoded to its end
//! 10 [ ("MQTT") 05 02 000a [ 11 0000003c ] ("c") ]
//! ```
//!
//! Bytes are pairs of hexadecimal digits or text in quotes; `( … )` is preceded by its length in two
//! bytes, `[ … ]` by its length as a variable byte integer, `3{ … }` stands there three times. `#`
//! begins a comment. A seed of operations has a line for each, with its argument in hexadecimal:
//!
//! ```text
//! = name of the seed
//! options 00
//! ends Misbehaved TopicAliasUnknown       how its connection must end; may be left out
//! connect 80
//! accept 00
//! raw 30 [ ("a") 00 "payload" ]
//! ```

use anyhow::{Context, Result, bail, ensure};

use crate::Target;
use crate::connection::operation::{self, Kind, Operation};
use crate::decode;
use crate::frame::remaining_length;

/// Most bytes of one seed, so that a repetition written by mistake does not fill the memory.
const BYTES_MAX: usize = 100_000;

/// An input with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// What it holds.
    pub name: String,
    /// What the target is given.
    pub input: Vec<u8>,
    /// What must come of it: `refused …` or `ends …`.
    pub expects: Option<String>,
}

/// Reads a file of seeds.
///
/// # Errors
/// A line that is no part of a seed, with its number.
pub fn parse(target: Target, text: &str) -> Result<Vec<Seed>> {
    let mut seeds: Vec<(String, Lines)> = Vec::new();
    for (number, line) in logical_lines(text) {
        let line = line.as_str();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, seeds.last_mut()) {
            ("=", _) => seeds.push((rest.trim().to_owned(), Lines::default())),
            (_, None) => bail!("line {number}: `= name` comes first"),
            (_, Some((_, lines))) => lines
                .take(target, word, rest, line)
                .with_context(|| format!("line {number}: {line}"))?,
        }
    }
    let seeds = seeds.into_iter();
    seeds
        .map(|(name, lines)| lines.seed(target, name))
        .collect()
}

/// Writes an input in the text form, without a name.
pub fn format(target: Target, input: &[u8]) -> String {
    match target {
        Target::Decode => {
            let (first, stream) = input.split_first().unwrap_or((&0, &[]));
            let (begin, chunk) = decode::parameters(*first);
            format!("begin {begin}\nchunk {chunk}\n{}\n", hex(stream))
        }
        Target::Server => {
            let (options, operations) = operation::split(input);
            let mut text = format!("options {options:02x}\n");
            for operation in operations {
                let name = operation.kind.name();
                match operation.kind {
                    Kind::Raw => text += &format!("{name} {}\n", hex(operation.bytes)),
                    _ => text += &format!("{name} {:02x}\n", operation.argument),
                }
            }
            text
        }
    }
}

/// Bytes as pairs of digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from the notation; plain hexadecimal is a part of it.
///
/// # Errors
/// What is no byte, text or bracket.
pub fn bytes(text: &str) -> Result<Vec<u8>> {
    let mut rest = text;
    let bytes = sequence(&mut rest, None)?;
    ensure!(rest.is_empty(), "`{rest}` closes nothing");
    Ok(bytes)
}

/// What was read of one seed.
#[derive(Default)]
struct Lines {
    begin: u8,
    chunk: Option<u8>,
    options: u8,
    /// The stream, or the operations.
    body: Vec<u8>,
    expects: Option<String>,
}

impl Lines {
    fn take(&mut self, target: Target, word: &str, rest: &str, line: &str) -> Result<()> {
        match (target, word) {
            (_, "refused" | "ends") => self.expects = Some(line.to_owned()),
            (Target::Decode, "begin") => {
                let names = decode::BEGINNINGS;
                let place = names.iter().position(|name| *name == rest);
                let place = place.with_context(|| format!("begin with one of {names:?}"))?;
                self.begin = u8::try_from(place)?;
            }
            (Target::Decode, "chunk") => {
                let chunk = rest.parse().ok().filter(|chunk| (1..=64).contains(chunk));
                self.chunk = Some(chunk.context("a chunk has 1 to 64 bytes")?);
            }
            (Target::Decode, _) => self.body.extend(bytes(line)?),
            (Target::Server, "options") => self.options = argument(rest)?,
            (Target::Server, _) => self.body.extend(operation(word, rest)?),
        }
        ensure!(self.body.len() <= BYTES_MAX, "more than {BYTES_MAX} bytes");
        Ok(())
    }

    fn seed(self, target: Target, name: String) -> Result<Seed> {
        ensure!(!name.is_empty(), "a seed without a name");
        let first = match target {
            Target::Decode => (self.chunk.unwrap_or(8) - 1) << 2 | self.begin,
            Target::Server => self.options,
        };
        Ok(Seed {
            name,
            input: [&[first], &self.body[..]].concat(),
            expects: self.expects,
        })
    }
}

/// One operation, without the options before it.
fn operation(word: &str, rest: &str) -> Result<Vec<u8>> {
    let kind = Kind::named(word).with_context(|| format!("no operation is named `{word}`"))?;
    let (argument, bytes) = match kind {
        Kind::Raw => (0, bytes(rest)?),
        _ => (argument(rest)?, Vec::new()),
    };
    // A longer stream takes several operations.
    let len = u8::MAX.into();
    let chunks = bytes.chunks(len).chain(bytes.is_empty().then_some(&[][..]));
    let operations = chunks.map(|bytes| Operation {
        kind,
        argument,
        bytes,
    });
    Ok(operation::join(0, operations).split_off(1))
}

/// Two digits, or nothing for 0.
fn argument(text: &str) -> Result<u8> {
    match bytes(text)?[..] {
        [] => Ok(0),
        [byte] => Ok(byte),
        _ => bail!("an argument is one byte: {text}"),
    }
}

/// Reads up to `closing`, or to the end.
fn sequence(rest: &mut &str, closing: Option<char>) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        *rest = rest.trim_start();
        let Some(next) = rest.chars().next() else {
            ensure!(closing.is_none(), "`{}` is missing", closing.unwrap_or(' '));
            return Ok(read);
        };
        match next {
            _ if Some(next) == closing => {
                *rest = tail(rest, 1);
                return Ok(read);
            }
            ')' | ']' | '}' => {
                ensure!(closing.is_none(), "`{next}` in the place of {closing:?}");
                return Ok(read);
            }
            '"' => {
                let (text, after) = tail(rest, 1)
                    .split_once('"')
                    .context("the text has no closing quote")?;
                read.extend(text.bytes());
                *rest = after;
            }
            '(' => {
                *rest = tail(rest, 1);
                let inner = sequence(rest, Some(')'))?;
                read.extend(u16::try_from(inner.len())?.to_be_bytes());
                read.extend(inner);
            }
            '[' => {
                *rest = tail(rest, 1);
                let inner = sequence(rest, Some(']'))?;
                read.extend(remaining_length(inner.len()));
                read.extend(inner);
            }
            _ => read.extend(digits(rest)?),
        }
    }
}

/// Hexadecimal digits, or a number of times before `{`.
fn digits(rest: &mut &str) -> Result<Vec<u8>> {
    let len = rest
        .find(|char: char| !char.is_ascii_hexdigit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(len);
    if let Some(inner) = after.strip_prefix('{') {
        let times: usize = digits.parse().context("`{` follows a number of times")?;
        *rest = inner;
        let once = sequence(rest, Some('}'))?;
        ensure!(
            times * once.len() <= BYTES_MAX,
            "more than {BYTES_MAX} bytes"
        );
        return Ok(once.repeat(times));
    }
    ensure!(
        len > 0 && len.is_multiple_of(2),
        "`{}` is no pair of hexadecimal digits, text or bracket",
        rest.split_whitespace().next().unwrap_or_default()
    );
    *rest = after;
    let pairs = (0..len).step_by(2);
    let pairs = pairs.filter_map(|at| digits.get(at..at + 2));
    pairs
        .map(|pair| Ok(u8::from_str_radix(pair, 16)?))
        .collect()
}

fn tail(text: &str, from: usize) -> &str {
    text.get(from..).unwrap_or_default()
}

/// Lines without comments, each with the number of its first; one goes on while a bracket is open.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = 0;
    for (line, number) in text.lines().zip(1..) {
        let line = without_comment(line).trim();
        match lines.last_mut().filter(|_| open > 0) {
            Some((_, begun)) => *begun = format!("{begun} {line}"),
            None if line.is_empty() => continue,
            None => lines.push((number, line.to_owned())),
        }
        open += brackets(line);
    }
    lines
}

/// Brackets that a line opens, less those that it closes.
fn brackets(line: &str) -> i32 {
    // Every second part is a text.
    let outside = line.split('"').step_by(2).flat_map(str::chars);
    outside
        .map(|char| match char {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        })
        .sum()
}

/// `#` in a text is no comment: filters have it.
fn without_comment(line: &str) -> &str {
    let mut is_text = false;
    for (at, char) in line.char_indices() {
        match char {
            '"' => is_text = !is_text,
            '#' if !is_text => return line.get(..at).unwrap_or(line),
            _ => {}
        }
    }
    line
}
