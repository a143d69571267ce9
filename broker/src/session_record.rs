//! What is written down of a session that outlives its connection: one journal entry under its client
//! identifier (`JournalKind::Session`). Offline sessions write nothing.
//!
//! ```text
//! version u8 = 1 | postcard of Stored
//! ```

use bytes::Bytes;
use mqtt::server::InflightState;
use mqtt::{
    PacketId, QoS, RetainHandling, SubscriptionIdentifier, SubscriptionOptions, TopicFilter,
    Utf8String,
};
use serde::{Deserialize, Serialize};
use storage::{CommitNumber, LogId, LogPartition, Offset, PartitionId};

use crate::group::GroupId;
use crate::outbound::InFlight;
use crate::packed_bindings::{pack, unpack};
use crate::place::Place;
use crate::replay_record::{StoredReplayBindings, StoredReplays};
use crate::replays::Replay;
use crate::session::{Lifetime, Subscribed};

const VERSION: u8 = 1;

/// Bytes of a topic name from which on retained messages are owed; if it is longer, they are from the
/// first on.
const RETAINED_FROM_BYTES_MAX: usize = 1_024;

/// Bits of stored subscription options; those of SUBSCRIBE in MQTT 5 (3.8.3.1).
const QOS: u8 = 0b11;
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) lifetime: Lifetime,
    pub(crate) connection: LastConnection,
    /// Where delivery goes on.
    pub(crate) next: Place,
    /// Deliveries of QoS 1 that were not over.
    pub(crate) in_flight: Vec<InFlight>,
    /// Deliveries of QoS 2, of a session without a connection: one that has one has an entry of their
    /// own for them.
    pub(crate) deliveries: Option<StoredDeliveries>,
    pub(crate) subscriptions: Vec<(TopicFilter, Subscribed)>,
    pub(crate) replays: Vec<Replay>,
    /// Subscriptions of which it is owed retained messages, and from which topic name on.
    pub(crate) retained: Vec<(TopicFilter, Bytes)>,
}

/// What the session's connection was when it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastConnection {
    /// It was there. Checkpoints with a higher number say how far it has come since.
    Open {
        /// The newest checkpoint of then.
        checkpoint: u64,
    },
    /// It ended.
    Ended {
        /// When, by the provisional clock of an era, in milliseconds.
        at_ms: i64,
        /// The era.
        era: u32,
    },
    /// It ended because the broker did, likewise.
    Closed {
        /// When, or when it was found out.
        at_ms: i64,
        /// The era.
        era: u32,
    },
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Of a later version, or empty.
    #[error("the record has version {found}, this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It is damaged.
    #[error("the record is damaged")]
    Encoding(#[from] postcard::Error),
    /// It says what no record says.
    #[error("the record has {what}")]
    Content {
        /// What.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    lifetime_seconds: u32,
    connection: StoredConnection,
    next: StoredPlace,
    in_flight: Vec<(u16, StoredPlace)>,
    deliveries: Option<StoredDeliveries>,
    subscriptions: Vec<StoredSubscription>,
    replays: StoredReplays,
    retained: Vec<(String, Vec<u8>)>,
}

/// The order of the variants is stored.
#[derive(Serialize, Deserialize)]
enum StoredConnection {
    Open { checkpoint: u64 },
    Ended { at_ms: i64, era: u32 },
    Closed { at_ms: i64, era: u32 },
}

/// Commit, log, partition, offset.
pub(crate) type StoredPlace = (u64, u16, u16, u64);

#[derive(Serialize, Deserialize)]
struct StoredSubscription {
    filter: String,
    options: u8,
    /// 0 for none.
    identifier: u32,
    from: u64,
    /// Commit and QoS.
    earlier: Option<(u64, u8)>,
}

impl SessionRecord {
    pub(crate) fn to_stored(&self) -> Vec<u8> {
        let subscriptions = self.subscriptions.iter();
        let stored = Stored {
            lifetime_seconds: self.lifetime.seconds(),
            connection: match self.connection {
                LastConnection::Open { checkpoint } => StoredConnection::Open { checkpoint },
                LastConnection::Ended { at_ms, era } => StoredConnection::Ended { at_ms, era },
                LastConnection::Closed { at_ms, era } => StoredConnection::Closed { at_ms, era },
            },
            next: stored_place(self.next),
            in_flight: self
                .in_flight
                .iter()
                .filter_map(|sent| Some((sent.packet_id.get(), stored_place(sent.place?))))
                .collect(),
            deliveries: self.deliveries.clone(),
            subscriptions: subscriptions
                .map(|(filter, subscribed)| StoredSubscription {
                    filter: filter.as_str().to_owned(),
                    options: bits_of(subscribed.options),
                    identifier: subscribed.identifier.map_or(0, SubscriptionIdentifier::get),
                    from: subscribed.from.0,
                    earlier: subscribed.earlier.map(|(until, qos)| (until.0, qos as u8)),
                })
                .collect(),
            replays: StoredReplays::new(&self.replays, &self.in_flight),
            retained: self
                .retained
                .iter()
                .map(|(filter, from)| {
                    let is_short = from.len() <= RETAINED_FROM_BYTES_MAX;
                    let from = if is_short { from.to_vec() } else { Vec::new() };
                    (filter.as_str().to_owned(), from)
                })
                .collect(),
        };
        // Nothing in it is of a kind that postcard refuses.
        postcard::to_extend(&stored, vec![VERSION]).unwrap_or_default()
    }

    /// # Errors
    /// It is none of ours.
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self, RecordError> {
        let stored: Stored = match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest)?,
            first => {
                let found = first.map_or(0, |(version, _)| *version);
                return Err(RecordError::Version { found });
            }
        };
        let content = |what| RecordError::Content { what };
        let in_flight = stored.in_flight.into_iter().map(|(packet_id, place)| {
            Ok(InFlight {
                packet_id: PacketId::new(packet_id)
                    .ok_or_else(|| content("packet identifier 0"))?,
                state: InflightState::AwaitsPuback,
                place: Some(place_of(place)),
                replay: None,
                group: None,
            })
        });
        let mut in_flight = in_flight.collect::<Result<Vec<_>, RecordError>>()?;
        stored.replays.mark(&mut in_flight);
        let filter_of = |filter: String| {
            let filter = Utf8String::try_from(filter).ok();
            filter
                .and_then(|filter| TopicFilter::new(filter).ok())
                .ok_or_else(|| content("an invalid topic filter"))
        };
        let retained = stored.retained.into_iter();
        let retained = retained.map(|(filter, from)| Ok((filter_of(filter)?, Bytes::from(from))));
        let subscriptions = stored.subscriptions.into_iter().map(|subscription| {
            let filter = filter_of(subscription.filter)?;
            let subscribed = Subscribed {
                options: options_of(subscription.options)
                    .ok_or_else(|| content("unknown options"))?,
                identifier: SubscriptionIdentifier::new(subscription.identifier),
                from: CommitNumber(subscription.from),
                earlier: match subscription.earlier {
                    None => None,
                    Some((until, qos)) => Some((
                        CommitNumber(until),
                        QoS::from_bits(qos).ok_or_else(|| content("an unknown QoS"))?,
                    )),
                },
            };
            Ok((filter, subscribed))
        });
        Ok(Self {
            lifetime: Lifetime::of_seconds(stored.lifetime_seconds),
            connection: match stored.connection {
                StoredConnection::Open { checkpoint } => LastConnection::Open { checkpoint },
                StoredConnection::Ended { at_ms, era } => LastConnection::Ended { at_ms, era },
                StoredConnection::Closed { at_ms, era } => LastConnection::Closed { at_ms, era },
            },
            next: place_of(stored.next),
            in_flight,
            deliveries: match stored.deliveries {
                Some(deliveries) if !deliveries.can_be_read() => {
                    return Err(content("deliveries that cannot be read"));
                }
                deliveries => deliveries,
            },
            subscriptions: subscriptions.collect::<Result<_, RecordError>>()?,
            replays: stored.replays.replays()?,
            retained: retained.collect::<Result<_, RecordError>>()?,
        })
    }
}

/// Deliveries of QoS 2 of one session. While its client is there they are an entry of the journal itself
/// (`JournalKind::Delivery`: a version byte, and postcard), since they must agree with what was sent at
/// every moment; then they go into the record, which is cold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDeliveries {
    /// Messages of QoS 2 before this place were bound, or are none of the session's business.
    before: StoredPlace,
    /// See [`packed_bindings`](crate::packed_bindings).
    bindings: Vec<u8>,
    /// What of that is of replays.
    replays: StoredReplayBindings,
    /// Packet identifiers of those that groups have handed out.
    of_groups: Vec<u16>,
}

impl StoredDeliveries {
    pub(crate) fn new<'r>(
        before: Place,
        bindings: impl Iterator<Item = InFlight>,
        replays: impl Iterator<Item = &'r Replay>,
    ) -> Self {
        let in_flight: Vec<_> = bindings.collect();
        let bindings = in_flight
            .iter()
            .map(|sent| (sent.packet_id.get(), sent.is_released(), sent.place));
        Self {
            before: stored_place(before),
            bindings: pack(bindings),
            replays: StoredReplayBindings::new(replays, &in_flight),
            of_groups: in_flight
                .iter()
                .filter(|sent| sent.group.is_some())
                .map(|sent| sent.packet_id.get())
                .collect(),
        }
    }

    pub(crate) fn to_stored(&self) -> Vec<u8> {
        // Nothing in it is of a kind that postcard refuses.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// `None` if it is none of ours.
    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let is_known = *version == VERSION;
        let stored = postcard::from_bytes(rest).ok().filter(|_| is_known);
        stored.filter(Self::can_be_read)
    }

    fn can_be_read(&self) -> bool {
        unpack(&self.bindings).is_some()
    }

    /// What is known of replays.
    pub(crate) fn replays(&self) -> &StoredReplayBindings {
        &self.replays
    }

    pub(crate) fn before(&self) -> Place {
        place_of(self.before)
    }

    pub(crate) fn bindings(&self) -> Vec<InFlight> {
        let bindings = unpack(&self.bindings).unwrap_or_default();
        let bindings = bindings
            .into_iter()
            .filter_map(|(packet_id, is_released, place)| {
                let state = match is_released {
                    true => InflightState::AwaitsPubcomp,
                    false => InflightState::AwaitsPubrec,
                };
                Some(InFlight {
                    packet_id: PacketId::new(packet_id)?,
                    state,
                    place,
                    replay: None,
                    group: self
                        .of_groups
                        .contains(&packet_id)
                        .then_some(GroupId::EARLIER),
                })
            });
        let mut bindings: Vec<_> = bindings.collect();
        self.replays.mark(&mut bindings);
        bindings
    }
}

pub(crate) fn stored_place(place: Place) -> StoredPlace {
    let LogPartition { log, partition } = place.partition;
    (place.commit.0, log.0, partition.0, place.offset.0)
}

pub(crate) fn place_of((commit, log, partition, offset): StoredPlace) -> Place {
    Place {
        commit: CommitNumber(commit),
        partition: LogPartition {
            log: LogId(log),
            partition: PartitionId(partition),
        },
        offset: Offset(offset),
    }
}

pub(crate) fn bits_of(options: SubscriptionOptions) -> u8 {
    let set = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    options.qos as u8
        | set(options.no_local, NO_LOCAL)
        | set(options.retain_as_published, RETAIN_AS_PUBLISHED)
        | (options.retain_handling as u8) << RETAIN_HANDLING_SHIFT
}

pub(crate) fn options_of(bits: u8) -> Option<SubscriptionOptions> {
    Some(SubscriptionOptions {
        qos: QoS::from_bits(bits & QOS)?,
        no_local: bits & NO_LOCAL != 0,
        retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
        retain_handling: match bits >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replays::ReplayAt;

    fn place(commit: u64) -> Place {
        place_of((commit, 2, 3, 40))
    }

    fn record() -> SessionRecord {
        let subscribed = |qos, identifier| Subscribed {
            options: SubscriptionOptions {
                qos,
                retain_handling: RetainHandling::DoNotSend,
                no_local: true,
                ..SubscriptionOptions::default()
            },
            identifier: SubscriptionIdentifier::new(identifier),
            from: CommitNumber(9),
            earlier: (qos == QoS::ExactlyOnce).then_some((CommitNumber(11), QoS::AtLeastOnce)),
        };
        SessionRecord {
            lifetime: Lifetime::Unlimited,
            connection: LastConnection::Ended { at_ms: -5, era: 3 },
            next: place(7),
            in_flight: vec![InFlight {
                packet_id: PacketId::MIN,
                state: InflightState::AwaitsPuback,
                place: Some(place(5)),
                replay: None,
                group: None,
            }],
            deliveries: Some(StoredDeliveries {
                before: (8, 2, 3, 41),
                bindings: pack([(7, true, None), (9, false, Some(place(6)))].into_iter()),
                replays: StoredReplayBindings::default(),
                of_groups: vec![9],
            }),
            subscriptions: vec![
                ("a/+".parse().unwrap(), subscribed(QoS::AtLeastOnce, 0)),
                ("#".parse().unwrap(), subscribed(QoS::ExactlyOnce, 77)),
            ],
            replays: Vec::new(),
            retained: vec![("#".parse().unwrap(), Bytes::from_static(b"a/b\0"))],
        }
    }

    #[test]
    fn record_comes_back() {
        let record = record();
        let stored = record.to_stored();
        assert_eq!(SessionRecord::from_stored(&stored).unwrap(), record);
        let open = SessionRecord {
            connection: LastConnection::Open { checkpoint: 8 },
            ..record
        };
        assert_eq!(SessionRecord::from_stored(&open.to_stored()).unwrap(), open);
        let closed = SessionRecord {
            connection: LastConnection::Closed { at_ms: 9, era: 4 },
            ..open
        };
        let stored = closed.to_stored();
        assert_eq!(SessionRecord::from_stored(&stored).unwrap(), closed);
    }

    /// It stands in the files of every gateway.
    #[test]
    fn stored_form_does_not_change() {
        let stored = record().to_stored();
        assert_eq!(
            stored,
            [
                1,
                255,
                255,
                255,
                255,
                15,
                1,
                9,
                3,
                7,
                2,
                3,
                40,
                1,
                1,
                5,
                2,
                3,
                40,
                1,
                8,
                2,
                3,
                41,
                6,
                0b1_1001,
                0b1110_0110,
                12,
                2,
                3,
                80,
                0,
                0,
                1,
                9,
                2,
                3,
                b'a',
                b'/',
                b'+',
                0b10_0101,
                0,
                9,
                0,
                1,
                b'#',
                0b10_0110,
                77,
                9,
                1,
                11,
                1,
                0,
                0,
                1,
                1,
                b'#',
                4,
                b'a',
                b'/',
                b'b',
                0
            ]
        );
    }

    #[test]
    fn record_of_a_later_version_is_named() {
        let error = SessionRecord::from_stored(&[3, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record has version 3, this program reads 1"
        );
    }

    fn replay(number: u32, at: ReplayAt) -> Replay {
        Replay {
            number,
            filter: "a/#".parse().unwrap(),
            options: SubscriptionOptions::default(),
            identifier: SubscriptionIdentifier::new(9),
            at,
            at_latest: place(6),
            until: (number == 4).then_some(CommitNumber(12)),
            bound_before: Place::beginning_of(CommitNumber(0)),
            is_held: false,
            live_by: None,
            counted: None,
        }
    }

    #[test]
    fn record_with_replays_comes_back() {
        let mut record = record();
        record.in_flight[0].replay = Some(4);
        record.replays = vec![
            replay(4, ReplayAt::Place(place(1))),
            replay(5, ReplayAt::Time { at_ms: -1 }),
            replay(6, ReplayAt::Last { count: 300 }),
        ];
        let stored = record.to_stored();
        assert_eq!(SessionRecord::from_stored(&stored).unwrap(), record);
        // It stands in the files of every gateway.
        let first = [
            3, 4, 3, b'a', b'/', b'#', 0, 9, 0, 1, 2, 3, 40, 6, 2, 3, 40, 1, 12, 5, 3, b'a', b'/',
            b'#', 0, 9, 1, 1, 6, 2, 3, 40, 0, 6, 3, b'a', b'/', b'#', 0, 9, 2, 172, 2, 6, 2, 3, 40,
            0, 1, 1, 4,
        ];
        record.replays.clear();
        record.in_flight[0].replay = None;
        let without = record.to_stored();
        // Two empty lists stand in a record without any, before the last list.
        let last = [1, 1, b'#', 4, b'a', b'/', b'b', 0];
        let before = without.len() - last.len() - 2;
        assert_eq!(stored[before..], [first.as_slice(), &last].concat());
    }

    #[test]
    fn bindings_of_replays_come_back() {
        let sent = |id, replay| InFlight {
            packet_id: PacketId::new(id).unwrap(),
            state: InflightState::AwaitsPubrec,
            place: Some(place(5)),
            replay,
            group: replay.is_none().then_some(GroupId::EARLIER),
        };
        let in_flight = [sent(1, None), sent(2, Some(7))];
        let mut bound = replay(7, ReplayAt::Place(place(6)));
        bound.bound_before = place(6);
        let replays = [replay(6, ReplayAt::Place(place(0))), bound.clone()];
        let stored = StoredDeliveries::new(place(9), in_flight.into_iter(), replays.iter());
        let bytes = stored.to_stored();
        let read = StoredDeliveries::from_stored(&bytes).unwrap();
        assert_eq!(read.bindings(), in_flight);
        let mut restored = vec![replay(7, ReplayAt::Place(place(6)))];
        read.replays().restore(&mut restored);
        assert_eq!(restored, [bound]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = SessionRecord::from_stored(&bytes);
            let with_version = [&[VERSION], bytes.as_slice()].concat();
            let _ = SessionRecord::from_stored(&with_version);
            let _ = StoredDeliveries::from_stored(&with_version);
        }
    }
}
