//! What is written down of the replays of a session, in its records.
//!
//! | in | what |
//! |---|---|
//! | the session's record | where each replay goes on, and which deliveries of QoS 1 are of which |
//! | its deliveries of QoS 2 | which of them are of which, and the place before which each has bound all |
//!
//! The first is as old as the last SUBSCRIBE or the end of a connection: what is read again after a crash
//! comes again with QoS 1, and with QoS 2 only what was not bound.

use mqtt::{PacketId, SubscriptionIdentifier, TopicFilter, Utf8String};
use serde::{Deserialize, Serialize};
use storage::CommitNumber;

use crate::outbound::InFlight;
use crate::place::Place;
use crate::replays::{Replay, ReplayAt, ReplayNumber};
use crate::session_record::{
    RecordError, StoredPlace, bits_of, options_of, place_of, stored_place,
};

/// Packet identifier, and the replay that the delivery is of.
type OfReplay = (u16, ReplayNumber);

/// See the module's documentation.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct StoredReplays {
    replays: Vec<StoredReplay>,
    in_flight: Vec<OfReplay>,
}

#[derive(Serialize, Deserialize)]
struct StoredReplay {
    number: ReplayNumber,
    filter: String,
    options: u8,
    /// 0 for none.
    identifier: u32,
    at: StoredAt,
    at_latest: StoredPlace,
    until: Option<u64>,
}

/// The order of the variants is stored.
#[derive(Serialize, Deserialize)]
enum StoredAt {
    Place(StoredPlace),
    Time { at_ms: i64 },
    Last { count: u32 },
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReplayBindings {
    of_replays: Vec<OfReplay>,
    bound_before: Vec<(ReplayNumber, StoredPlace)>,
}

fn of_replays(in_flight: &[InFlight]) -> Vec<OfReplay> {
    let marked = in_flight
        .iter()
        .filter_map(|sent| Some((sent.packet_id.get(), sent.replay?)));
    marked.collect()
}

fn mark(in_flight: &mut [InFlight], of_replays: &[OfReplay]) {
    for (packet_id, number) in of_replays {
        let packet_id = PacketId::new(*packet_id);
        let mut in_flight = in_flight.iter_mut();
        if let Some(sent) = in_flight.find(|sent| Some(sent.packet_id) == packet_id) {
            sent.replay = Some(*number);
        }
    }
}

impl StoredReplays {
    pub(crate) fn new(replays: &[Replay], in_flight: &[InFlight]) -> Self {
        let replays = replays.iter().map(|replay| StoredReplay {
            number: replay.number,
            filter: replay.filter.as_str().to_owned(),
            options: bits_of(replay.options),
            identifier: replay.identifier.map_or(0, SubscriptionIdentifier::get),
            at: match replay.at {
                ReplayAt::Place(place) => StoredAt::Place(stored_place(place)),
                ReplayAt::Time { at_ms } => StoredAt::Time { at_ms },
                ReplayAt::Last { count } => StoredAt::Last { count },
            },
            at_latest: stored_place(replay.at_latest),
            until: replay.until.map(|until| until.0),
        });
        Self {
            replays: replays.collect(),
            in_flight: of_replays(in_flight),
        }
    }

    /// Says of deliveries which replay they are of.
    pub(crate) fn mark(&self, in_flight: &mut [InFlight]) {
        mark(in_flight, &self.in_flight);
    }

    /// # Errors
    /// One of them is none of ours.
    pub(crate) fn replays(self) -> Result<Vec<Replay>, RecordError> {
        let content = |what| RecordError::Content { what };
        let replays = self.replays.into_iter().map(|stored| {
            let filter = Utf8String::try_from(stored.filter).ok();
            let filter = filter.and_then(|filter| TopicFilter::new(filter).ok());
            Ok(Replay {
                number: stored.number,
                filter: filter.ok_or_else(|| content("an invalid topic filter"))?,
                options: options_of(stored.options).ok_or_else(|| content("unknown options"))?,
                identifier: SubscriptionIdentifier::new(stored.identifier),
                at: match stored.at {
                    StoredAt::Place(place) => ReplayAt::Place(place_of(place)),
                    StoredAt::Time { at_ms } => ReplayAt::Time { at_ms },
                    StoredAt::Last { count } => ReplayAt::Last { count },
                },
                at_latest: place_of(stored.at_latest),
                until: stored.until.map(CommitNumber),
                bound_before: Place::beginning_of(CommitNumber(0)),
                is_held: false,
                live_by: None,
                counted: None,
            })
        });
        replays.collect()
    }
}

impl StoredReplayBindings {
    pub(crate) fn new<'r>(
        replays: impl Iterator<Item = &'r Replay>,
        in_flight: &[InFlight],
    ) -> Self {
        let none = Place::beginning_of(CommitNumber(0));
        let replays = replays.filter(|replay| replay.bound_before > none);
        Self {
            of_replays: of_replays(in_flight),
            bound_before: replays
                .map(|replay| (replay.number, stored_place(replay.bound_before)))
                .collect(),
        }
    }

    pub(crate) fn mark(&self, in_flight: &mut [InFlight]) {
        mark(in_flight, &self.of_replays);
    }

    /// Says of replays up to where they have bound messages.
    pub(crate) fn restore(&self, replays: &mut [Replay]) {
        for (number, place) in &self.bound_before {
            let mut replays = replays.iter_mut();
            if let Some(replay) = replays.find(|replay| replay.number == *number) {
                replay.bound_before = place_of(*place);
            }
        }
    }

    /// Numbers that were used.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = ReplayNumber> + '_ {
        self.bound_before.iter().map(|(number, _)| *number)
    }
}
