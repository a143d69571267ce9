//! Asks a running gateway's admin server.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two lines: a large segment has to be opened on slow flash.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// A commit in base64, and more.
const LINE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// The JSON that the gateway at `address` answers for `path`.
pub(crate) fn get<T: DeserializeOwned>(address: SocketAddr, path: &str) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(fetch(address, path))
}

/// As [`get`], within a runtime.
pub(crate) async fn fetch<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<T> {
    let asked = async {
        tokio::time::timeout(TIMEOUT, ask(address, path))
            .await
            .context("no answer in time")?
    };
    let body = asked
        .await
        .with_context(|| format!("ask the gateway at {address} for {path}"))?;
    serde_json::from_slice(&body).context("read the gateway's answer")
}

/// Asks for `path` and hands each line of the answer to `take`, until that says that it is enough.
///
/// # Errors
/// The gateway is not there, refuses, or falls silent; `take` fails.
pub(crate) fn get_lines<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    mut take: impl FnMut(T) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = || format!("ask the gateway at {address} for {path}");
    runtime.block_on(async {
        let begun = tokio::time::timeout(TIMEOUT, begin(address, path)).await;
        let begun = begun.context("no answer in time").and_then(|begun| begun);
        let (mut body, connection) = begun.with_context(asked)?;
        let mut line = Vec::new();
        loop {
            let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
            let Some(frame) = frame
                .context("the gateway fell silent")
                .with_context(asked)?
            else {
                break;
            };
            let frame = frame
                .context("the answer ended in the middle")
                .with_context(asked)?;
            for part in frame
                .data_ref()
                .map_or(&[][..], |data| data)
                .split_inclusive(|b| *b == b'\n')
            {
                line.extend_from_slice(part);
                if line.len() > LINE_BYTES_MAX {
                    bail!("a line of the gateway's answer is too long");
                }
                if line.last() == Some(&b'\n') {
                    let read =
                        serde_json::from_slice(&line).context("read the gateway's answer")?;
                    line.clear();
                    if take(read)?.is_break() {
                        connection.abort();
                        return Ok(());
                    }
                }
            }
        }
        connection.abort();
        Ok(())
    })
}

async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let (body, connection) = begin(address, path).await?;
    let body = read_whole(body).await?;
    connection.abort();
    Ok(body)
}

async fn read_whole(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes())
}

/// The body of the answer, which is on its way, and the connection that brings it.
async fn begin(
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<(Incoming, JoinHandle<Result<(), hyper::Error>>)> {
    let stream = TcpStream::connect(address).await.context(
        "nobody answers there; is the gateway running, and is this its admin address (--admin)?",
    )?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if !status.is_success() {
        let body = read_whole(response.into_body()).await?;
        connection.abort();
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    Ok((response.into_body(), connection))
}
