//! The wills that are on flash when the broker starts, and how long each waits for its client.
//!
//! - Its connection was there when the broker ended: no client has failed. It may take the longest of the
//!   delay, one and a half times its keep alive, and
//!   [`will_return_time`](crate::BrokerOptions::will_return_time) to come back.
//! - Its client had gone before: what is left of the delay, by the clocks of both eras; the whole delay
//!   if they cannot say.
//! - Its session has ended: no longer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::{JournalKind, Store};

use crate::kept_wills::cost_of;
use crate::router::Router;
use crate::session_keeping::time_since;
use crate::session_record::LastConnection;
use crate::will_record::WillRecord;

/// Those whose sessions were not found yet.
#[derive(Debug, Default)]
pub(crate) struct FoundWills(HashMap<Bytes, FoundWill>);

/// What is to be known of one while it waits; the rest stays on flash.
#[derive(Debug)]
struct FoundWill {
    delay: Duration,
    /// How long its client may take to come back.
    return_time: Duration,
    cost: usize,
}

impl Router {
    /// Looks for the wills that the store has.
    pub(crate) fn find_wills(&self, store: &Store) -> FoundWills {
        let mut found = FoundWills::default();
        for entry in store.cold_entries(JournalKind::Will) {
            let (client_id, value) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "Some wills cannot be read; they are left out.");
                    self.kept_wills.borrow_mut().has_unreadable = true;
                    break;
                }
            };
            match WillRecord::from_stored(&value) {
                Ok(record) => {
                    let will = self.found_will(&client_id, &record);
                    found.0.insert(Bytes::from(client_id), will);
                }
                Err(error) => {
                    let client_id = client_id.escape_ascii();
                    tracing::error!(%client_id, %error, "Will cannot be read; it is left out.");
                    self.kept_wills.borrow_mut().has_unreadable = true;
                }
            }
        }
        found
    }

    fn found_will(&self, client_id: &[u8], record: &WillRecord) -> FoundWill {
        let delay = record.will.delay_interval.unwrap_or(0);
        let delay = Duration::from_secs(delay.into());
        let silence = Duration::from_millis(1_500 * u64::from(record.keep_alive_seconds));
        FoundWill {
            delay,
            return_time: delay.max(silence).max(self.options.will_return_time),
            cost: cost_of(client_id, &record.will.message),
        }
    }

    /// The session of this client goes on: its will waits for it, if there is one.
    pub(crate) fn restore_will(
        &self,
        now: Instant,
        store: &Store,
        found: &mut FoundWills,
        client_id: &str,
        connection: LastConnection,
    ) {
        let Some((client_id, will)) = found.0.remove_entry(client_id.as_bytes()) else {
            return;
        };
        let left = match connection {
            LastConnection::Open { .. } | LastConnection::Closed { .. } => will.return_time,
            LastConnection::Ended { .. } => {
                will.delay.saturating_sub(time_since(store, connection))
            }
        };
        let mut kept = self.kept_wills.borrow_mut();
        kept.restore(client_id, will.cost, now.checked_add(left));
    }

    /// The sessions of the others have ended; `is_complete`: if all that go on are known.
    pub(crate) fn restore_other_wills(&self, now: Instant, found: FoundWills, is_complete: bool) {
        let mut kept = self.kept_wills.borrow_mut();
        for (client_id, will) in found.0 {
            let left = match is_complete {
                true => Duration::ZERO,
                false => will.return_time,
            };
            kept.restore(client_id, will.cost, now.checked_add(left));
        }
        self.count_kept_wills(&kept);
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{Message, MessageProperties, QoS, Will};
    use storage::{JournalKey, LogOptions, StoreOptions};

    use super::*;
    use crate::place::Place;
    use crate::session::Lifetime;
    use crate::session_record::SessionRecord;
    use crate::trial::router_on;

    const DELAY: u32 = 1_000;

    fn will_with(delay_interval: Option<u32>) -> Will {
        let message = Message {
            topic: "a".parse().unwrap(),
            payload: Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: MessageProperties::default(),
        };
        Will {
            delay_interval,
            message,
        }
    }

    fn put(store: &Store, kind: JournalKind, client_id: &str, value: Vec<u8>) {
        let key = JournalKey::new(kind, client_id.as_bytes());
        let commit = store
            .put_journal_entry(key, Some(value), Duration::ZERO)
            .unwrap();
        store.wait_durable(commit).unwrap();
    }

    fn put_session(store: &Store, client_id: &str, connection: LastConnection) {
        let record = SessionRecord {
            lifetime: Lifetime::Unlimited,
            connection,
            next: Place::beginning_of(storage::CommitNumber(1)),
            in_flight: Vec::new(),
            deliveries: None,
            subscriptions: Vec::new(),
            replays: Vec::new(),
            retained: Vec::new(),
        };
        put(store, JournalKind::Session, client_id, record.to_stored());
    }

    /// How many seconds the will of each client waits after a start.
    fn waits(store: &Store, client_ids: &[&str]) -> Vec<u64> {
        let started = crate::router::now();
        let router = router_on(Some(store.clone()));
        let kept = router.kept_wills.borrow();
        client_ids
            .iter()
            .map(|client_id| {
                let until = kept.waits_until(client_id).unwrap();
                let waits = until.saturating_duration_since(started);
                waits.as_secs()
            })
            .collect()
    }

    #[test]
    fn will_waits_as_long_as_its_client_may_take_to_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let logs = [LogOptions::new("default", 1)];
        let (store, threads) = Store::open(folder.path(), StoreOptions::default(), &logs).unwrap();
        let era = store.current_era().0;
        let at_ms = store.now_ms() - 400_000;
        let open = LastConnection::Open { checkpoint: 0 };
        let closed = LastConnection::Closed { at_ms, era };
        let ended = LastConnection::Ended { at_ms, era };
        let unknown = LastConnection::Ended { at_ms: 5, era };
        let cases = [
            ("open", Some(open), None, 0, 60),
            ("open, keep alive", Some(open), None, 100, 150),
            ("open, delay", Some(open), Some(DELAY), 100, 1_000),
            ("closed", Some(closed), None, 20, 60),
            ("closed, delay", Some(closed), Some(DELAY), 20, 1_000),
            ("ended", Some(ended), None, 100, 0),
            ("ended, delay", Some(ended), Some(DELAY), 100, 600),
            ("ended, delay is over", Some(ended), Some(300), 100, 0),
            ("ended, no clock", Some(unknown), Some(DELAY), 100, 1_000),
            ("no session", None, Some(DELAY), 100, 0),
        ];
        for (client_id, connection, delay, keep_alive, _) in cases {
            if let Some(connection) = connection {
                put_session(&store, client_id, connection);
            }
            let will = WillRecord::stored(&will_with(delay), keep_alive, true);
            put(&store, JournalKind::Will, client_id, will);
        }
        let client_ids = cases.map(|case| case.0);
        for (found, case) in waits(&store, &client_ids).into_iter().zip(cases) {
            let (client_id, expected) = (case.0, case.4);
            let is_right = found.abs_diff(expected) < 30;
            assert!(is_right, "{client_id}: {found} s, not {expected} s");
        }
        // Nobody knows whether a session that cannot be read goes on.
        put(&store, JournalKind::Session, "unreadable", vec![99]);
        assert!(waits(&store, &["no session"])[0] >= 1_000);
        threads.close();
    }
}
