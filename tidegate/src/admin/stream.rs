//! Answers that are too large for one piece: JSON lines, made on a thread of their own while the
//! client reads them.
//!
//! Invariants: no more than a few lines wait for the client; the thread ends soon after the client
//! went; there are at most [`STREAMS_MAX`] at a time, below the priority of everything else.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

/// Streams at a time: each one reads the whole flash.
pub(super) const STREAMS_MAX: usize = 2;
/// Lines that wait for the client.
const LINES_MAX: usize = 4;
/// Below everybody else: devices come first.
const NICENESS: i32 = 10;

/// When the client last took something; `None` while it waits for us.
pub(super) type LastTaken = Rc<Cell<Option<Instant>>>;

/// The body of an answer.
pub(super) enum AnswerBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// Lines as they come.
    Lines {
        /// From the thread that makes them.
        lines: mpsc::Receiver<Bytes>,
        /// Told to the connection, which ends when the client does not read.
        taken: LastTaken,
    },
}

/// How many streams there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<AtomicUsize>);

/// One of them.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Streams {
    /// Starts `make` on a thread; `None` if there are too many already. `make` is to end when it is
    /// told to break off: the client is gone.
    pub(super) fn start<T: Serialize>(
        &self,
        taken: &LastTaken,
        make: impl FnOnce(&mut dyn FnMut(&T) -> ControlFlow<()>) + Send + 'static,
    ) -> std::io::Result<Option<AnswerBody>> {
        let place = Place(Arc::clone(&self.0));
        if self.0.fetch_add(1, Ordering::AcqRel) >= STREAMS_MAX {
            return Ok(None);
        }
        let (sender, lines) = mpsc::channel(LINES_MAX);
        thread::Builder::new()
            .name("log-stream".to_owned())
            .spawn(move || {
                let _place = place;
                // On Linux this is of the thread alone. Without it, it only is less polite.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                make(&mut |line| {
                    let Ok(mut text) = serde_json::to_vec(line) else {
                        return ControlFlow::Break(());
                    };
                    text.push(b'\n');
                    match sender.blocking_send(text.into()) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                });
            })?;
        Ok(Some(AnswerBody::Lines {
            lines,
            taken: Rc::clone(taken),
        }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Lines { lines, taken } => {
                let polled = lines.poll_recv(context);
                taken.set(polled.is_ready().then(Instant::now));
                polled.map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }
}
