//! Persistent sessions of the product as its clients see them: away, back, slow, killed under.
//!
//! The clients keep their sessions as the standard says ([`crate::mqtt::kept`]) and look at every
//! packet; what each of them must get is known from what was published. A seed gives the same messages
//! and the same steps; what the process was doing at a kill is up to the machine.

mod books;
mod device;
pub mod kill;
pub mod latency;
mod load;
pub mod many;
pub mod random;
pub mod rare;
pub mod slow;
mod stage;
mod verdict;
mod world;
