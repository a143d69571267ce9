//! Numbers that name something within a connection or session: none of them is ever zero.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use crate::codec::VARIABLE_BYTE_INTEGER_MAX;

/// Largest subscription identifier (MQTT 5, 3.8.2.1.2).
pub const SUBSCRIPTION_IDENTIFIER_MAX: u32 = VARIABLE_BYTE_INTEGER_MAX;

/// Binds an acknowledgement to the packet that it answers (MQTT 5, 2.2.1). Client and server
/// assign theirs independently.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The first identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);

    /// `None` for 0.
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The identifier after this one; after 65,535 comes 1.
    #[must_use]
    pub const fn successor(self) -> Self {
        match Self::new(self.get().wrapping_add(1)) {
            Some(next) => next,
            None => Self::MIN,
        }
    }
}

/// Stands for a topic name within one direction of a connection (MQTT 5, 3.3.2.3.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicAlias(NonZeroU16);

impl TopicAlias {
    /// `None` for 0.
    pub fn new(alias: u16) -> Option<Self> {
        NonZeroU16::new(alias).map(Self)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// Comes back with every message that a subscription matched (MQTT 5, 3.8.2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionIdentifier(NonZeroU32);

impl SubscriptionIdentifier {
    /// `None` for 0 and above [`SUBSCRIPTION_IDENTIFIER_MAX`].
    pub fn new(identifier: u32) -> Option<Self> {
        NonZeroU32::new(identifier)
            .filter(|identifier| identifier.get() <= SUBSCRIPTION_IDENTIFIER_MAX)
            .map(Self)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

macro_rules! shown_as_number {
    ($($name:ident),+) => {
        $(
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!(stringify!($name), "({})"), self.get())
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(&self.get(), f)
                }
            }
        )+
    };
}

shown_as_number!(PacketId, TopicAlias, SubscriptionIdentifier);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_follow_each_other_around_zero() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::MIN.successor(), PacketId::new(2).unwrap());
        assert_eq!(PacketId::new(65_535).unwrap().successor(), PacketId::MIN);
    }

    #[test]
    fn subscription_identifiers_fit_a_variable_byte_integer() {
        assert_eq!(SubscriptionIdentifier::new(0), None);
        assert!(SubscriptionIdentifier::new(268_435_455).is_some());
        assert_eq!(SubscriptionIdentifier::new(268_435_456), None);
    }
}
