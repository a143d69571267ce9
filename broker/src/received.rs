//! Messages of QoS 2 from a client, between PUBLISH and PUBREL (4.3.3): each is taken once, however
//! often its PUBLISH comes, also over another connection and after a restart (`rules.md` 1.4).
//!
//! ```text
//! PUBLISH  ─▸ record and identifier in one commit ─▸ PUBREC when it is durable
//! PUBLISH again: PUBREC when that commit is durable, nothing else
//! PUBREL   ─▸ the identifier goes with a commit ─▸ PUBCOMP when it is durable
//! ```
//!
//! Of a session that ends with its connection nothing is written: what a client may send again ends
//! with it.
//!
//! Invariant: an identifier is known from the moment its message is on its way to flash until its
//! release is.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::server::{PublishTicket, ReleaseTicket};
use mqtt::{Message, PacketId, QoS, ReasonCode};
use storage::{CommitNumber, JournalKey, JournalKind};

use crate::budget::{Budget, Share};
use crate::client::Client;
use crate::rare::Rare;
use crate::router::Router;
use crate::session::{Session, SessionState};
use crate::session_keeping::AfterCommit;

/// Messages of one client that it did not release. Its Receive Maximum bounds those of one
/// connection; a client that breaks off and leaves ever more of them behind is refused here.
const UNRELEASED_MAX: usize = 4_096;

/// What all of them may cost in all sessions together, in the journal and in memory.
const UNRELEASED_BYTES_MAX: usize = 4 << 20;

/// What one costs beside the client identifier in its key.
const ENTRY_BYTES: usize = 64;

/// How long an entry that nobody waits for may wait for a commit of others.
const WITHIN: Duration = Duration::from_secs(1);

/// What stands under [`received_key`]: a version, and nothing else.
pub(crate) const RECEIVED: &[u8] = &[1];

/// For the unreleased messages of all sessions.
pub(crate) fn unreleased_budget() -> Budget {
    Budget::new(UNRELEASED_BYTES_MAX)
}

/// Packet identifiers of messages that were not released.
#[derive(Debug)]
pub(crate) struct Received {
    taken: Rare<BTreeMap<PacketId, Taken>>,
    share: Share,
    entry_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    /// The commit with which the message is durable.
    commit: CommitNumber,
    /// There is a journal entry.
    is_written: bool,
    /// It was released, which is durable with this commit.
    released: Option<CommitNumber>,
}

impl Received {
    /// None yet, of this client.
    pub(crate) fn new(client_id: &str, unreleased: &Budget) -> Self {
        Self {
            taken: Rare::default(),
            share: unreleased.share(),
            entry_bytes: client_id.len() + ENTRY_BYTES,
        }
    }

    pub(crate) fn get(&self, packet_id: PacketId) -> Option<CommitNumber> {
        let taken = self.taken.get(&packet_id)?;
        taken.released.is_none().then_some(taken.commit)
    }

    pub(crate) fn insert(&mut self, packet_id: PacketId, commit: CommitNumber, is_written: bool) {
        let taken = Taken {
            commit,
            is_written,
            released: None,
        };
        self.taken.insert(packet_id, taken);
        self.weigh();
    }

    fn remove(&mut self, packet_id: PacketId) {
        self.taken.remove(&packet_id);
        self.weigh();
    }

    /// Forgets those whose release is durable.
    pub(crate) fn forget_released(&mut self, durable: CommitNumber) {
        let is_over = |taken: &Taken| taken.released.is_some_and(|commit| commit <= durable);
        self.taken.retain(|_, taken| !is_over(taken));
        self.weigh();
    }

    /// Whether one more is too many, for this session or for all.
    pub(crate) fn is_full(&self) -> bool {
        self.taken.len() >= UNRELEASED_MAX || self.share.budget().free() == 0
    }

    /// Those that are on flash.
    fn written(&self) -> impl Iterator<Item = PacketId> {
        let written = self.taken.iter().filter(|(_, taken)| taken.is_written);
        written.map(|(id, _)| *id)
    }

    fn weigh(&mut self) {
        self.share.set(self.taken.len() * self.entry_bytes);
        self.taken.trim();
    }

    fn clear(&mut self) {
        self.taken.free();
        self.weigh();
    }
}

/// The journal entry that says that a message with this identifier was taken.
pub(crate) fn received_key(state: &SessionState, packet_id: PacketId) -> JournalKey {
    let id = packet_id.get().to_be_bytes();
    let rest = [state.client_id().as_bytes(), &id].concat();
    JournalKey::new(JournalKind::Received, &rest)
}

/// The client and the packet identifier of such an entry.
pub(crate) fn client_and_id(key: &JournalKey) -> Option<(&[u8], PacketId)> {
    let (client_id, id) = key.rest().split_last_chunk::<2>()?;
    Some((client_id, PacketId::new(u16::from_be_bytes(*id))?))
}

impl Session {
    /// Whether this PUBLISH brings a message that was taken before.
    pub(crate) fn has_received(&self, packet_id: Option<PacketId>, message: &Message) -> bool {
        let packet_id = packet_id.filter(|_| message.qos == QoS::ExactlyOnce);
        packet_id.is_some_and(|id| self.state.received.borrow().get(id).is_some())
    }
}

impl Router {
    /// A message of QoS 2 was taken that went to no log, and must not be taken again.
    pub(crate) fn note_received(&self, session: &Session, packet_id: Option<PacketId>) {
        let state = &session.state;
        let mut received = state.received.borrow_mut();
        let Some(packet_id) = packet_id.filter(|id| received.get(*id).is_none()) else {
            return;
        };
        let store = self
            .store
            .as_ref()
            .filter(|_| state.outlives_its_connection());
        received.insert(packet_id, CommitNumber(0), store.is_some());
        // Nobody waits for it: what is in no log does not outlive a crash either.
        if let Some(store) = store {
            let (key, value) = (received_key(state, packet_id), RECEIVED.to_vec());
            let put = store.put_journal_entry(key, Some(value), WITHIN);
            if let Err(error) = put {
                tracing::debug!(%error, "Received message is not written down.");
            }
        }
    }

    /// A PUBLISH of QoS 2 whose message was taken before: it is acknowledged when that is durable.
    /// `false` if it is not known.
    pub(crate) fn is_received_again(
        &self,
        now: Instant,
        session: &Rc<Session>,
        packet_id: PacketId,
        ticket: PublishTicket,
    ) -> bool {
        let known = session.state.received.borrow().get(packet_id);
        let Some(commit) = known else {
            return false;
        };
        let connection = Rc::clone(&session.connection);
        self.when_durable(now, commit, AfterCommit::Received(connection, ticket));
        true
    }

    /// Forgets all of an ended session, on flash, too.
    pub(crate) fn forget_received(&self, state: &SessionState) {
        let Some(store) = &self.store else {
            return;
        };
        let mut received = state.received.borrow_mut();
        let removals: Vec<_> = received
            .written()
            .map(|id| (received_key(state, id), None))
            .collect();
        received.clear();
        if !removals.is_empty() {
            let put = store.put_journal_entries(removals, WITHIN);
            if let Err(error) = put {
                tracing::debug!(%error, "Received messages are not forgotten.");
            }
        }
    }
}

impl Client {
    /// The client releases a message (PUBREL).
    pub(crate) fn handle_release(&mut self, now: Instant, ticket: ReleaseTicket, id: PacketId) {
        let Some(session) = self.session().filter(|session| !session.has_ended.get()) else {
            return;
        };
        let state = &session.state;
        let mut received = state.received.borrow_mut();
        let durable = self.router.durable();
        received.forget_released(durable);
        let taken = received.taken.get(&id).copied();
        let code = match taken {
            Some(_) => ReasonCode::Success,
            None => ReasonCode::PacketIdentifierNotFound,
        };
        let then = AfterCommit::Released(Rc::clone(&self.connection), ticket, code);
        let store = self.router.store.as_ref();
        let commit = match (taken, store) {
            // It came before, and the answer to it goes with the same commit.
            (
                Some(Taken {
                    released: Some(commit),
                    ..
                }),
                _,
            ) => Ok(commit),
            (
                Some(Taken {
                    is_written: true, ..
                }),
                Some(store),
            ) => store.put_journal_entry(received_key(state, id), None, Duration::ZERO),
            _ => Ok(CommitNumber(0)),
        };
        let commit = match commit {
            Ok(commit) => commit,
            // The broker is about to end; the client sends it again.
            Err(error) => return tracing::debug!(%error, "Message is not released."),
        };
        match received.taken.get_mut(&id) {
            Some(taken) if commit > durable => taken.released = Some(commit),
            _ => received.remove(id),
        }
        drop(received);
        self.router.when_durable(now, commit, then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailboxes::Waiting;
    use crate::outbound::Outbound;
    use crate::session::Lifetime;

    #[test]
    fn key_says_client_and_identifier() {
        let outbound = Outbound::new(CommitNumber(0), Waiting::alone(1));
        let all = unreleased_budget();
        let state = SessionState::new("client", Lifetime::Unlimited, outbound, &all);
        let id = PacketId::new(0x1234).unwrap();
        let key = received_key(&state, id);
        assert_eq!(key.rest(), b"client\x12\x34");
        assert_eq!(client_and_id(&key), Some((b"client".as_slice(), id)));
        let short = JournalKey::new(JournalKind::Received, b"x");
        assert_eq!(client_and_id(&short), None);
    }

    #[test]
    fn identifier_is_known_until_it_is_released() {
        let all = unreleased_budget();
        let mut received = Received::new("client", &all);
        let id = PacketId::MIN;
        received.insert(id, CommitNumber(7), true);
        assert_eq!(received.get(id), Some(CommitNumber(7)));
        assert_eq!(received.written().collect::<Vec<_>>(), [id]);
        received.remove(id);
        assert_eq!(received.get(id), None);
        received.insert(id, CommitNumber(7), true);
        if let Some(taken) = received.taken.get_mut(&id) {
            taken.released = Some(CommitNumber(9));
        }
        assert_eq!(
            received.get(id),
            None,
            "the next message with it is a new one"
        );
        received.forget_released(CommitNumber(8));
        assert_eq!(received.taken.len(), 1);
        received.forget_released(CommitNumber(9));
        assert_eq!(received.taken.len(), 0);
    }

    #[test]
    fn unreleased_messages_of_all_sessions_have_one_bound() {
        let all = unreleased_budget();
        let long = "x".repeat(1_000);
        let mut sessions: Vec<_> = (0..100).map(|_| Received::new(&long, &all)).collect();
        let ids: Vec<_> = (1..=4_095).filter_map(PacketId::new).collect();
        let mut count = 0;
        'full: for received in &mut sessions {
            for id in &ids {
                if received.is_full() {
                    break 'full;
                }
                received.insert(*id, CommitNumber(1), true);
                count += 1;
            }
        }
        assert_eq!(count, UNRELEASED_BYTES_MAX.div_ceil(1_000 + ENTRY_BYTES));
        assert!(sessions.iter().all(Received::is_full));
        sessions.remove(0);
        assert!(!sessions.iter().any(Received::is_full));
        drop(sessions);
        assert_eq!(all.taken(), 0);
    }
}
