//! Quality of Service levels (MQTT 5, 4.3).

use std::fmt;

/// How hard sender and receiver try to deliver a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, acknowledged by nothing.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged by PUBACK; may arrive twice.
    AtLeastOnce = 1,
    /// QoS 2: PUBREC, PUBREL, PUBCOMP; arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level that two bits stand for, `None` for the reserved value 3.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QoS {}", *self as u8)
    }
}

/// The value of the Maximum QoS property (MQTT 5, 3.2.2.3.4), which cannot say 2: a server that
/// serves QoS 2 leaves the property out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MaximumQos {
    /// Only QoS 0 is served.
    AtMostOnce = 0,
    /// QoS 0 and 1 are served.
    AtLeastOnce = 1,
}

impl MaximumQos {
    /// The property that says that this level is the highest; `None` for QoS 2, which is said by
    /// leaving it out.
    pub const fn of(level: QoS) -> Option<Self> {
        match level {
            QoS::AtMostOnce => Some(Self::AtMostOnce),
            QoS::AtLeastOnce => Some(Self::AtLeastOnce),
            QoS::ExactlyOnce => None,
        }
    }

    /// The property's value as a level.
    pub const fn level(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce => QoS::AtLeastOnce,
        }
    }

    /// The level to grant to a subscription that asks for `requested`.
    #[must_use]
    pub fn grant(self, requested: QoS) -> QoS {
        requested.min(self.level())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_the_smaller_of_requested_and_served() {
        assert_eq!(
            MaximumQos::AtLeastOnce.grant(QoS::ExactlyOnce),
            QoS::AtLeastOnce
        );
        assert_eq!(
            MaximumQos::AtLeastOnce.grant(QoS::AtMostOnce),
            QoS::AtMostOnce
        );
        assert_eq!(
            MaximumQos::AtMostOnce.grant(QoS::AtLeastOnce),
            QoS::AtMostOnce
        );
    }
}
