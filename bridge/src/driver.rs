//! Does what a [`Stream`] asks for: talks to the leader, reads the log, keeps the state durable.
//!
//! One task for each partition of a route. Everything that decides about exactly-once is in the
//! stream; here are sockets, times and files.

mod durable;
mod report;
mod requests;
mod sending;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use storage::{AppendError, CommitNumber, Gap, LogPartition, Pin, Store};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::checkpoint::encode;
use crate::feed::Feed;
use crate::link::{Leader, Link, LinkError, Topic};
use crate::status::BridgeProbe;
use crate::stream::{Action, Stream};
use sending::InFlight;

/// Positions are not written more often than this while records flow.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Shortest pause after a refusal or a cut.
const REST_MIN: Duration = Duration::from_millis(50);
/// Lag is not told more often than this while nothing flows: it is for people and for scrapes, and
/// many partitions may stand still while the store commits hundreds of times a second.
const LAG_EVERY: Duration = Duration::from_millis(100);

/// What all streams of the bridge share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) probe: BridgeProbe,
    /// Bytes that may still go in flight, in KiB.
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) budget_units: usize,
    /// Changes with every commit of the store.
    pub(crate) progress: watch::Receiver<u64>,
    /// True when it is time to end.
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) checkpoint_within: Duration,
    pub(crate) batch_bytes_max: usize,
}

impl Shared {
    /// Waits for something that may take long, and meanwhile says again and again, as the log grows,
    /// how much waits behind it.
    pub(crate) async fn tell_while<T>(
        &self,
        mut tell: impl FnMut(),
        something: impl Future<Output = T>,
    ) -> T {
        let mut something = pin!(something);
        let mut progress = self.progress.clone();
        loop {
            progress.mark_unchanged();
            tell();
            let news = async {
                sleep(LAG_EVERY).await;
                progress.changed().await
            };
            tokio::select! {
                done = &mut something => return done,
                // Without a store there is nothing new to tell.
                Ok(()) = news => {}
            }
        }
    }
}

/// Which stream of which route.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) route: String,
    pub(crate) partition: LogPartition,
    pub(crate) target: i32,
    pub(crate) topic: Topic,
}

/// Why a driver ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was asked to.
    Shutdown,
    /// The topic is another one: the route must be mapped anew.
    TopicReplaced,
    /// The store takes nothing any more.
    Store(AppendError),
}

/// See the module's documentation.
pub(crate) struct Driver {
    shared: Shared,
    place: Place,
    link: Arc<Link>,
    stream: Stream,
    /// Away while a blocking thread reads with it.
    feed: Option<Feed>,
    leader: Option<Leader>,
    in_flight: VecDeque<InFlight>,
    span_starts: Vec<u64>,
    /// Why the records before the stream's barrier are missing.
    gap: Option<Gap>,
    pause: Backoff,
    /// Nothing is asked or sent anew before, because the cluster refused or cut.
    rest_until: Instant,
    old_requests_until: Instant,
    last_checkpoint: Instant,
    checkpointed: u64,
    /// What the log may let go of when this commit is durable.
    pin: Pin,
    unpinned: Option<(CommitNumber, u64)>,
    batch_limit: usize,
    batch_target: usize,
    restamp: bool,
    throttled_until: Instant,
    last_answer: Instant,
    /// When a connection was lost, or the cluster said something that does not go with what we know
    /// of its leaders.
    metadata_stale_since: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        shared: Shared,
        place: Place,
        link: Arc<Link>,
        stream: Stream,
        feed: Feed,
    ) -> Self {
        let now = Instant::now();
        let batch_limit = shared.batch_bytes_max;
        Self {
            pause: Backoff::new(shared.backoff_max),
            rest_until: now,
            old_requests_until: now + shared.request_timeout * 2,
            checkpointed: stream.acknowledged(),
            pin: shared.store.pin(&place.route),
            unpinned: None,
            span_starts: feed.span_starts(),
            feed: Some(feed),
            place,
            link,
            stream,
            leader: None,
            in_flight: VecDeque::new(),
            gap: None,
            last_checkpoint: now,
            batch_limit,
            batch_target: batch_limit.min(64 * 1024),
            restamp: false,
            throttled_until: now,
            last_answer: now,
            metadata_stale_since: None,
            shared,
        }
    }

    /// Runs until it is told to end, the topic is another one, or the store is closed.
    pub(crate) async fn run(mut self) -> End {
        loop {
            self.look_around();
            let ending = *self.shared.shutdown.borrow();
            if ending && self.in_flight.is_empty() {
                return self.end(End::Shutdown).await;
            }
            let action = self.stream.next_action();
            let result = match action {
                Action::Send { .. } if ending => self.await_answer().await,
                action => self.perform(action).await,
            };
            if let Err(end) = result {
                return self.end(end).await;
            }
        }
    }

    async fn end(&mut self, end: End) -> End {
        let state = self.stream.state().clone();
        match self.persist(encode(&state)).await {
            Err(End::Store(error)) if !matches!(end, End::Shutdown) => End::Store(error),
            _ => end,
        }
    }

    /// Brings the stream up to date with the log and the clock, and the status with the stream.
    fn look_around(&mut self) {
        let high_watermark = self.shared.store.high_watermark(self.place.partition).0;
        self.stream.handle_available(high_watermark);
        self.stream
            .set_aged(!self.shared.store.clock_is_plausible());
        if Instant::now() >= self.old_requests_until {
            self.stream.handle_old_requests_dead();
        }
        self.end_producer_with_its_span();
        self.move_pin();
        self.tell_status(high_watermark);
    }

    /// A producer id is of one span: what a copy of this folder sends must not look like a resend.
    fn end_producer_with_its_span(&mut self) {
        let Some(producer) = self.stream.state().producer else {
            return;
        };
        if !self.stream.has_barrier()
            && let Some(start) = self
                .span_starts
                .iter()
                .find(|start| **start > producer.start)
        {
            self.stream.handle_barrier(*start, *start, 0);
        }
    }

    async fn perform(&mut self, action: Action) -> Result<(), End> {
        let begins_anew = matches!(
            action,
            Action::Connect | Action::EpochEnd | Action::InitProducerId
        );
        if begins_anew && Instant::now() < self.rest_until {
            return self.wait_until(self.rest_until).await;
        }
        match action {
            Action::Answer => self.await_answer().await,
            Action::Connect => self.connect().await,
            Action::Idle => self.idle().await,
            Action::LetOldRequestsDie => self.wait_until(self.old_requests_until).await,
            Action::Pause => self.wait_out_refusal().await,
            Action::Persist => self.persist_for_stream().await,
            Action::Send { from, limit } => self.send(from, limit).await,
            Action::Halt(halt) => {
                // No answer matters any more; others may use the budget, and the end need not wait.
                self.in_flight.clear();
                self.trouble(halt.explanation().to_owned(), None);
                self.wait_until(Instant::now() + self.shared.backoff_max)
                    .await
            }
            Action::EpochEnd
            | Action::HighWatermark
            | Action::InitProducerId
            | Action::Producers
            | Action::Scan { .. } => self.ask(action).await,
        }
    }

    // Connection

    async fn connect(&mut self) -> Result<(), End> {
        if let Some(time) = self.metadata_stale_since.take() {
            self.link.forget_metadata_of(time).await;
        }
        let mut shutdown = self.shared.shutdown.clone();
        let found = async {
            tokio::select! {
                found = self.link.leader(self.place.target, &self.place.topic) => Some(found),
                _ = shutdown.wait_for(|ending| *ending) => None,
            }
        };
        let Some(found) = self.shared.tell_while(|| self.tell_lag(), found).await else {
            return Ok(());
        };
        match found {
            Ok(leader) => {
                self.leader = Some(leader);
                self.batch_limit = self.shared.batch_bytes_max;
                self.stream.handle_connected();
                Ok(())
            }
            Err(LinkError::Replaced { .. }) => Err(End::TopicReplaced),
            Err(error) => {
                let remedy = error.code().and_then(|code| code.remedy());
                self.trouble(with_causes(&error), remedy);
                Ok(())
            }
        }
    }

    fn disconnected(&mut self) {
        self.leader = None;
        self.metadata_stale_since = Some(Instant::now());
        if !self.in_flight.is_empty() {
            self.in_flight.clear();
            self.old_requests_until = Instant::now() + self.shared.request_timeout * 2;
        }
        self.stream.handle_disconnected();
    }

    // Waiting

    async fn wait_until(&mut self, until: Instant) -> Result<(), End> {
        let mut shutdown = self.shared.shutdown.clone();
        let over = async {
            tokio::select! {
                () = sleep_until(until) => {}
                _ = shutdown.wait_for(|ending| *ending) => {}
            }
        };
        self.shared.tell_while(|| self.tell_lag(), over).await;
        Ok(())
    }

    /// Lets the next attempt wait, longer each time until a batch is taken: a broker that answers at
    /// once, but never what is wanted, must not have the batch sent to it without end.
    fn rest(&mut self) {
        let pause = self.pause.next().max(REST_MIN);
        self.rest_until = Instant::now() + pause;
    }

    async fn wait_out_refusal(&mut self) -> Result<(), End> {
        let pause = self.pause.next().max(Duration::from_millis(200));
        self.wait_until(Instant::now() + pause).await?;
        self.link.forget_metadata_of(Instant::now()).await;
        self.stream.handle_pause_over();
        Ok(())
    }

    /// Nothing to do until there are records, the connection is lost, or it is time to end.
    async fn idle(&mut self) -> Result<(), End> {
        self.checkpoint(Duration::ZERO)?;
        let Some(leader) = self.leader.clone() else {
            self.disconnected();
            return Ok(());
        };
        let mut progress = self.shared.progress.clone();
        progress.mark_unchanged();
        let high_watermark = self.shared.store.high_watermark(self.place.partition).0;
        if high_watermark > self.stream.acknowledged() {
            self.stream.handle_available(high_watermark);
            if self.stream.next_action() != Action::Idle {
                return Ok(());
            }
        }
        let mut shutdown = self.shared.shutdown.clone();
        tokio::select! {
            changed = progress.changed() => {
                if changed.is_err() {
                    return Err(End::Shutdown);
                }
            }
            _ = shutdown.wait_for(|ending| *ending) => {}
            lost = leader.connection.closed() => {
                self.trouble(with_causes(&lost), None);
                self.disconnected();
            }
            // Old requests die, and the position is written, also when nothing else happens.
            () = sleep(CHECKPOINT_EVERY) => {}
        }
        Ok(())
    }
}

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
