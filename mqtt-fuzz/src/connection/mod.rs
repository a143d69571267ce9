//! Any operations on the server's state machine: it does not panic, keeps its bounds, and does what
//! a model of the standard says: the same events, the same answers in the same
//! order, and the same end.
//!
//! How an input is read: [`operation`].

mod answers;
mod bounds;
mod client_packets;
mod deliveries;
mod expected;
mod handshake;
mod harness;
mod inbound;
mod messages;
mod model;
pub mod operation;
mod terms;

use self::harness::Harness;
use crate::seen::Seen;

/// Runs the operations of an input. Panics when something does not hold.
pub fn run(input: &[u8], seen: &mut Seen) {
    let (options, operations) = operation::split(input);
    let mut harness = Harness::new(options, seen);
    for operation in operations {
        harness.run(operation);
        harness.check();
    }
    harness.finish();
}
