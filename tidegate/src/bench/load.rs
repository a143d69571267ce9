//! The load: clients that publish with QoS 1 as fast as they are acknowledged, each with a bounded
//! number of messages in flight.
//!
//! They are `rumqttc` clients (MQTT 3.1.1) with TCP_NODELAY, which write each message by itself, as
//! devices do. Measured on an x86-64 machine, they use less processor time for a message than the
//! broker (3.6 µs beside Tidegate's 4.7, 6.0 beside mosquitto's 7.0), so that nothing leaner is
//! needed; every report shows it anew.
//!
//! Invariants: the clients' event loops are never dropped half way and used again; silence of the
//! broker is an error after [`SILENCE_LIMIT`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::payloads::Payloads;
use super::progress::Progress;

const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longer than any measurement waits, so that no ping is among what is counted.
const KEEP_ALIVE: Duration = Duration::from_secs(600);
/// For topic and header of a packet.
const PACKET_EXTRA_BYTES: u32 = 1024;
/// A PUBACK of MQTT 3.1.1.
const PUBACK_BYTES: u64 = 4;

/// What kind of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadOptions {
    pub(super) clients: u16,
    /// Unacknowledged messages of a client.
    pub(super) inflight: u16,
    /// Payload bytes of a message.
    pub(super) size: u32,
}

/// Clients that are connected and have not begun.
#[derive(Debug)]
pub(super) struct Load {
    clients: Vec<LoadClient>,
    payloads: Payloads,
}

/// Clients at work. Dropping this closes their connections.
#[derive(Debug)]
pub(super) struct RunningLoad {
    tasks: JoinSet<anyhow::Result<()>>,
    acknowledged: Rc<Cell<u64>>,
    began: Instant,
}

struct LoadClient {
    topic: String,
    inflight: u64,
    client: AsyncClient,
    event_loop: EventLoop,
}

impl std::fmt::Debug for LoadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadClient")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Load {
    /// Connects all clients.
    ///
    /// # Errors
    /// One of them cannot.
    pub(super) async fn connect(broker: SocketAddr, options: LoadOptions) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(usize::from(options.clients));
        for number in 0..options.clients {
            let mut client = LoadClient::new(broker, options, number);
            let connected = timeout(CONNECT_LIMIT, client.connect()).await;
            connected
                .unwrap_or_else(|_| Err(anyhow!("no answer in time")))
                .with_context(|| format!("connect client {number} to {broker}"))?;
            clients.push(client);
        }
        Ok(Self {
            clients,
            payloads: Payloads::new(options.size),
        })
    }

    /// Begins to publish this many messages, of all clients together. Runs inside a `LocalSet`.
    pub(super) fn start(self, messages: u64) -> RunningLoad {
        let clients = self.clients.len() as u64;
        let acknowledged = Rc::new(Cell::new(0));
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for (number, client) in (0..).zip(self.clients) {
            let share = messages / clients + u64::from(number < messages % clients);
            let (payloads, acknowledged) = (self.payloads.clone(), Rc::clone(&acknowledged));
            tasks.spawn_local(client.publish(share, payloads, acknowledged));
        }
        RunningLoad {
            tasks,
            acknowledged,
            began,
        }
    }
}

impl RunningLoad {
    /// Waits until everything is acknowledged, or `enough`; the time since the start.
    ///
    /// # Errors
    /// A connection is lost, or the broker falls silent.
    pub(super) async fn wait(
        &mut self,
        enough: Option<u64>,
        progress: &mut Progress,
    ) -> anyhow::Result<Duration> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_change = (0, Instant::now());
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => ended.context("a client of the load")??,
                    None => return Ok(self.began.elapsed()),
                },
                _ = ticks.tick() => {
                    let acknowledged = self.acknowledged.get();
                    progress.show(acknowledged);
                    if enough.is_some_and(|enough| acknowledged >= enough) {
                        return Ok(self.began.elapsed());
                    }
                    if last_change.0 != acknowledged {
                        last_change = (acknowledged, Instant::now());
                    } else if last_change.1.elapsed() >= SILENCE_LIMIT {
                        let seconds = SILENCE_LIMIT.as_secs();
                        bail!("the broker has acknowledged nothing for {seconds} s");
                    }
                }
            }
        }
    }

    /// Messages that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    /// Bytes that the broker sent for them.
    pub(super) fn socket_bytes(&self) -> u64 {
        self.acknowledged() * PUBACK_BYTES
    }
}

impl LoadClient {
    fn new(broker: SocketAddr, options: LoadOptions, number: u16) -> Self {
        let id = format!("bench-{number}");
        let mut connection = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        let packet_bytes = usize::try_from(options.size + PACKET_EXTRA_BYTES);
        let packet_bytes = packet_bytes.unwrap_or(usize::MAX);
        connection
            .set_keep_alive(KEEP_ALIVE)
            .set_inflight(options.inflight)
            .set_max_packet_size(packet_bytes, packet_bytes);
        let requests_max = usize::from(options.inflight);
        let (client, mut event_loop) = AsyncClient::new(connection, requests_max);
        // Nothing waits for the acknowledgement of an earlier segment, whose delay is a timer's.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        Self {
            topic: format!("bench/{number}"),
            inflight: u64::from(options.inflight),
            client,
            event_loop,
        }
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        loop {
            if let Event::Incoming(Packet::ConnAck(_)) = self.event_loop.poll().await? {
                return Ok(());
            }
        }
    }

    async fn publish(
        mut self,
        messages: u64,
        payloads: Payloads,
        acknowledged: Rc<Cell<u64>>,
    ) -> anyhow::Result<()> {
        let (mut given, mut done) = (0, 0);
        while done < messages {
            while given < messages && given - done < self.inflight {
                // There is room in the channel: it takes as many as may be unacknowledged.
                let payload = payloads.of(given);
                self.client
                    .publish_bytes(&self.topic, QoS::AtLeastOnce, false, payload)
                    .await?;
                given += 1;
            }
            let event = self.event_loop.poll().await;
            let event = event.with_context(|| format!("publish to {}", self.topic))?;
            if let Event::Incoming(Packet::PubAck(_)) = event {
                done += 1;
                acknowledged.set(acknowledged.get() + 1);
            }
        }
        Ok(())
    }
}
