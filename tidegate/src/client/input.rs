//! The payloads that `pub` publishes: one from the command line or a file, or the lines of standard
//! input as they come.
//!
//! Reading blocks, so it has a thread of its own; the channel between is short, so that a long input
//! is read no faster than the broker takes it.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cli::client::PubOptions;
use crate::client::connection::PACKET_BYTES_MAX;

const LINES_AHEAD: usize = 16;

/// Where the payloads come from.
#[derive(Debug)]
pub(super) enum Input {
    One(Option<Bytes>),
    Lines(mpsc::Receiver<anyhow::Result<Bytes>>),
}

impl Input {
    /// The input that the options name; a file is read as a whole.
    pub(super) fn open(options: &PubOptions) -> anyhow::Result<Self> {
        if options.lines {
            return Ok(Self::Lines(read_lines_aside()));
        }
        let payload = match (&options.message, &options.file) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(path)) if path.as_os_str() == "-" => {
                read_whole(io::stdin().lock()).context("read standard input")?
            }
            (None, Some(path)) => read_file(path)?,
            (None, None) => Bytes::new(),
        };
        Ok(Self::One(Some(payload)))
    }

    /// The next payload, `None` at the end; may be dropped half way.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::One(payload) => Ok(payload.take()),
            Self::Lines(lines) => lines.recv().await.transpose(),
        }
    }
}

fn read_file(path: &Path) -> anyhow::Result<Bytes> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("open {name}"))?;
    read_whole(file).with_context(|| format!("read {name}"))
}

fn read_whole(reader: impl Read) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    let limit = u64::from(PACKET_BYTES_MAX);
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    check_len(bytes.len())?;
    Ok(Bytes::from(bytes))
}

fn check_len(bytes: usize) -> anyhow::Result<()> {
    if bytes as u64 > u64::from(PACKET_BYTES_MAX) {
        bail!("the message is longer than {PACKET_BYTES_MAX} bytes");
    }
    Ok(())
}

fn read_lines_aside() -> mpsc::Receiver<anyhow::Result<Bytes>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    // Not joined: it may be blocked in a read when the process ends.
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let line = read_line(&mut stdin).context("read standard input");
            let is_last = !matches!(line, Ok(Some(_)));
            if let Some(line) = line.transpose()
                && sender.blocking_send(line).is_err()
            {
                return;
            }
            if is_last {
                return;
            }
        }
    });
    lines
}

/// A line without its end; the last one needs none.
fn read_line(reader: &mut impl BufRead) -> anyhow::Result<Option<Bytes>> {
    let mut line = Vec::new();
    let limit = u64::from(PACKET_BYTES_MAX) + 1;
    if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    check_len(line.len())?;
    Ok(Some(Bytes::from(line)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{PACKET_BYTES_MAX, read_line, read_whole};

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let mut text = Cursor::new(b"a\n\n b \r\nc\xff".as_slice());
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut text).unwrap() {
            lines.push(line.to_vec());
        }
        assert_eq!(lines, [b"a".as_slice(), b"", b" b ", b"c\xff"]);
    }

    #[test]
    fn message_is_refused_when_it_is_longer_than_a_packet() {
        let endless = std::io::repeat(b'x');
        let error = read_whole(endless).unwrap_err().to_string();
        assert_eq!(error, "the message is longer than 67108864 bytes");
        let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(read_line(&mut endless).is_err());
        assert_eq!(PACKET_BYTES_MAX, 64 << 20);
    }
}
