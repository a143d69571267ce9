//! What a connection's task and the router share of it: the protocol's state machine and the way
//! to wake the task.
//!
//! Invariant: the state machine is borrowed for one call only, never while a message is routed:
//! routing may come back to the same connection.

use std::cell::{Cell, RefCell};
use std::fmt;

use mqtt::server::{Connection as StateMachine, Reason};

use crate::budget::Budget;
use crate::mailboxes::Transmitting;
use crate::signal::Signal;

/// A connection, counted from the start of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) machine: RefCell<StateMachine>,
    pub(crate) signal: Signal,
    transmitting: RefCell<Transmitting>,
    /// It stands in the list of those that try again after the next commit.
    pub(crate) awaits_commit: Cell<bool>,
    /// The broker ended it: what the client sent last is not waited for.
    is_cut: Cell<bool>,
    /// Because a publish was refused that its client cannot be told about in another way.
    is_refused: Cell<bool>,
}

impl Connection {
    /// `mailboxes`: what waits for all clients.
    pub(crate) fn new(id: ConnectionId, machine: StateMachine, mailboxes: &Budget) -> Self {
        Self {
            id,
            machine: RefCell::new(machine),
            signal: Signal::default(),
            transmitting: RefCell::new(Transmitting::new(mailboxes)),
            awaits_commit: Cell::new(false),
            is_cut: Cell::new(false),
            is_refused: Cell::new(false),
        }
    }

    /// Bytes were added to the transmit buffer, or taken from it.
    pub(crate) fn weigh(&self) {
        let bytes = self.machine.borrow().transmit_bytes();
        self.transmitting.borrow_mut().set(bytes);
    }

    /// Whether a packet of this size may be added to the transmit buffer, in which so many bytes wait.
    pub(crate) fn has_room(&self, waiting: usize, packet: usize, bytes_max: usize) -> bool {
        let transmitting = self.transmitting.borrow();
        transmitting.fits(waiting, packet, bytes_max)
    }

    /// Ends it; its task does the rest.
    pub(crate) fn disconnect(&self, reason: impl Into<Reason>) {
        self.is_cut.set(true);
        self.machine.borrow_mut().disconnect(reason);
        self.signal.notify();
    }

    /// Ends it because a publish is refused.
    pub(crate) fn refuse(&self, reason: impl Into<Reason>) {
        let is_open = !self.machine.borrow().is_closed();
        self.is_refused.set(is_open);
        self.disconnect(reason);
    }

    /// Whether [`refuse`](Self::refuse) ended it.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// Whether [`disconnect`](Self::disconnect) was called.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }
}
