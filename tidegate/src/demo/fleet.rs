//! The simulated devices, all together.
//!
//! Invariant: every device's books come back, also when time is up.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::device::{Device, DeviceBooks};
use super::gateway::Live;

/// How long devices may take to stop once they are told.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What kind of fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct FleetOptions {
    pub(super) devices: u16,
    /// Messages a second, each device.
    pub(super) rate: u16,
    pub(super) seed: u64,
}

/// What the devices are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Publish,
    /// Measure nothing new; go when everything is acknowledged.
    Settle,
    /// Go.
    Stop,
}

/// Numbers of the whole fleet, as they are now.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Messages of QoS 1 that were acknowledged.
    pub(super) acknowledged: Cell<u64>,
    /// Messages of QoS 1 that the devices keep.
    pub(super) unacknowledged: Cell<u64>,
    pub(super) sent_qos0: Cell<u64>,
    pub(super) connected: Cell<u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Fleet {
    devices: JoinSet<DeviceBooks>,
    phase: watch::Sender<Phase>,
}

impl Fleet {
    /// Starts the devices; each connects as soon as there is a gateway.
    pub(super) fn start(
        options: FleetOptions,
        gateway: &watch::Receiver<Option<Live>>,
        totals: &Rc<Totals>,
    ) -> Self {
        let phase = watch::Sender::new(Phase::Publish);
        let mut devices = JoinSet::new();
        for number in 0..options.devices {
            let device = Device::new(number, options, Rc::clone(totals));
            devices.spawn_local(device.run(gateway.clone(), phase.subscribe()));
        }
        Self { devices, phase }
    }

    /// Fails when a device has ended on its own.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.devices.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended.context("a device")?;
                bail!("a device has ended before its time")
            }
        }
    }

    /// Lets the devices publish nothing new and waits until everything is acknowledged, at most
    /// until `deadline`.
    pub(super) async fn settle(mut self, deadline: Instant) -> anyhow::Result<Vec<DeviceBooks>> {
        let mut books = Vec::new();
        self.phase.send_replace(Phase::Settle);
        while let Ok(Some(ended)) = timeout_at(deadline, self.devices.join_next()).await {
            books.push(ended.context("a device")?);
        }
        self.phase.send_replace(Phase::Stop);
        let rest = timeout(STOP_LIMIT, async {
            while let Some(ended) = self.devices.join_next().await {
                books.push(ended.context("a device")?);
            }
            anyhow::Ok(())
        });
        rest.await.context("the devices do not stop")??;
        books.sort_by_key(|books| books.device);
        Ok(books)
    }
}
