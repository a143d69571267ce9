//! The steps of deliveries, sessions and checkpoints between which the power goes: what a client has
//! sent or seen, and what the broker says of itself.
//!
//! Cuts are near each kind equally often, and the table counts them by the step that came last.

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{recorder, trace};

/// See the module's documentation. "Seen" is by a client, and so is "sent".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Step {
    ConnectSent,
    ConnackSeen,
    SubscribeSent,
    SubackSeen,
    Gone,
    /// To the broker, QoS 1.
    PublishSent,
    PubackSeen,
    /// To the broker, QoS 2.
    Publish2Sent,
    PubrecSeen,
    PubrelSent,
    PubcompSeen,
    /// From the broker, QoS 1.
    PublishSeen,
    PubackSent,
    /// From the broker, QoS 2.
    Bound,
    Publish2Seen,
    PubrecSent,
    PubrelSeen,
    PubcompSent,
    Behind,
    Live,
    Checkpoint,
}

impl Step {
    pub(crate) const ALL: [Self; 21] = [
        Self::ConnectSent,
        Self::ConnackSeen,
        Self::SubscribeSent,
        Self::SubackSeen,
        Self::Gone,
        Self::PublishSent,
        Self::PubackSeen,
        Self::Publish2Sent,
        Self::PubrecSeen,
        Self::PubrelSent,
        Self::PubcompSeen,
        Self::PublishSeen,
        Self::PubackSent,
        Self::Bound,
        Self::Publish2Seen,
        Self::PubrecSent,
        Self::PubrelSeen,
        Self::PubcompSent,
        Self::Behind,
        Self::Live,
        Self::Checkpoint,
    ];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConnectSent => "CONNECT sent",
            Self::ConnackSeen => "CONNACK seen",
            Self::SubscribeSent => "SUBSCRIBE or UNSUBSCRIBE sent",
            Self::SubackSeen => "SUBACK or UNSUBACK seen",
            Self::Gone => "client gone",
            Self::PublishSent => "in, QoS 1: PUBLISH sent",
            Self::PubackSeen => "in, QoS 1: PUBACK seen",
            Self::Publish2Sent => "in, QoS 2: PUBLISH sent",
            Self::PubrecSeen => "in, QoS 2: PUBREC seen",
            Self::PubrelSent => "in, QoS 2: PUBREL sent",
            Self::PubcompSeen => "in, QoS 2: PUBCOMP seen",
            Self::PublishSeen => "out, QoS 1: PUBLISH seen",
            Self::PubackSent => "out, QoS 1: PUBACK sent",
            Self::Bound => "out, QoS 2: state on its way to flash",
            Self::Publish2Seen => "out, QoS 2: PUBLISH seen",
            Self::PubrecSent => "out, QoS 2: PUBREC sent",
            Self::PubrelSeen => "out, QoS 2: PUBREL seen",
            Self::PubcompSent => "out, QoS 2: PUBCOMP sent",
            Self::Behind => "session fell behind",
            Self::Live => "session live again",
            Self::Checkpoint => "checkpoint on its way to flash",
        }
    }

    /// Of a packet that a client sends, by its first byte.
    pub(crate) fn of_sent(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::ConnectSent,
            3 if first & 0b110 == 0b100 => Self::Publish2Sent,
            3 => Self::PublishSent,
            4 => Self::PubackSent,
            5 => Self::PubrecSent,
            6 => Self::PubrelSent,
            7 => Self::PubcompSent,
            8 | 10 => Self::SubscribeSent,
            14 => Self::Gone,
            _ => return None,
        })
    }

    /// Of a packet that a client gets.
    pub(crate) fn of_seen(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            2 => Self::ConnackSeen,
            3 if first & 0b110 == 0b100 => Self::Publish2Seen,
            3 => Self::PublishSeen,
            4 => Self::PubackSeen,
            5 => Self::PubrecSeen,
            6 => Self::PubrelSeen,
            7 => Self::PubcompSeen,
            9 | 11 => Self::SubackSeen,
            _ => return None,
        })
    }

    /// Of what the broker says of itself.
    fn of_broker(message: &str) -> Option<Self> {
        Some(match message {
            "Deliveries are written down." => Self::Bound,
            "Session falls behind." => Self::Behind,
            "Session is live." => Self::Live,
            "Checkpoint is written." => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// Notes from now on what the broker says of itself.
pub(crate) fn listen_to_broker() {
    let of_broker = filter_fn(|metadata| {
        *metadata.level() == Level::TRACE && metadata.target().starts_with("broker")
    });
    // Whoever listens already does so in our place.
    let _ = tracing_subscriber::registry()
        .with(Listener.with_filter(of_broker))
        .try_init();
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if let Some(step) = Step::of_broker(&message.0) {
            recorder::note(trace::Event::Broker(step));
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
