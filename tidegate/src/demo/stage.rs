//! Everything that the acts play with, and how they wait: for conditions, with one time for all.
//!
//! Invariants:
//! - While an act waits, a gateway or a device that has ended on its own ends the demonstration.
//! - Whatever ends the demonstration ends the gateway too, before its folder goes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::balance::{Balance, GatewayBooks, Report};
use super::device::DeviceBooks;
use super::display::{Display, Scene, thousands};
use super::fleet::{Fleet, FleetOptions, Totals};
use super::folder::Folder;
use super::gateway::Gateway;
use super::message::Kind;
use super::observer::{Observer, Sample};
use super::panel;
use super::relay::Relay;
use super::upstream::Upstream;
use crate::cli::demo::DemoOptions;

/// Between two looks at what should not end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is left for the end: stopping the gateway, reading everything back.
const END: Duration = Duration::from_secs(8);

/// See the module's documentation. Fields are dropped from the first to the last.
pub(super) struct Stage {
    pub(super) gateway: Gateway,
    fleet: Option<Fleet>,
    _numbers: JoinSet<()>,
    observer: Observer,
    pub(super) relay: Relay,
    pub(super) upstream: Upstream,
    pub(super) uplink: Rc<Cell<&'static str>>,
    pub(super) display: Rc<Display>,
    pub(super) seed: u64,
    started: Instant,
    length: Duration,
    deadline: Instant,
}

impl Stage {
    /// Starts the gateway on `folder` and the devices.
    ///
    /// # Errors
    /// A port, a file or the gateway is not to be had.
    pub(super) async fn set(
        options: &DemoOptions,
        seed: u64,
        upstream: Upstream,
        folder: &Folder,
        display: &Rc<Display>,
        time: (Instant, Instant),
    ) -> anyhow::Result<Self> {
        let (started, deadline) = time;
        let relay = Relay::start(upstream.address()).await;
        let relay = relay.context("start the uplink's relay")?;
        let mut gateway = Gateway::new(folder, relay.address(), upstream.topics())?;
        gateway.start().await?;
        let observer = Observer::start(gateway.live(), upstream.topics());
        let totals = Rc::new(Totals::default());
        let fleet = FleetOptions {
            devices: options.devices,
            rate: options.rate,
            seed,
        };
        let fleet = Fleet::start(fleet, &gateway.live(), &totals);
        let uplink = Rc::new(Cell::new("up"));
        let numbers = display.follow(Scene {
            devices: options.devices,
            seconds: options.seconds,
            started,
            totals,
            samples: observer.samples(),
            gateway: gateway.live(),
            uplink: Rc::clone(&uplink),
        });
        Ok(Self {
            gateway,
            fleet: Some(fleet),
            _numbers: numbers,
            observer,
            relay,
            upstream,
            uplink,
            display: Rc::clone(display),
            seed,
            started,
            length: Duration::from_secs(u64::from(options.seconds)),
            deadline,
        })
    }

    /// When this share of the time is over.
    pub(super) fn at(&self, share: f64) -> Instant {
        self.started + self.length.mul_f64(share)
    }

    /// Waits until then.
    pub(super) async fn pause_until(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            self.check()?;
            sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
        }
        self.check()
    }

    /// Waits that long.
    pub(super) async fn pause(&mut self, pause: Duration) -> anyhow::Result<()> {
        self.pause_until(Instant::now() + pause).await
    }

    /// Waits for a sample, of the gateway as it runs now and from now on, that is as wanted.
    pub(super) async fn wait_for(
        &mut self,
        what: &str,
        mut is_wanted: impl FnMut(&Sample) -> bool,
    ) -> anyhow::Result<Sample> {
        let (life, from) = (self.gateway.lives(), Instant::now());
        let mut samples = self.observer.samples();
        loop {
            let sample = samples.borrow_and_update().clone();
            if let Some(sample) = sample
                && sample.life == life
                && sample.asked >= from
                && is_wanted(&sample)
            {
                return Ok(sample);
            }
            self.wait_changed(&mut samples, what).await?;
        }
    }

    /// Waits until the uplink has lost `count` answers in all.
    pub(super) async fn wait_answers_lost(&mut self, count: u64) -> anyhow::Result<()> {
        let mut lost = self.relay.answers_lost();
        while *lost.borrow_and_update() < count {
            self.wait_changed(&mut lost, "an answer that is lost")
                .await?;
        }
        Ok(())
    }

    async fn wait_changed<T>(
        &mut self,
        receiver: &mut watch::Receiver<T>,
        what: &str,
    ) -> anyhow::Result<()> {
        self.check()?;
        if Instant::now() >= self.deadline - END {
            let trouble = self.observer.samples().borrow().clone();
            let trouble = trouble.and_then(|sample| sample.trouble);
            let trouble = trouble.map_or_else(String::new, |trouble| format!(" ({trouble})"));
            bail!(self.gateway.with_log(&format!(
                "waited until time was up, in vain, for {what}{trouble}"
            )));
        }
        tokio::select! {
            changed = receiver.changed() => changed.context("the observer has ended"),
            () = sleep_until(Instant::now() + LOOK_EVERY) => Ok(()),
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.gateway.check()?;
        self.fleet.as_mut().map_or(Ok(()), Fleet::check)
    }

    pub(super) fn cut_uplink(&self) {
        self.relay.cut();
        self.uplink.set("cut");
    }

    pub(super) fn restore_uplink(&self, how: &'static str) {
        self.relay.restore();
        self.uplink.set(how);
    }

    /// Lets the devices finish and everything flow upstream.
    ///
    /// # Errors
    /// It does not come to rest in time.
    pub(super) async fn settle(&mut self) -> anyhow::Result<Settled> {
        let fleet = self.fleet.take().context("the devices are gone")?;
        let devices = fleet.settle(self.deadline - END).await?;
        self.wait_for("the end of all connections", |sample| sample.sessions == 0)
            .await?;
        let live = self.gateway.live().borrow().clone();
        let live = live.context("the gateway is not running")?;
        let expected = last_states(self.seed, &devices);
        let shown = panel::look(live.mqtt, expected.len(), self.deadline - END).await?;
        let wrong = expected.iter().filter(|(topic, payload)| {
            shown.get(topic).map(Vec::as_slice) != Some(payload.as_bytes())
        });
        let wrong_states = wrong.map(|(topic, _)| topic.clone()).collect();
        let drained = self
            .wait_for("everything on flash to be upstream", Sample::is_drained)
            .await?;
        Ok(Settled {
            devices,
            wrong_states,
            gateway: GatewayBooks {
                replicated: drained.replicated,
                waiting: drained.waiting,
                lost: drained.lost,
            },
        })
    }

    /// Stops the gateway, reads everything back, and draws the balance.
    ///
    /// # Errors
    /// The gateway does not end well, or the cluster does not answer.
    pub(super) async fn balance(&mut self, settled: Settled) -> anyhow::Result<Report> {
        self.gateway.stop().await?;
        let mut balance = Balance::new(self.seed, settled.devices);
        self.upstream
            .read(self.deadline, |topic, partition, record| {
                balance.take(&topic.name, partition, record);
            })
            .await
            .context("read everything back from the cluster")?;
        Ok(balance.close(settled.gateway, &settled.wrong_states))
    }

    /// Fails when the model was to lie and had no occasion.
    pub(super) fn check_tampered(&self) -> anyhow::Result<()> {
        match self.upstream.faults_left() {
            0 => Ok(()),
            _ => Err(anyhow!(
                "the model was to lie about a record and got none: more devices or messages are \
                 needed"
            )),
        }
    }

    /// Messages that were counted as published until now, for a sentence.
    pub(super) fn waiting(&self) -> String {
        let sample = self.observer.samples().borrow().clone();
        sample.map_or_else(|| "no".to_owned(), |sample| thousands(sample.waiting))
    }
}

/// The retained state that each device has left behind, by topic.
fn last_states(seed: u64, devices: &[DeviceBooks]) -> Vec<(String, String)> {
    let state = |books: &DeviceBooks| {
        let topic = books.topics.iter().find(|topic| topic.kind.is_retained())?;
        let kind: Kind = topic.kind;
        (topic.acknowledged > 0).then(|| {
            let payload = kind.payload(seed, books.device, topic.acknowledged);
            (kind.topic(books.device), payload)
        })
    };
    devices.iter().filter_map(state).collect()
}

/// What is known when everything has come to rest.
#[derive(Debug)]
pub(super) struct Settled {
    devices: Vec<DeviceBooks>,
    /// Topics whose retained message is not the last one.
    wrong_states: Vec<String>,
    gateway: GatewayBooks,
}
