//! What systemd is told while the gateway serves: the line of `systemctl status`, and that the watchdog
//! need not bite. A task of the I/O thread: when that hangs, nothing is told.

use std::rc::Rc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use super::notify_systemd;
use super::status_text::Looks;
use super::watchdog::{Committing, Watchdog};
use crate::admin::AdminState;

/// How often is looked, unless the watchdog wants it more often.
const INTERVAL: Duration = Duration::from_secs(5);

/// Whether there is a service manager that listens.
pub(super) fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The gateway's side of it.
#[derive(Default)]
pub(super) struct Telling(Option<JoinHandle<()>>);

impl Telling {
    /// The listeners accept; from now on it is told how it goes. Within a `LocalSet`.
    pub(super) fn ready(&mut self, state: &Rc<AdminState>) {
        notify_systemd(&[NotifyState::Ready]);
        if self.0.is_none() && is_heard() {
            let telling = Teller::new(Rc::clone(state)).run();
            self.0 = Some(tokio::task::spawn_local(telling));
        }
    }

    /// The process ends; how long that may take is `TimeoutStopSec`, and no watchdog any more.
    pub(super) fn stopping(&mut self) {
        if let Some(telling) = self.0.take() {
            telling.abort();
        }
        notify_systemd(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }
}

/// What was told last.
struct Teller {
    state: Rc<AdminState>,
    looks: Looks,
    text: String,
    watchdog: Option<Watchdog>,
}

impl Teller {
    fn new(state: Rc<AdminState>) -> Self {
        Self {
            state,
            looks: Looks::default(),
            text: String::new(),
            watchdog: sd_notify::watchdog_enabled().map(Watchdog::new),
        }
    }

    /// Tells what is new, again and again, until it is dropped.
    async fn run(mut self) {
        let wanted = self.watchdog.as_ref().map(Watchdog::interval);
        let interval = wanted.map_or(INTERVAL, |wanted| wanted.min(INTERVAL));
        loop {
            self.tell(Instant::now());
            tokio::time::sleep(interval).await;
        }
    }

    fn tell(&mut self, now: Instant) {
        let text = self.looks.text(&self.state, now);
        let mut news = Vec::new();
        if text != self.text {
            self.text = text;
            news.push(NotifyState::Status(&self.text));
        }
        let committing = committing(&self.state);
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.look(committing, now)
        {
            news.push(NotifyState::Watchdog);
        }
        if !news.is_empty() {
            notify_systemd(&news);
        }
    }
}

/// `None` in degraded mode.
fn committing(state: &AdminState) -> Option<Committing> {
    let store = state.store().ok()?;
    Some(Committing {
        is_awaited: store.commit_waits_since().is_some(),
        durable: store.durable(),
    })
}
