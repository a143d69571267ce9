//! The task behind a connection: one future writes requests, one reads responses, one watches the
//! clock; the first that ends, ends all three. Writing must not keep the reader waiting: a broker
//! that cannot deliver a response stops reading requests.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

use super::Shared;
use super::inflight::{InFlight, InFlightQueue, Unanswered};
use crate::error::Lost;
use crate::frame::{FrameError, FrameReader, write_frame};

/// A request to be sent.
pub(super) struct Outgoing {
    pub(super) frame: Bytes,
    pub(super) inflight: InFlight,
}

/// Runs until the connection ends.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    mut requests: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
    frame_bytes_max: usize,
) {
    let (read_half, write_half) = split(stream);
    let inflight = InFlightQueue::default();
    let reader = FrameReader::new(read_half, frame_bytes_max, Arc::clone(&shared.traffic));
    let lost = tokio::select! {
        biased;
        lost = read_responses(reader, &inflight) => lost,
        lost = write_requests(write_half, &mut requests, &inflight, &shared) => lost,
        (api, timeout) = inflight.overdue() => Lost::TimedOut { api, timeout },
    };
    // The reason first, so that whoever learns of the end finds it.
    let _ = shared.lost.set(lost);
    requests.close();
    inflight.fail_all();
    while let Ok(outgoing) = requests.try_recv() {
        let _ = outgoing
            .inflight
            .reply
            .send(Err(Unanswered::Lost { sent: false }));
    }
}

async fn write_requests<S: AsyncWrite>(
    mut stream: WriteHalf<S>,
    requests: &mut mpsc::Receiver<Outgoing>,
    inflight: &InFlightQueue,
    shared: &Shared,
) -> Lost {
    while let Some(outgoing) = requests.recv().await {
        // Before the first byte: from here on the broker may know of it, and may answer at once.
        inflight.push(outgoing.inflight);
        let written = write_frame(&mut stream, outgoing.frame, &shared.traffic).await;
        if let Err(source) = written {
            let action = "write to the connection";
            return Lost::Io {
                action,
                source: Arc::new(source),
            };
        }
    }
    Lost::Dropped
}

async fn read_responses<S: AsyncRead>(
    mut reader: FrameReader<ReadHalf<S>>,
    inflight: &InFlightQueue,
) -> Lost {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Lost::ClosedByBroker,
            Err(error) => return error.into(),
        };
        if let Err(lost) = complete(frame, inflight) {
            return lost;
        }
    }
}

/// Hands a response, without its correlation id, to the request that it answers.
fn complete(mut frame: Bytes, inflight: &InFlightQueue) -> Result<(), Lost> {
    let bytes = frame.len();
    let found = frame.try_get_i32().map_err(|_| Lost::Header { bytes })?;
    let request = inflight
        .pop(found)
        .map_err(|expected| Lost::Unexpected { found, expected })?;
    // Whoever dropped the other end does not want the answer.
    let _ = request.reply.send(Ok(frame));
    Ok(())
}

impl From<FrameError> for Lost {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(source) => Self::Io {
                action: "read from the connection",
                source,
            },
            FrameError::Length { length, bytes_max } => Self::FrameLength { length, bytes_max },
            FrameError::Truncated => Self::Truncated,
        }
    }
}
