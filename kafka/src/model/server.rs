//! The model behind a real socket on 127.0.0.1, and the handle by which tests and the demonstration
//! hold it.
//!
//! Invariants:
//! - Requests of a connection are handled one after another, as Kafka does it; a batch is judged
//!   and appended in one step, which stopping or cutting cannot split.
//! - Connections, request sizes and stored bytes are bounded by [`ModelOptions`].
//! - When the last handle goes, listener and connections go.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use record_batch::Record;
use tokio::io::split;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::faults::ProduceFault;
use super::node::{Counters, ModelOptions, Node};
use super::partition::Partition;
use super::requests::{self, Answer};
use crate::error_code::ErrorCode;
use crate::frame::{FrameReader, Traffic, write_frame};
use crate::messages::TopicId;

/// What every connection looks at before it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// Requests are taken and not handled.
    stalled: bool,
    /// Every answer waits this long.
    delay: Duration,
    /// Counts the cuts; when it changes, all connections end.
    cuts: u64,
    /// Listener and connections end.
    down: bool,
}

/// What server and handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    node: Mutex<Node>,
    gate: watch::Sender<Gate>,
    /// Told of every append and every move of a high watermark.
    changed: watch::Sender<()>,
    traffic: Arc<Traffic>,
}

impl Shared {
    pub(super) fn node(&self) -> MutexGuard<'_, Node> {
        // A panic under the lock is a bug that the test which caused it reports.
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn announce_change(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn now_ms(&self) -> i64 {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The listening task; ends with the last handle.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = self.listening().take() {
            task.abort();
        }
    }
}

/// A model broker. Clones hold the same broker.
#[derive(Clone, Debug)]
pub struct ModelHandle(Arc<Running>);

impl ModelHandle {
    /// Starts a broker with no topics.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(options: ModelOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            node: Mutex::new(Node::new(options)),
            gate: watch::Sender::new(Gate::default()),
            changed: watch::Sender::new(()),
            traffic: Arc::default(),
        });
        let task = accept_with(listener, &shared);
        Ok(Self(Arc::new(Running {
            shared,
            listening: Mutex::new(Some(task)),
        })))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// `host:port`, as [`Connection::connect`](crate::Connection::connect) takes it. It stays the
    /// same over stops.
    pub fn address(&self) -> String {
        self.shared().address.to_string()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// The broker's error code.
    pub fn create_topic(&self, name: &str, partition_count: i32) -> Result<TopicId, ErrorCode> {
        self.shared()
            .node()
            .create_topic(name, partition_count, false)
    }

    /// Deletes a topic, if it is there, and creates it under a new topic id.
    ///
    /// # Errors
    /// The broker's error code.
    pub fn recreate_topic(&self, name: &str, partition_count: i32) -> Result<TopicId, ErrorCode> {
        let created = self
            .shared()
            .node()
            .create_topic(name, partition_count, true);
        self.shared().announce_change();
        created
    }

    /// From now on the topic is refused with `code`; with [`ErrorCode::NONE`] no longer.
    pub fn refuse_topic(&self, name: &str, code: ErrorCode) {
        self.shared().node().refuse_topic(name, code);
    }

    /// Looks at a partition, or changes it: moves its high watermark, begins a leader epoch, trims
    /// it, forgets producers. `None` if there is no such partition.
    pub fn with_partition<T>(
        &self,
        topic: &str,
        partition: i32,
        with: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let mut node = self.shared().node();
        let index = usize::try_from(partition).ok()?;
        let result = with(node.topics.get_mut(topic)?.partitions.get_mut(index)?);
        drop(node);
        self.shared().announce_change();
        Some(result)
    }

    /// All records of a partition from its log start on, whatever its high watermark; empty if
    /// there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let records = self.with_partition(topic, partition, |partition| partition.records());
        records.unwrap_or_default()
    }

    /// The number of partitions of a topic; 0 if there is no such topic.
    pub fn partition_count(&self, topic: &str) -> usize {
        let node = self.shared().node();
        node.topics
            .get(topic)
            .map_or(0, |topic| topic.partitions.len())
    }

    /// What the model has seen and done.
    pub fn counters(&self) -> Counters {
        self.shared().node().counters
    }

    /// Bytes received and sent over all connections.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.shared().traffic)
    }

    /// The sweep by which a broker forgets producers, as if it were `now_ms`.
    pub fn expire_producers(&self, now_ms: i64) {
        let mut node = self.shared().node();
        node.all_partitions()
            .for_each(|partition| partition.expire_producers(now_ms));
    }

    /// The next `count` batches for a partition suffer `fault`, after those of earlier calls.
    pub fn inject(&self, topic: &str, partition: i32, fault: ProduceFault, count: u32) {
        self.shared()
            .node()
            .faults
            .inject(topic, partition, fault, count);
    }

    /// Takes back all faults that have not struck; returns for how many batches they were meant.
    pub fn clear_faults(&self) -> u64 {
        let mut node = self.shared().node();
        let waiting = node.faults.waiting();
        node.faults.clear();
        waiting
    }

    /// Every answer from now on waits this long.
    pub fn delay(&self, delay: Duration) {
        self.shared().gate.send_modify(|gate| gate.delay = delay);
    }

    /// From now on requests are taken and not handled, until [`Self::resume`]; connections are
    /// accepted.
    pub fn stall(&self) {
        self.shared().gate.send_modify(|gate| gate.stalled = true);
    }

    /// Handles what came during a stall, even of clients that are gone.
    pub fn resume(&self) {
        self.shared().gate.send_modify(|gate| gate.stalled = false);
    }

    /// Resets all connections; new ones are accepted.
    pub fn cut_connections(&self) {
        self.shared().gate.send_modify(|gate| gate.cuts += 1);
    }

    /// Whether the broker is up.
    pub fn is_running(&self) -> bool {
        self.0.listening().is_some()
    }

    /// Every partition forgets every producer: a leader whose state was neither in a snapshot nor
    /// in its log.
    pub fn lose_producer_states(&self) {
        let mut node = self.shared().node();
        node.all_partitions()
            .for_each(Partition::lose_producer_state);
    }

    /// Takes the broker down, whether killed or in good order: connections are reset, new ones
    /// refused.
    pub async fn stop(&self) {
        let Some(task) = self.0.listening().take() else {
            return;
        };
        self.shared().gate.send_modify(|gate| gate.down = true);
        // Whether it ended in order or by a panic: listener and connections are gone.
        let _ = task.await;
    }

    /// Brings the broker back at the same address, see [`Partition::restart`]. Nothing happens if
    /// it is up.
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub async fn restart(&self) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.shared().address).await?;
        let mut node = self.shared().node();
        node.all_partitions().for_each(Partition::restart);
        drop(node);
        self.shared().gate.send_modify(|gate| gate.down = false);
        let task = accept_with(listener, self.shared());
        *self.0.listening() = Some(task);
        Ok(())
    }
}

/// Begins to accept connections. The gate is looked at from now on: a stop may come before the task
/// has begun to run.
fn accept_with(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    let gate = shared.gate.subscribe();
    tokio::spawn(accept(listener, Arc::clone(shared), gate))
}

/// Accepts connections until the broker goes down or its last handle goes; the connections end with
/// it.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut gate: watch::Receiver<Gate>) {
    let connections_max = shared.node().options.connections_max.max(1);
    let mut connections = JoinSet::new();
    let mut cuts = gate.borrow().cuts;
    loop {
        tokio::select! {
            biased;
            changed = gate.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *gate.borrow_and_update();
                if now.down {
                    drop(listener);
                    connections.shutdown().await;
                    return;
                }
                if now.cuts != cuts {
                    cuts = now.cuts;
                    connections.shutdown().await;
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < connections_max => {
                // What fails here is the peer's affair, or passes.
                if let Ok((stream, _)) = accepted {
                    shared.node().counters.connections += 1;
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        }
    }
}

/// Serves one connection until it ends; dropping it resets it.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Dropped by the model means reset, so that nothing half delivered looks like an answer.
    if stream.set_nodelay(true).is_err() || stream.set_zero_linger().is_err() {
        return;
    }
    let bytes_max = shared.node().options.frame_bytes_max;
    let (read_half, mut write_half) = split(stream);
    let mut reader = FrameReader::new(read_half, bytes_max, Arc::clone(&shared.traffic));
    let mut gate = shared.gate.subscribe();
    while let Ok(Some(frame)) = reader.next().await {
        // The sender lives in `shared`.
        let _ = gate.wait_for(|gate| !gate.stalled).await;
        shared.node().counters.requests += 1;
        let answer: Bytes = match requests::answer(&shared, frame).await {
            Answer::Cut => return,
            Answer::Frame(frame) => frame,
            Answer::Silence => continue,
        };
        let delay = gate.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if write_frame(&mut write_half, answer, &shared.traffic)
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_is_heard_before_the_first_connection_could_come() {
        // Of one thread: the accepting task begins only when somebody waits.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let model = ModelHandle::start(ModelOptions::default()).await.unwrap();
            for _ in 0..3 {
                let stopped = tokio::time::timeout(Duration::from_secs(60), model.stop()).await;
                stopped.expect("it stops");
                model.restart().await.unwrap();
            }
        });
    }
}
