//! One simulated device: measures at its rate, publishes, keeps what is not acknowledged, connects
//! again when the connection is lost and then sends what is left once more, in order.
//!
//! Invariant: a message of QoS 1 leaves the device's memory only by its acknowledgement.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::fleet::{FleetOptions, Phase, Totals};
use super::gateway::Live;
use super::message::{Kind, client_id};
use super::mqtt_connection::{Event, MqttConnection, Version};
use super::noise::noise;
use super::outbox::Outbox;

/// Shortest and longest pause before the next attempt to connect.
const PAUSE_MS: (u64, u64) = (50, 500);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a device knows in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct DeviceBooks {
    pub(super) device: u16,
    pub(super) topics: Vec<TopicBooks>,
    /// Messages given to a second or later connection; each may be upstream once more.
    pub(super) resends: u64,
    /// What the device and the gateway did not agree about, if anything.
    pub(super) complaint: Option<String>,
}

/// A topic of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicBooks {
    pub(super) kind: Kind,
    /// Messages are numbered from 1 to this. Those of QoS 0 were given to a connection, the others
    /// acknowledged or kept.
    pub(super) published: u64,
    /// Messages from 1 to this were acknowledged.
    pub(super) acknowledged: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Device {
    options: FleetOptions,
    books: DeviceBooks,
    totals: Rc<Totals>,
    outbox: Outbox,
    turn: u64,
    attempts: u64,
    connection: Option<MqttConnection>,
    is_connected: bool,
    not_before: Instant,
}

impl Device {
    pub(super) fn new(device: u16, options: FleetOptions, totals: Rc<Totals>) -> Self {
        let topics = Kind::ALL.map(|kind| TopicBooks {
            kind,
            published: 0,
            acknowledged: 0,
        });
        Self {
            options,
            books: DeviceBooks {
                device,
                topics: topics.to_vec(),
                ..DeviceBooks::default()
            },
            totals,
            outbox: Outbox::default(),
            turn: 0,
            attempts: 0,
            connection: None,
            is_connected: false,
            not_before: Instant::now(),
        }
    }

    /// Runs until the fleet's phase says that it is over.
    pub(super) async fn run(
        mut self,
        mut gateway: watch::Receiver<Option<Live>>,
        mut phase: watch::Receiver<Phase>,
    ) -> DeviceBooks {
        let mut ticks = self.ticks();
        loop {
            let now = *phase.borrow_and_update();
            if now == Phase::Stop || now == Phase::Settle && self.outbox.is_empty() {
                return self.leave().await;
            }
            let live = gateway.borrow_and_update().clone();
            if self.connection.is_none()
                && self.not_before <= Instant::now()
                && let Some(live) = &live
            {
                self.connect(live);
            }
            self.hand_over();
            tokio::select! {
                _ = ticks.tick(), if now == Phase::Publish => self.measure(),
                event = next_event(self.connection.as_mut()) => self.handle(event),
                () = sleep_until(self.not_before), if self.connection.is_none() && live.is_some() => {}
                changed = gateway.changed() => if changed.is_err() { return self.leave().await },
                changed = phase.changed() => if changed.is_err() { return self.leave().await },
            }
        }
    }

    /// The device's rhythm; the devices of a fleet do not tick together.
    fn ticks(&self) -> Interval {
        let period = Duration::from_secs(1) / u32::from(self.options.rate.max(1));
        let share = f64::from(self.books.device) / f64::from(self.options.devices.max(1));
        let mut ticks = interval_at(Instant::now() + period.mul_f64(share), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn connect(&mut self, live: &Live) {
        let device = self.books.device;
        let version = if device.is_multiple_of(2) {
            Version::V311
        } else {
            Version::V5
        };
        self.connection = Some(MqttConnection::open(version, &client_id(device), live.mqtt));
    }

    /// A new message, if there is room for it.
    fn measure(&mut self) {
        let kind = Kind::of_turn(self.options.seed, self.books.device, self.turn);
        self.turn += 1;
        if kind.is_acknowledged() {
            if !self.outbox.is_full() {
                let number = self.next_number(kind);
                self.outbox.push(kind, number);
                self.count_published(kind);
                self.totals
                    .unacknowledged
                    .set(self.totals.unacknowledged.get() + 1);
            }
            return;
        }
        // Without a connection there is nobody to tell, and nothing is kept.
        let number = self.next_number(kind);
        if self.is_connected && self.publish(kind, number) {
            self.count_published(kind);
            self.totals.sent_qos0.set(self.totals.sent_qos0.get() + 1);
        }
    }

    fn topic_books(&mut self, kind: Kind) -> Option<&mut TopicBooks> {
        self.books
            .topics
            .iter_mut()
            .find(|topic| topic.kind == kind)
    }

    fn next_number(&mut self, kind: Kind) -> u64 {
        self.topic_books(kind)
            .map_or(1, |topic| topic.published + 1)
    }

    fn count_published(&mut self, kind: Kind) {
        if let Some(topic) = self.topic_books(kind) {
            topic.published += 1;
        }
    }

    fn publish(&self, kind: Kind, number: u64) -> bool {
        let device = self.books.device;
        let payload = kind.payload(self.options.seed, device, number);
        let retain = kind.is_retained();
        self.connection.as_ref().is_some_and(|connection| {
            connection.publish(&kind.topic(device), kind.is_acknowledged(), retain, payload)
        })
    }

    /// Gives the connection what it has not got and takes.
    fn hand_over(&mut self) {
        while self.is_connected
            && let Some(message) = self.outbox.next()
            && self.publish(message.kind, message.number)
        {
            self.outbox.handle_handed();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.is_connected = true;
                self.totals.connected.set(self.totals.connected.get() + 1);
            }
            Event::Sent(packet_id) => self.outbox.handle_sent(packet_id),
            Event::Acknowledged(packet_id) => match self.outbox.handle_acknowledged(packet_id) {
                Ok(message) => {
                    if let Some(topic) = self.topic_books(message.kind) {
                        topic.acknowledged = message.number;
                    }
                    let totals = &self.totals;
                    totals.acknowledged.set(totals.acknowledged.get() + 1);
                    totals
                        .unacknowledged
                        .set(totals.unacknowledged.get().saturating_sub(1));
                }
                Err(error) => {
                    self.books.complaint = Some(error.to_string());
                    self.lose_connection();
                }
            },
            // It stays in the outbox and is sent again, after a pause.
            Event::Refused(_) | Event::Lost(_) => self.lose_connection(),
            Event::Message { .. } => {}
        }
    }

    fn lose_connection(&mut self) {
        self.connection = None;
        self.outbox.handle_lost();
        if std::mem::take(&mut self.is_connected) {
            let totals = &self.totals;
            totals
                .connected
                .set(totals.connected.get().saturating_sub(1));
        }
        self.attempts += 1;
        let (shortest, longest) = PAUSE_MS;
        let part = noise(
            self.options.seed,
            &[u64::from(self.books.device), self.attempts],
        );
        let pause = Duration::from_millis(shortest + part % (longest - shortest));
        self.not_before = Instant::now() + pause;
    }

    /// Says goodbye, so that what was sent last is read before the connection ends.
    async fn leave(mut self) -> DeviceBooks {
        if let Some(mut connection) = self.connection.take()
            && connection.disconnect()
        {
            let goodbye = async { while !matches!(connection.next().await, Event::Lost(_)) {} };
            // Whether it comes or not: everything that counts is acknowledged.
            let _ = timeout(GOODBYE, goodbye).await;
        }
        self.books.resends = self.outbox.resends();
        self.books
    }
}

async fn next_event(connection: Option<&mut MqttConnection>) -> Event {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}
