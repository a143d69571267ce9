//! Frames: a 32-bit length and as many bytes, which are one request or one response.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Read at once into an empty buffer. A frame that claims more grows as its bytes arrive.
const FIRST_READ_BYTES: usize = 16 * 1024;

/// Bytes that went over connections, framing included. Shared by all connections that are given the
/// same counter.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    /// Bytes read so far.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes taken by the kernel so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Why no frame could be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("read from the connection")]
    Io(#[source] Arc<io::Error>),
    #[error("frame of {length} bytes, between 0 and {bytes_max} are allowed")]
    Length { length: i32, bytes_max: usize },
    #[error("the connection ended inside a frame")]
    Truncated,
}

/// Reads frames from a stream. Bytes that arrive beyond a frame are kept for the next one.
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    bytes_max: usize,
    traffic: Arc<Traffic>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, bytes_max: usize, traffic: Arc<Traffic>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            bytes_max,
            traffic,
        }
    }

    /// The next frame without its length, or `None` when the peer closed between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        while self.buffer.len() < 4 {
            if self.read_more(FIRST_READ_BYTES).await? == 0 {
                let whole = self.buffer.is_empty();
                return if whole {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            }
        }
        let length = self.buffer.get_i32();
        let bytes_max = self.bytes_max;
        let bytes = match usize::try_from(length) {
            Ok(bytes) if bytes <= bytes_max => bytes,
            _ => return Err(FrameError::Length { length, bytes_max }),
        };
        while self.buffer.len() < bytes {
            // Double what there is, so that only bytes that came make the buffer large.
            let missing = bytes - self.buffer.len();
            let reserve = missing.min(self.buffer.len().max(FIRST_READ_BYTES));
            if self.read_more(reserve).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    async fn read_more(&mut self, reserve: usize) -> Result<usize, FrameError> {
        self.buffer.reserve(reserve);
        let read = self.stream.read_buf(&mut self.buffer).await;
        let read = read.map_err(|source| FrameError::Io(Arc::new(source)))?;
        self.traffic.add_received(read);
        Ok(read)
    }
}

/// Writes `frame`, counting what the kernel takes piece by piece.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut frame: Bytes,
    traffic: &Traffic,
) -> io::Result<()> {
    while frame.has_remaining() {
        let written = stream.write_buf(&mut frame).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        traffic.add_sent(written);
    }
    stream.flush().await
}

/// A whole frame with request header and body.
pub(crate) fn encode_request<R: Request>(
    body: &R,
    version: i16,
    correlation_id: i32,
    client_id: &StrBytes,
) -> Result<Bytes, EncodeError> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id.clone()));
    let header_version = R::header_version(version);
    encode(&header, header_version, body, version)
}

/// A whole frame with `header` and `body`.
pub(crate) fn encode<H: Encodable, B: Encodable>(
    header: &H,
    header_version: i16,
    body: &B,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let header_bytes = header.compute_size(header_version).map_err(failed)?;
    let body_bytes = body.compute_size(version).map_err(failed)?;
    let length = header_bytes + body_bytes;
    let prefix = i32::try_from(length)
        .map_err(|_| EncodeError(format!("{length} bytes are more than a frame can have")))?;
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.extend_from_slice(&prefix.to_be_bytes());
    header.encode(&mut frame, header_version).map_err(failed)?;
    body.encode(&mut frame, version).map_err(failed)?;
    Ok(frame.freeze())
}

fn failed(error: impl std::fmt::Display) -> EncodeError {
    EncodeError(format!("{error:#}"))
}

/// A message that cannot be written, which is the fault of whoever built it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub(crate) String);
