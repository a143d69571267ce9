//! `$SYS` topics: how the broker is, under the names that users of mosquitto know, and what is our own
//! below `$SYS/broker/tidegate/`.
//!
//! They are messages of QoS 0 to the subscribers of the moment, in no log. What is retained of them costs
//! nothing of the bound of retained messages, whose number they are not among: there are few, and clients
//! cannot add any, because whoever publishes below `$SYS` is refused.
//!
//! Invariant: while nobody subscribes to any of them none is made. Loads alone are looked after always,
//! since an average needs its past.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::{Message, MessageProperties, QoS, TopicFilter, TopicName};
use storage::Store;

use crate::causes::DropCause;
use crate::probe::Counters;
use crate::publication::Publication;
use crate::router::{Router, Stage, now};
use crate::session::SessionState;
use crate::sys_load::{self, Load};

const PREFIX: &str = "$SYS/broker/";
const OWNED: &str = "$SYS/";

/// What others have to tell: names below `$SYS/broker/tidegate/`, and values.
pub(crate) type OtherFigures = Box<dyn Fn() -> Vec<(String, String)>>;

/// See the module's documentation.
pub(crate) struct SysTopics {
    started: Instant,
    /// Somebody may be subscribed to one of them.
    is_wanted: Cell<bool>,
    load: RefCell<Load>,
    others: RefCell<Option<OtherFigures>>,
}

impl SysTopics {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            is_wanted: Cell::new(false),
            load: RefCell::default(),
            others: RefCell::default(),
        }
    }

    pub(crate) fn set_others(&self, others: OtherFigures) {
        *self.others.borrow_mut() = Some(others);
    }
}

/// Whether a filter, or that of a group, asks for some of them.
fn is_of_sys(filter: &TopicFilter) -> bool {
    filter.filter().starts_with(OWNED)
}

impl Router {
    /// Publishes them in every interval, until the broker ends.
    pub(crate) async fn serve_sys_topics(self: Rc<Self>, interval: Duration) {
        while self.stage() < Stage::Closing {
            let before = now();
            tokio::select! {
                () = tokio::time::sleep(interval) => {
                    let now = now();
                    let counts = load_counts(&self.counters);
                    let elapsed = now.saturating_duration_since(before);
                    self.sys.load.borrow_mut().update(counts, elapsed);
                    self.publish_sys_topics(now);
                }
                () = self.reached(Stage::Closing) => {}
            }
        }
    }

    /// A client subscribes: if it is to one of these topics, there are retained messages from now on.
    pub(crate) fn subscribes_to_sys(&self, filter: &TopicFilter) {
        if is_of_sys(filter) && self.options.sys_interval.is_some() && !self.sys.is_wanted.get() {
            self.sys.is_wanted.set(true);
            self.retain_sys_topics(now());
        }
    }

    /// The same for a session that goes on.
    pub(crate) fn goes_on_with_sys(&self, state: &SessionState) {
        let (ordinary, shared) = (state.filters.borrow(), state.shared.borrow());
        for (filter, _) in ordinary.iter().chain(shared.iter()) {
            self.subscribes_to_sys(filter);
        }
    }

    fn publish_sys_topics(&self, now: Instant) {
        if !self.sys.is_wanted.get() {
            return;
        }
        let mut is_wanted = false;
        for publication in self.retain_sys_topics(now) {
            let route = self.route(&publication.message.topic);
            is_wanted |= !route.recipients.is_empty();
            self.deliver(now, &publication, &route, None);
        }
        if !is_wanted {
            self.sys.is_wanted.set(false);
            self.retained.borrow_mut().remove_own(OWNED.as_bytes());
        }
    }

    /// Retains all of them as they are now, and returns them.
    fn retain_sys_topics(&self, now: Instant) -> Vec<Publication> {
        let figures = self.sys_figures(now).into_iter();
        let publications: Vec<_> = figures
            .filter_map(|(name, value)| publication(now, &name, value))
            .collect();
        let mut retained = self.retained.borrow_mut();
        // Routes and logs may be gone since.
        retained.remove_own(OWNED.as_bytes());
        for publication in &publications {
            retained.put_own(publication.clone());
        }
        publications
    }

    /// Names below `$SYS/broker/`, and values.
    fn sys_figures(&self, now: Instant) -> Vec<(String, String)> {
        let uptime = now.saturating_duration_since(self.sys.started).as_secs();
        let mut figures = vec![
            ("version".to_owned(), VERSION.to_owned()),
            ("uptime".to_owned(), format!("{uptime} seconds")),
        ];
        let mut add = |name: &str, value: u64| figures.push((name.to_owned(), value.to_string()));
        let counters = &self.counters;
        let connected = counters.sessions_v311.get() + counters.sessions_v5.get();
        let disconnected = counters.sessions_offline.get();
        add("clients/connected", connected);
        add("clients/disconnected", disconnected);
        add("clients/total", connected + disconnected);
        add("messages/received", counters.packets_received.get());
        add("messages/sent", counters.packets_sent.get());
        add("bytes/received", counters.bytes_received.get());
        add("bytes/sent", counters.bytes_sent.get());
        add("publish/messages/received", received(counters));
        add("publish/messages/sent", delivered(counters));
        add("publish/messages/dropped", dropped(counters));
        add("subscriptions/count", counters.subscriptions.get());
        add("retained messages/count", counters.retained_messages.get());
        if let Some(store) = &self.store {
            figures.extend(store_figures(store));
        }
        figures.extend(self.sys.load.borrow().figures());
        if let Some(others) = self.sys.others.borrow().as_ref() {
            let others = others().into_iter();
            figures.extend(others.map(|(name, value)| (format!("tidegate/{name}"), value)));
        }
        figures
    }
}

const VERSION: &str = concat!("tidegate version ", env!("CARGO_PKG_VERSION"));

fn publication(now: Instant, name: &str, value: String) -> Option<Publication> {
    let topic: TopicName = format!("{PREFIX}{name}").parse().ok()?;
    let message = Message {
        topic: topic.clone(),
        payload: value.into(),
        qos: QoS::AtMostOnce,
        retain: true,
        properties: MessageProperties::default(),
    };
    // The publisher is none of the clients: a client identifier is not empty.
    Some(Publication::new(now, &message, &topic, bytes::Bytes::new()))
}

fn store_figures(store: &Store) -> Vec<(String, String)> {
    let status = store.status();
    let (mut figures, mut all_records) = (Vec::new(), 0);
    for log in store.logs() {
        let records = log.partitions().map(|partition| {
            let end = store.high_watermark(partition).0;
            end.saturating_sub(store.log_start(partition).0)
        });
        let records: u64 = records.sum();
        all_records += records;
        figures.push((format!("tidegate/log/{}/records", log.name), records));
    }
    let flash = &status.flash;
    let today = flash.today.unwrap_or(flash.since_start);
    for (since, used) in [("since_start", flash.since_start), ("today", today)] {
        let name = |figure: &str| format!("tidegate/flash/{since}/{figure}");
        figures.push((name("written_bytes"), used.written_bytes));
        figures.extend(used.dirtied_bytes.map(|n| (name("dirtied_bytes"), n)));
    }
    for name in ["messages/stored", "store/messages/count"] {
        figures.push((name.to_owned(), all_records));
    }
    figures.push(("store/messages/bytes".to_owned(), status.bytes));
    let figures = figures.into_iter();
    figures.map(|(name, n)| (name, n.to_string())).collect()
}

fn received(counters: &Counters) -> u64 {
    counters.received_qos0.get() + counters.received_qos1.get() + counters.received_qos2.get()
}

fn delivered(counters: &Counters) -> u64 {
    counters.delivered_qos0.get() + counters.delivered_qos1.get() + counters.delivered_qos2.get()
}

fn dropped(counters: &Counters) -> u64 {
    let causes = DropCause::ALL.iter();
    causes.map(|cause| counters.dropped.get(*cause)).sum()
}

/// In the order of their names.
fn load_counts(counters: &Counters) -> [u64; sys_load::NAMES.len()] {
    let accepted = counters.listeners.iter();
    [
        counters.packets_received.get(),
        counters.packets_sent.get(),
        received(counters),
        delivered(counters),
        dropped(counters),
        counters.bytes_received.get(),
        counters.bytes_sent.get(),
        accepted.map(|listener| listener.accepted.get()).sum(),
    ]
}
