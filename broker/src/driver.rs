//! The task of a connection: moves bytes and time between the socket and the state machine.
//!
//! One poll reads once, works off everything that was read, and writes everything there is with as
//! few vectored writes as the socket takes. There is one timer, and it is moved only when a deadline
//! comes closer.
//!
//! Invariants: a connection that is idle has no read buffer; what is read lies in a buffer that all
//! connections share, and only the beginning of a packet is kept here. A client that does not read
//! holds up nobody: its socket is closed a moment after its connection has ended.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mqtt::ReasonCode;
use mqtt::server::Event;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout};

use crate::client::{Client, Progress};
use crate::retained_delivery::Feed;
use crate::router::{Router, Stage, now};

/// Bytes that are read in one go, and what must be free of the shared buffer for that.
const READ_BYTES: usize = 65_536;
const READ_BYTES_MIN: usize = 8_192;

/// Reads before others have their turn. The second one most often finds nothing, which is how the
/// task comes to be woken for more.
const READS_MAX: u32 = 2;

/// Chunks in one vectored write.
const SLICES_MAX: usize = 32;

/// How long the last bytes may take to reach the client, and the client to close its side.
const LINGER: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Driver {
    client: Client,
    stream: TcpStream,
    /// What was read and is no whole packet yet, or may not be taken yet.
    input: BytesMut,
    /// It lies in the shared buffer, where it must not stay.
    is_input_shared: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer goes off, if it is running.
    armed: Option<Instant>,
    counted: Counted,
}

/// What of this connection is in the gauges.
#[derive(Clone, Copy, Default)]
struct Counted {
    queued_messages: usize,
    queued_bytes: usize,
    held: usize,
}

impl Driver {
    pub(crate) fn new(client: Client, stream: TcpStream) -> Self {
        Self {
            client,
            stream,
            input: BytesMut::new(),
            is_input_shared: false,
            timer: None,
            armed: None,
            counted: Counted::default(),
        }
    }

    /// Runs until the connection is over.
    pub(crate) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
        // Whoever does not take its last words in time goes without.
        let _in_time = timeout(LINGER, self.close()).await;
    }

    fn router(&self) -> &Router {
        &self.client.router
    }

    /// Does everything there is to do. Ready when the connection has ended; what is to be written
    /// then is left to [`close`](Self::close).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.connection.signal.register(cx);
        let mut reads = 0;
        loop {
            let now = now();
            let mut progress = self.handle_stage();
            progress |= self.handle_input(now);
            progress |= self.client.poll_authentication(now, cx);
            let feed = self.client.feed_retained(now);
            progress |= self.poll_write(cx, now);
            self.client.pump(now);
            progress |= self.poll_timer(cx, now);
            if self.client.has_ended() {
                self.count(true);
                return Poll::Ready(());
            }
            if reads < READS_MAX && self.poll_read(cx) {
                reads += 1;
                continue;
            }
            if feed == Feed::GoesOn || (!progress && reads == READS_MAX) {
                // There may be more. First, others have their turn.
                cx.waker().wake_by_ref();
                break;
            }
            if !progress {
                break;
            }
        }
        self.count(false);
        Poll::Pending
    }

    /// When the broker closes, so does the connection, also one that has ended and whose last
    /// publish waits: nothing is waited for any more.
    fn handle_stage(&self) -> bool {
        let connection = &self.client.connection;
        if self.router().stage() < Stage::Closing || connection.is_cut() {
            return false;
        }
        connection.disconnect(ReasonCode::ServerShuttingDown);
        true
    }

    /// Works off what was read; whether there was anything.
    fn handle_input(&mut self, now: Instant) -> bool {
        let mut progress = self.router().stage() == Stage::Running && self.client.retry_held(now);
        while self.is_taken_from() {
            let connection = &self.client.connection;
            connection
                .machine
                .borrow_mut()
                .handle_bytes(now, &mut self.input);
            let mut came = false;
            while let Some(event) = self.next_event() {
                came = true;
                self.client.handle_event(now, event);
            }
            if !came {
                break;
            }
            progress = true;
        }
        if std::mem::take(&mut self.is_input_shared) {
            self.input = match self.input.is_empty() {
                true => BytesMut::new(),
                false => BytesMut::from(&self.input[..]),
            };
        }
        progress
    }

    fn next_event(&self) -> Option<Event> {
        let may = self.is_taken_from();
        may.then(|| self.client.connection.machine.borrow_mut().poll_event())?
    }

    /// Whether events are taken from the state machine: not while a publish waits for the next
    /// commit, even if its client has said good-bye meanwhile; nor while the broker drains. A
    /// connection that the broker has ended waits for nothing.
    fn is_taken_from(&self) -> bool {
        let waits = self.client.held.is_paused() || self.router().stage() == Stage::Draining;
        !self.client.has_ended() && (!waits || self.client.connection.is_cut())
    }

    /// Reads once, if the state machine wants to; whether something came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let wants_read = self.client.connection.machine.borrow().wants_read();
        if !wants_read || self.router().stage() != Stage::Running {
            return false;
        }
        let router = Rc::clone(&self.client.router);
        let mut shared = router.read_buffer.borrow_mut();
        let is_shared = self.input.is_empty();
        let (buffer, bytes) = match is_shared {
            true => (&mut *shared, READ_BYTES),
            // Whoever sends half a packet gets no more memory than it fills.
            false => (&mut self.input, READ_BYTES_MIN),
        };
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(bytes);
        }
        match pin!(self.stream.read_buf(buffer)).poll(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                if is_shared {
                    self.input = shared.split();
                    self.is_input_shared = true;
                }
                router.counters.bytes_received.add(bytes as u64);
            }
            Poll::Ready(_) => {
                let mut machine = self.client.connection.machine.borrow_mut();
                machine.handle_end_of_stream();
            }
        }
        true
    }

    /// Writes as much as the socket takes; whether it took anything.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let connection = Rc::clone(&self.client.connection);
        let mut machine = connection.machine.borrow_mut();
        let mut progress = false;
        // After the end it is left to `close`, which has its own time for it.
        while !machine.is_closed() && machine.transmit_buffer().has_remaining() {
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let buffer = machine.transmit_buffer();
                let filled = buffer.chunks_vectored(&mut slices);
                let slices = slices.get(..filled).unwrap_or_default();
                Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
            };
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    machine.transmit_buffer().advance(bytes);
                    machine.handle_transmitted(now);
                    self.client.router.counters.bytes_sent.add(bytes as u64);
                }
                Poll::Ready(_) => machine.handle_end_of_stream(),
            }
            progress = true;
        }
        progress
    }

    /// Looks at the clock; whether a deadline has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let connection = Rc::clone(&self.client.connection);
        loop {
            let deadline = connection.machine.borrow().poll_timeout();
            let authenticating = match &self.client.progress {
                Progress::Authenticating(authenticating) => authenticating.deadline,
                _ => None,
            };
            let Some(deadline) = deadline.into_iter().chain(authenticating).min() else {
                return false;
            };
            if deadline <= now {
                connection.machine.borrow_mut().handle_timeout(now);
                return true;
            }
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.arm(deadline);
            }
            let Some(timer) = &mut self.timer else {
                return false;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            // It was set for a deadline that has moved on since.
            self.armed = None;
            if crate::router::now() >= deadline {
                return true;
            }
        }
    }

    fn arm(&mut self, deadline: Instant) {
        self.armed = Some(deadline);
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline.into()),
            None => self.timer = Some(Box::pin(sleep_until(deadline.into()))),
        }
    }

    /// Brings the gauges into line.
    fn count(&mut self, is_over: bool) {
        self.client.connection.weigh();
        let counted = match is_over {
            true => Counted::default(),
            false => {
                let session = self.client.session();
                let (queued_messages, queued_bytes) = session.map_or((0, 0), |session| {
                    let outbound = session.state.outbound.borrow();
                    (outbound.mailbox_messages(), outbound.mailbox_bytes())
                });
                Counted {
                    queued_messages,
                    queued_bytes,
                    held: self.client.held.len(),
                }
            }
        };
        let (old, counters) = (self.counted, &self.client.router.counters);
        let mut machine = self.client.connection.machine.borrow_mut();
        let packets = machine.take_packet_counts();
        drop(machine);
        counters.packets_received.add(packets.received.into());
        counters.packets_sent.add(packets.sent.into());
        counters
            .mailboxes_bytes
            .set(self.router().mailboxes.taken());
        let (messages, bytes) = (&counters.queued_messages, &counters.queued_bytes);
        messages.replace(old.queued_messages, counted.queued_messages);
        bytes.replace(old.queued_bytes, counted.queued_bytes);
        counters.held_publishes.replace(old.held, counted.held);
        self.counted = counted;
    }

    /// Writes what is left, and waits for the client to close its side. To close a socket with
    /// unread bytes in it resets it, and the client would lose what it was told last.
    async fn close(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.client.connection.machine.borrow_mut().poll_transmit();
            let Some(chunk) = chunk else {
                break;
            };
            self.stream.write_all(&chunk).await?;
        }
        self.stream.shutdown().await?;
        let mut rest = BytesMut::with_capacity(READ_BYTES_MIN);
        while self.stream.read_buf(&mut rest).await? > 0 {
            rest.clear();
        }
        Ok(())
    }
}
