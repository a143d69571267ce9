//! The smallest HTTP client that can ask an admin endpoint: one GET, version 1.0, no redirects.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// An answer longer than this is cut.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines, as sent.
    pub headers: Vec<String>,
    /// The body as text.
    pub body: String,
}

/// Asks for `path`.
///
/// # Errors
/// When nobody listens, the server falls silent, or the answer is not HTTP.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    let asked = || format!("GET http://{server}{path}");
    let mut stream = TcpStream::connect_timeout(&server, SILENCE_MAX).with_context(asked)?;
    stream
        .set_read_timeout(Some(SILENCE_MAX))
        .with_context(asked)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(asked)?;
    let mut bytes = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .with_context(asked)?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{}: not HTTP", asked()))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        headers: lines.map(str::to_owned).collect(),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answer_is_split_into_status_headers_and_body() {
        let answer = parse("HTTP/1.0 503 Busy\r\nA: b\r\n\r\nnot\r\n\r\nyet").unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers, ["A: b"]);
        assert_eq!(answer.body, "not\r\n\r\nyet");
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }
}
